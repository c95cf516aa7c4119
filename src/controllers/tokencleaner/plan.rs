//! When a token goes.

use crate::control::{Plan, Write};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;
use std::time::Duration;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub token: Arc<Secret>,
    pub now: Timestamp,
}

/// Deletes a token whose time has come; one without an end stays. An end that cannot be read has
/// passed: nobody is let in by it either (upstream `GetExpiration`, cluster-bootstrap
/// token/util/secrets).
pub fn plan(observed: &Observed) -> Plan {
    let Observed { token, now } = observed;
    let expiration = token.data.as_ref().and_then(|data| data.get("expiration"));
    let Some(expiration) = expiration.filter(|text| !text.0.is_empty()) else {
        return Plan::default();
    };
    if token.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let end = std::str::from_utf8(&expiration.0).ok().and_then(|text| text.parse().ok());
    let left = end.map(|end: Timestamp| end.duration_since(*now));
    match left.and_then(|left| Duration::try_from(left).ok()).filter(|left| !left.is_zero()) {
        Some(left) => Plan { recheck_after: Some(left), ..Plan::default() },
        None => Plan::of([Write::delete(&**token)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use serde_json::json;

    #[track_caller]
    fn check(expiration: Option<&str>, expected: &str) {
        let mut token: Secret = serde_json::from_value(json!({
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system", "uid": "U"},
            "type": "bootstrap.kubernetes.io/token",
        }))
        .unwrap();
        let expiration = expiration.map(|text| ByteString(text.as_bytes().to_vec()));
        token.data =
            Some(expiration.map(|text| ("expiration".to_owned(), text)).into_iter().collect());
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let plan = plan(&Observed { token: Arc::new(token.clone()), now });
        let told = match (plan.writes().next(), plan.recheck_after) {
            (Some(Write::Delete { options, .. }), None) => {
                format!("delete {}", options.uid.clone().unwrap())
            }
            (None, Some(after)) => format!("again in {}", after.as_secs()),
            (None, None) => "nothing".to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
        token.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        let plan = super::plan(&Observed { token: Arc::new(token), now });
        assert_eq!((plan.writes().count(), plan.recheck_after), (0, None));
    }

    #[test]
    fn tokens_go_at_their_end() {
        check(None, "nothing");
        check(Some(""), "nothing");
        check(Some("2026-11-20T12:00:30Z"), "again in 30");
        check(Some("2026-11-20T13:00:30+01:00"), "again in 30");
        check(Some("2026-11-20T12:00:00Z"), "delete U");
        check(Some("2026-11-19T12:00:00Z"), "delete U");
        check(Some("soon"), "delete U");
    }
}
