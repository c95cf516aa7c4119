//! The role of a server's node, as `kubectl get nodes` shows it. A kubelet may not say it of itself
//! (NodeRestriction), so that the server does.

use crate::api::ObjectKey;
use crate::client::{Cache, Client, Patch, Selection};
use crate::stdx::{Backoff, Tasks, chain};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

/// As k3s and kubeadm say it.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Keeps the role of `node`, whenever its object comes anew or somebody has taken the role away.
pub(super) fn keep(node: String, client: Client, tasks: &mut Tasks) {
    let selection = Selection::fields(format!("metadata.name={node}"));
    let nodes: Arc<Cache<Node>> = Cache::start_unawaited(client.clone(), selection, tasks);
    let changed = watch::Sender::new(());
    let mut changes = changed.subscribe();
    nodes.on_change(move |change| {
        if change.new.as_deref().is_some_and(lacks_role) {
            changed.send_replace(());
        }
    });
    let shutdown = tasks.shutdown();
    tasks.spawn("node-role", async move {
        let key = ObjectKey::cluster(node);
        let keep = async {
            let mut failures = 0;
            while changes.changed().await.is_ok() {
                let role = json!({"metadata": {"labels": {CONTROL_PLANE: "true"}}});
                while nodes.get(&key).as_deref().is_some_and(lacks_role) {
                    let said: Result<Node, _> =
                        client.patch(&key, &Patch::Merge(role.clone()), None).await;
                    match said {
                        Ok(_node) => break,
                        Err(error) => {
                            failures += 1;
                            debug!(error = chain(&error), "the node's role is not said yet");
                            tokio::time::sleep(RETRY.delay(failures)).await;
                        }
                    }
                }
                failures = 0;
            }
        };
        shutdown.run_until_cancelled(keep).await;
        shutdown.cancelled().await;
    });
}

fn lacks_role(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    !labels.is_some_and(|labels| labels.contains_key(CONTROL_PLANE))
}
