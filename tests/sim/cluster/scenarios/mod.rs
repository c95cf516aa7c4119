//! What happens in clusters.

mod autoscaling;
mod budgets;
mod clocks;
mod collection;
mod cronjobs;
mod nodes;
mod quota;
mod replay;
mod restarts;
mod volumes;

use super::Cluster;
use super::audit::{self, Objects, is_going, is_ready, list, text};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A workload of `apps/v1` in the namespace `default`, whose pods ask for a tenth of a processor.
fn workload(kind: &str, name: &str, replicas: usize, more: &Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec("i")}}});
    json_patch::merge(&mut object["spec"], more);
    object
}

fn pod_spec(image: &str) -> Value {
    let leaves = |key: &str| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 20})
    };
    json!({"terminationGracePeriodSeconds": 5,
        "tolerations": [leaves("not-ready"), leaves("unreachable")],
        "containers": [{"name": "c", "image": image, "resources": {"requests": {"cpu": "100m"}}}]})
}

fn pods_of(objects: &Objects, app: &str) -> Vec<Value> {
    let pods = list(objects, "core/pods").filter(|pod| text(pod, "/metadata/labels/app") == app);
    pods.cloned().collect()
}

impl Cluster {
    /// Adds a workload.
    async fn run(&self, kind: &str, name: &str, replicas: usize, more: Value) {
        let path = format!("/apis/apps/v1/namespaces/default/{}s", kind.to_lowercase());
        self.create(&path, workload(kind, name, replicas, &more)).await;
    }

    /// At rest, so many pods of an app are there, and all are ready.
    #[track_caller]
    fn has_ready(&self, app: &str, count: usize) {
        let pods = pods_of(&self.objects(), app);
        let ready = pods.iter().filter(|pod| is_ready(pod) && !is_going(pod)).count();
        let names: Vec<&str> = pods.iter().map(audit::name).collect();
        if (pods.len(), ready) != (count, count) {
            self.fail(&format!("of {count} pods of {app}, {ready} are ready: {names:?}"));
        }
    }
}
