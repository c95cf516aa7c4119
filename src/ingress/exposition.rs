//! What Prometheus reads of the proxy. Pure.

use super::tally::{Counts, RouteName};
use crate::stdx::exposition::{Exposition, Labels, count, counter, gauge, whole};

/// `routes`: what was counted. `connections`: how many there are, and how many had to go for others.
pub(super) fn render(routes: &[(RouteName, Counts)], connections: (usize, u64)) -> String {
    let names: Vec<_> = routes.iter().map(|(name, _)| Names::of(name)).collect();
    let each = || names.iter().zip(routes.iter().map(|(_, counts)| counts));
    let mut all = Exposition::default();
    let codes: Vec<Vec<(String, f64)>> = each()
        .map(|(_, counts)| {
            let code = |(code, count): (&u16, &u64)| (code.to_string(), whole(*count));
            counts.answers.iter().map(code).collect()
        })
        .collect();
    let answers = names.iter().zip(&codes).flat_map(|(names, codes)| {
        let labels = |code| [names.labels(), vec![("code", code)]].concat();
        codes.iter().map(move |(code, count)| (labels(code.as_str()), *count))
    });
    all.family(
        counter("kinglet_ingress_requests_total", "Requests answered, by Ingress and backend."),
        answers.collect(),
    );
    let durations: Vec<_> = each()
        .filter(|(_, counts)| counts.durations.count() > 0)
        .map(|(names, counts)| (names.labels(), counts.durations))
        .collect();
    all.durations(
        "kinglet_ingress_request_duration_seconds",
        "From a request's head to the last byte of its answer.",
        &durations,
    );
    let mut counted = |name, help, value: fn(&Counts) -> u64| {
        let some = each().map(|(names, counts)| (names.labels(), whole(value(counts))));
        all.family(counter(name, help), some.collect());
    };
    counted("kinglet_ingress_response_bytes_total", "Bytes of answers' bodies.", |counts| {
        counts.sent_bytes
    });
    counted(
        "kinglet_ingress_responses_broken_total",
        "Answers that ended before they were whole.",
        |counts| counts.broken,
    );
    counted(
        "kinglet_ingress_endpoint_connect_failures_total",
        "Endpoints that accepted no connection.",
        |counts| counts.unreachable,
    );
    counted(
        "kinglet_ingress_requests_repeated_total",
        "Requests sent again because a kept connection was closed.",
        |counts| counts.repeated,
    );
    let (open, left) = connections;
    all.one(gauge("kinglet_ingress_connections", "Connections of clients."), count(open));
    all.one(
        counter(
            "kinglet_ingress_connections_crowded_out_total",
            "Connections of idle clients that were closed to make room for others.",
        ),
        whole(left),
    );
    all.finish()
}

/// What a route is called in labels.
#[derive(Default)]
struct Names<'a> {
    namespace: &'a str,
    ingress: &'a str,
    service: &'a str,
    port: &'a str,
}

impl<'a> Names<'a> {
    fn of(name: &'a RouteName) -> Self {
        let source = name.source.as_ref();
        let backend = name.backend.as_ref();
        Self {
            namespace: source.and_then(|key| key.namespace.as_deref()).unwrap_or_default(),
            ingress: source.map_or("", |key| &key.name),
            service: backend.map_or("", |id| &id.service.name),
            port: backend.map_or("", |id| &id.port),
        }
    }

    fn labels(&self) -> Labels<'_> {
        vec![
            ("namespace", self.namespace),
            ("ingress", self.ingress),
            ("service", self.service),
            ("port", self.port),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;
    use crate::ingress::model::BackendId;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn requests_are_counted_by_ingress_and_backend() {
        let service = ObjectKey::namespaced("n", "s");
        let name = RouteName {
            source: Some(ObjectKey::namespaced("n", "i")),
            backend: Some(BackendId { service, port: "http".to_owned() }),
        };
        let answers = BTreeMap::from([(200, 3), (502, 1)]);
        let mut counts = Counts { answers, sent_bytes: 7, ..Counts::default() };
        counts.durations.note(Duration::from_millis(7));
        let text = render(&[(name, counts)], (2, 0));
        let labels = "namespace=\"n\",ingress=\"i\",service=\"s\",port=\"http\"";
        for line in [
            format!("kinglet_ingress_requests_total{{{labels},code=\"200\"}} 3"),
            format!("kinglet_ingress_requests_total{{{labels},code=\"502\"}} 1"),
            format!("kinglet_ingress_request_duration_seconds_bucket{{{labels},le=\"0.01\"}} 1"),
            format!("kinglet_ingress_response_bytes_total{{{labels}}} 7"),
            "kinglet_ingress_connections 2".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
