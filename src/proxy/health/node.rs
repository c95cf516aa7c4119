//! `/healthz` and `/livez` on port 10256: load balancers ask there whether to send to this node at all.
//!
//! Start at [`NodeHealth::answer`]. Upstream: pkg/proxy/healthcheck/proxy_health.go, v1.35. It is asked
//! for Services with the external policy Cluster, which any node serves: one that is about to go says
//! no, so that no new connections come, and serves those that are there.

use super::super::tally::Tally;
use super::Progress;
use super::listen::{accept, bind, bound, not_found, verdict};
use crate::api::ObjectKey;
use crate::client::Cache;
use crate::stdx::http::Response;
use crate::stdx::{Clock, chain, monotonic};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use tracing::warn;

/// Where upstream's proxies answer, and load balancers ask.
const PORT: u16 = 10_256;

/// The cluster autoscaler says so of nodes that it is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What go prints of a time that is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// See the module.
#[derive(Debug)]
pub(in super::super) struct NodeHealth {
    pub(in super::super) node_name: String,
    pub(in super::super) nodes: Arc<Cache<Node>>,
    /// `IPv4`, `IPv6`
    pub(in super::super) families: Vec<&'static str>,
    pub(in super::super) progress: Arc<Progress>,
    pub(in super::super) tally: Arc<Tally>,
    pub(in super::super) clock: Clock,
}

/// What is known when somebody asks.
struct Known {
    is_healthy: bool,
    applied: Option<Timestamp>,
    now: Timestamp,
}

impl NodeHealth {
    /// Answers until it is dropped, as soon as the port is to be had.
    pub(in super::super) async fn serve(self) {
        let own = Arc::new(self);
        let missed = |error: &io::Error| {
            warn!(
                error = chain(error),
                "load balancers that ask on port {PORT} whether to use this node get no answer from \
                 it; `ss -ltnp sport = :{PORT}` says who has the port"
            );
        };
        let listener = bound(|| bind(PORT), missed).await;
        accept(listener, Arc::new(move |path: &str| own.answer(path))).await;
    }

    fn answer(&self, path: &str) -> Response {
        let known = Known {
            is_healthy: self.progress.is_healthy(monotonic()),
            applied: self.progress.state().applied,
            now: self.clock.now(),
        };
        let (is_good, body) = match path {
            "/livez" => (known.is_healthy, body(&known, &self.families, None)),
            "/healthz" => {
                let node = self.nodes.get(&ObjectKey::cluster(self.node_name.clone()));
                let is_eligible = is_eligible(node.as_deref());
                let body = body(&known, &self.families, Some(is_eligible));
                (known.is_healthy && is_eligible, body)
            }
            _ => return not_found(),
        };
        let response = verdict(is_good, &body);
        self.tally.answered(path == "/livez", response.status().as_u16());
        response
    }
}

/// Whether new connections may come to the node (upstream's `NodeEligible`).
fn is_eligible(node: Option<&Node>) -> bool {
    let Some(node) = node.filter(|node| node.metadata.deletion_timestamp.is_none()) else {
        return false;
    };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    !taints.iter().any(|taint| taint.key == TO_BE_DELETED)
}

/// Upstream's `ProxyHealth`. Rules of all families are changed together.
fn body(known: &Known, families: &[&str], is_eligible: Option<bool>) -> Value {
    let applied = known.applied.map_or(NEVER.to_owned(), |applied| applied.to_string());
    let is_good = known.is_healthy && is_eligible != Some(false);
    let mut body = json!({
        "lastUpdated": if is_good { known.now.to_string() } else { applied.clone() },
        "currentTime": known.now.to_string(),
        "healthy": known.is_healthy,
    });
    if let Some(is_eligible) = is_eligible {
        body["nodeEligible"] = is_eligible.into();
    }
    if known.applied.is_some() {
        for family in families {
            body["status"][*family] =
                json!({"lastUpdated": applied.clone(), "healthy": known.is_healthy});
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_about_to_go_takes_no_new_connections() {
        let check = |node: Option<Value>, expected: bool| {
            let parsed: Option<Node> =
                node.clone().map(|node| serde_json::from_value(node).unwrap());
            assert_eq!(is_eligible(parsed.as_ref()), expected, "{node:?}");
        };
        check(None, false);
        check(Some(json!({"metadata": {}})), true);
        check(Some(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), false);
        let tainted =
            |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
        check(Some(tainted("node.kubernetes.io/not-ready")), true);
        check(Some(tainted(TO_BE_DELETED)), false);
    }

    #[test]
    fn what_is_said_is_what_upstream_says() {
        let (before, now) =
            (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).expect("it is soon after"));
        let known = |is_healthy, applied| Known { is_healthy, applied, now };
        let (then, later) = ("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z");
        let both = ["IPv4", "IPv6"];
        assert_eq!(
            body(&known(true, Some(before)), &both, Some(true)),
            json!({
                "lastUpdated": later, "currentTime": later, "healthy": true, "nodeEligible": true,
                "status": {
                    "IPv4": {"lastUpdated": then, "healthy": true},
                    "IPv6": {"lastUpdated": then, "healthy": true},
                },
            })
        );
        assert_eq!(
            body(&known(true, Some(before)), &both[..1], Some(false)),
            json!({
                "lastUpdated": then, "currentTime": later, "healthy": true, "nodeEligible": false,
                "status": {"IPv4": {"lastUpdated": then, "healthy": true}},
            })
        );
        assert_eq!(
            body(&known(false, None), &both, None),
            json!({"lastUpdated": NEVER, "currentTime": later, "healthy": false})
        );
    }
}
