//! What a kubelet says is used, as `NodeMetrics` and `PodMetrics` (k8s.io/metrics
//! pkg/apis/metrics/v1beta1/types.go, v1.35). Pure.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a rate is of, where the kubelet does not say: upstream's look every ten seconds.
const WINDOW_SECONDS: f64 = 10.0;

/// What of a kubelet's summary counts here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Summary {
    node: Consumer,
    #[serde(default)]
    pods: Vec<PodSummary>,
}

#[derive(Clone, Debug, Deserialize)]
struct PodSummary {
    #[serde(rename = "podRef")]
    pod: PodReference,
    #[serde(default)]
    containers: Vec<Consumer>,
}

#[derive(Clone, Debug, Deserialize)]
struct PodReference {
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Consumer {
    #[serde(default)]
    name: String,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    time: String,
    usage_nano_cores: Option<u64>,
    window_seconds: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

/// A node or a pod, as far as its metrics say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    uid: String,
    labels: BTreeMap<String, String>,
    /// Of a pod: where it is.
    pub(super) node: String,
    pub(super) is_running: bool,
}

impl Seen {
    /// What cannot be read is as good as empty: it has no metrics.
    pub(super) fn read(namespace: Option<&str>, name: &str, stored: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Stored {
            metadata: Metadata,
            spec: Spec,
            status: PodStatus,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Metadata {
            uid: String,
            labels: BTreeMap<String, String>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Spec {
            node_name: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct PodStatus {
            phase: String,
        }
        let Stored { metadata, spec, status } = serde_json::from_slice(stored).unwrap_or_default();
        Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            uid: metadata.uid,
            labels: metadata.labels,
            node: spec.node_name,
            is_running: status.phase == "Running",
        }
    }

    fn metadata(&self, time: &str) -> Value {
        let mut metadata = json!({ "name": self.name, "creationTimestamp": time });
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        if !self.labels.is_empty() {
            metadata["labels"] = json!(self.labels);
        }
        metadata
    }
}

/// `None` where nothing is known yet.
pub(super) fn node(node: &Seen, summary: &Summary) -> Option<Value> {
    let used = Used::of(&summary.node)?;
    Some(json!({
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": node.metadata(&used.time),
        "timestamp": used.time,
        "window": window(used.window_seconds),
        "usage": used.usage(),
    }))
}

/// `None` where the kubelet does not know the pod, or not all of it yet.
pub(super) fn pod(pod: &Seen, summary: &Summary) -> Option<Value> {
    let found = summary.pods.iter().find(|found| found.pod.uid == pod.uid)?;
    let used: Option<Vec<_>> = found.containers.iter().map(Used::of).collect();
    let used = used.filter(|used| !used.is_empty())?;
    let named = found.containers.iter().zip(&used);
    let containers: Vec<_> = named
        .map(|(container, used)| json!({ "name": container.name, "usage": used.usage() }))
        .collect();
    // The oldest that any of it is, and the shortest that it is of.
    let time = used.iter().map(|used| used.time.as_str()).min()?;
    let seconds = used.iter().map(|used| used.window_seconds).fold(f64::INFINITY, f64::min);
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": pod.metadata(time),
        "timestamp": time,
        "window": window(seconds),
        "containers": containers,
    }))
}

struct Used {
    time: String,
    window_seconds: f64,
    nanocores: u64,
    memory_bytes: u64,
}

impl Used {
    fn of(consumer: &Consumer) -> Option<Self> {
        let cpu = consumer.cpu.as_ref()?;
        Some(Self {
            time: whole_seconds(&cpu.time),
            window_seconds: cpu.window_seconds.unwrap_or(WINDOW_SECONDS),
            nanocores: cpu.usage_nano_cores?,
            memory_bytes: consumer.memory.as_ref()?.working_set_bytes?,
        })
    }

    fn usage(&self) -> Value {
        json!({
            "cpu": format!("{}n", self.nanocores),
            "memory": format!("{}Ki", self.memory_bytes >> 10),
        })
    }
}

/// Times of the API have no fractions of seconds.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

fn window(seconds: f64) -> String {
    format!("{}s", (seconds * 1_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let cpu = |cores: u64, window: f64| json!({ "time": "2026-01-01T00:00:05.5Z", "usageNanoCores": cores, "windowSeconds": window });
        let memory = json!({ "workingSetBytes": 3_072 });
        let value = json!({
            "node": { "nodeName": "one", "cpu": cpu(1_500_000, 12.5), "memory": memory },
            "pods": [
                { "podRef": { "uid": "u1" }, "containers": [
                    { "name": "a", "cpu": cpu(10, 15.0), "memory": memory },
                    { "name": "b", "cpu": cpu(20, 1.25), "memory": memory },
                ]},
                { "podRef": { "uid": "u2" }, "containers": [
                    { "name": "a", "cpu": { "time": "2026-01-01T00:00:05Z" }, "memory": memory },
                ]},
            ],
        });
        serde_json::from_value(value).unwrap()
    }

    fn seen(uid: &str) -> Seen {
        let stored = json!({
            "metadata": { "uid": uid, "labels": { "app": "web" } },
            "spec": { "nodeName": "one" }, "status": { "phase": "Running" },
        });
        Seen::read(Some("default"), "web", stored.to_string().as_bytes())
    }

    #[test]
    fn a_node_is_told_in_quantities() {
        let metrics =
            node(&Seen { name: "one".to_owned(), ..Seen::default() }, &summary()).unwrap();
        assert_eq!(metrics["usage"], json!({ "cpu": "1500000n", "memory": "3Ki" }));
        assert_eq!(
            (&metrics["window"], &metrics["timestamp"]),
            (&json!("12.5s"), &json!("2026-01-01T00:00:05Z"))
        );
    }

    #[test]
    fn a_pod_is_told_by_its_containers() {
        let metrics = pod(&seen("u1"), &summary()).unwrap();
        let shown = metrics["containers"].as_array().unwrap();
        assert_eq!((&shown[1]["name"], &shown[1]["usage"]["cpu"]), (&json!("b"), &json!("20n")));
        assert_eq!(metrics["window"], "1.25s");
        assert_eq!(metrics["metadata"]["labels"], json!({ "app": "web" }));
        assert_eq!(metrics["metadata"]["namespace"], "default");
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        assert_eq!(pod(&seen("u2"), &summary()), None, "there is no rate yet");
        assert_eq!(pod(&seen("u3"), &summary()), None);
        assert_eq!(Seen::read(None, "x", b"rubbish").name, "x");
    }
}
