//! What a request to the kubelet is, as the authorizer judges it: verbs on parts of its node
//! (upstream `NodeRequestAttributes`, pkg/kubelet/server/auth.go, v1.35, with
//! `KubeletFineGrainedAuthz`). Pure.

use http::Method;

/// Everything that has no part of the node of its own.
const PROXY: &str = "proxy";

/// A request, without the node, which is always this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) verb: &'static str,
    /// The parts of the node of which any is enough, the narrowest first.
    pub(super) subresources: &'static [&'static str],
}

/// What is asked for.
pub(super) fn of(method: &Method, path: &str) -> Attributes {
    let verb = match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    let first = path.split('/').nth(1).unwrap_or_default();
    let subresources: &[&str] = match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", PROXY],
        "healthz" => &["healthz", PROXY],
        "configz" => &["configz", PROXY],
        _ => &[PROXY],
    };
    Attributes { verb, subresources }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &str, expected: &str) {
        let (method, path) = request.split_once(' ').unwrap();
        let attributes = of(&method.parse().unwrap(), path);
        let shown = format!("{} {}", attributes.verb, attributes.subresources.join(" "));
        assert_eq!(shown, expected, "{request}");
    }

    #[test]
    fn requests_are_for_parts_of_the_node() {
        check("GET /stats/summary", "get stats");
        check("GET /metrics/cadvisor", "get metrics");
        check("GET /logs/syslog", "get log");
        check("GET /pods", "get pods proxy");
        check("GET /runningpods/", "get pods proxy");
        check("GET /healthz", "get healthz proxy");
        check("POST /exec/a/b/c", "create proxy");
        check("GET /exec/a/b/c", "get proxy");
        check("GET /containerLogs/a/b/c", "get proxy");
        check("GET /statsx", "get proxy");
        check("DELETE /", "delete proxy");
        check("OPTIONS /metrics", " metrics");
    }
}
