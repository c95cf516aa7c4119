//! The machines of a cluster with what runs on them, whether or not anybody can reach them.

use super::audit::{self, Objects, is_going, is_over, list, text, uid};
use crate::random::Random;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kinglet::api::ObjectKey;
use kinglet::client::{Client, ClientError, DeleteOptions, Patch};
use kinglet::stdx::Clock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Upstream's kubelet renews its lease this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Pods of this image end well once they have run.
pub(crate) const ENDS: &str = "ends";

/// A machine with a kubelet.
pub(crate) struct Machine {
    pub(crate) name: String,
    client: Client,
    clock: Clock,
    pub(crate) is_on: bool,
    /// It reaches nobody, and what runs on it goes on.
    pub(crate) is_cut: bool,
    heartbeat_due: Instant,
    /// The uids of the pods whose processes run, by `namespace/name`.
    pub(crate) running: BTreeMap<String, String>,
}

impl Machine {
    pub(crate) fn new(name: &str, client: Client, clock: Clock) -> Self {
        let name = name.to_owned();
        let heartbeat_due = Instant::now();
        let running = BTreeMap::new();
        Self { name, client, clock, is_on: true, is_cut: false, heartbeat_due, running }
    }

    pub(crate) fn turn_off(&mut self) {
        self.is_on = false;
        self.running.clear();
    }

    fn is_reachable(&self) -> bool {
        self.is_on && !self.is_cut
    }

    /// Says that it lives, where that is due, and how it is.
    pub(crate) async fn heartbeat(&mut self, objects: &Objects) {
        if !self.is_reachable() || self.heartbeat_due > Instant::now() {
            return;
        }
        let Some(node) = objects.get(&format!("/core/nodes/{}", self.name)) else { return };
        self.heartbeat_due = Instant::now() + HEARTBEAT;
        let now = self.clock.now();
        let key = ObjectKey::namespaced("kube-node-lease", &*self.name);
        let renewed = Patch::Merge(json!({"spec": {"renewTime": format!("{now:.6}")}}));
        if let Err(error) = self.client.patch::<Lease>(&key, &renewed, None).await {
            assert!(error.is_not_found(), "{error}");
            let lease = json!({"metadata": {"name": self.name, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40,
                    "renewTime": format!("{now:.6}")}});
            let lease: Lease = serde_json::from_value(lease).unwrap();
            self.client.create(&lease).await.unwrap();
        }
        if !audit::is_ready(node) {
            let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now});
            let key = ObjectKey::cluster(&*self.name);
            let status = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
            let written = self.client.patch::<Node>(&key, &status, Some("status")).await;
            assert!(written.is_ok() || written.is_err_and(|error| error.is_not_found()));
        }
    }

    /// Brings some of its pods a step further. Says what is wrong with what it is to run.
    pub(crate) async fn work(
        &mut self,
        objects: &Objects,
        random: &mut Random,
    ) -> Result<(), String> {
        if !self.is_reachable() {
            return Ok(());
        }
        let pods: Vec<&Value> = list(objects, "core/pods").collect();
        let known: BTreeSet<&str> = pods.iter().map(|pod| uid(pod)).collect();
        self.running.retain(|_, uid| known.contains(&**uid));
        for pod in pods {
            if text(pod, "/spec/nodeName") == self.name && random.one_in(2) {
                self.advance(pod, objects).await?;
            }
        }
        Ok(())
    }

    async fn advance(&mut self, pod: &Value, objects: &Objects) -> Result<(), String> {
        let place = place(pod);
        let key = ObjectKey::namespaced(text(pod, "/metadata/namespace"), audit::name(pod));
        let result = if is_going(pod) {
            self.running.retain(|_, running| running != uid(pod));
            let uid = Some(uid(pod).to_owned());
            let options = DeleteOptions { grace_seconds: Some(0), uid, ..DeleteOptions::default() };
            self.client.delete::<Pod>(&key, &options).await
        } else if is_over(pod) {
            Ok(())
        } else if !self.running.contains_key(&place) {
            if !has_volumes(pod, objects, &self.name)? {
                return Ok(());
            }
            self.running.insert(place, uid(pod).to_owned());
            self.tell(&key, pod, self.running_status()).await
        } else if text(pod, "/spec/containers/0/image") == ENDS {
            self.running.remove(&place);
            self.tell(&key, pod, self.ended_status()).await
        } else if !audit::is_ready(pod) {
            self.tell(&key, pod, self.running_status()).await
        } else {
            Ok(())
        };
        match result {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(format!("the kubelet of {} is told: {error}", self.name))
            }
            _ => Ok(()),
        }
    }

    async fn tell(&self, key: &ObjectKey, pod: &Value, status: Value) -> Result<(), ClientError> {
        let patch = Patch::Strategic(json!({"metadata": {"uid": uid(pod)}, "status": status}));
        self.client.patch::<Pod>(key, &patch, Some("status")).await.map(drop)
    }

    fn running_status(&self) -> Value {
        let now = self.clock.now();
        let yes = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        json!({"phase": "Running", "startTime": now,
            "conditions": [yes("Ready"), yes("ContainersReady")]})
    }

    fn ended_status(&self) -> Value {
        let now = self.clock.now();
        let no = |kind: &str| json!({"type": kind, "status": "False", "lastTransitionTime": now});
        let state = json!({"terminated": {"exitCode": 0, "finishedAt": now, "startedAt": now}});
        json!({"phase": "Succeeded", "conditions": [no("Ready"), no("ContainersReady")],
            "containerStatuses": [{"name": "c", "image": ENDS, "imageID": "", "ready": false,
                "restartCount": 0, "state": state}]})
    }
}

pub(crate) fn place(pod: &Value) -> String {
    format!("{}/{}", text(pod, "/metadata/namespace"), audit::name(pod))
}

/// Whether all claims of the pod are bound; wrong is one that is bound to what is elsewhere.
fn has_volumes(pod: &Value, objects: &Objects, node: &str) -> Result<bool, String> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let claims = volumes.filter_map(|it| it["persistentVolumeClaim"]["claimName"].as_str());
    for claim in claims {
        let namespace = text(pod, "/metadata/namespace");
        let key = format!("/core/persistentvolumeclaims/{namespace}/{claim}");
        let Some(claim) = objects.get(&key) else { return Ok(false) };
        let volume = text(claim, "/spec/volumeName");
        if text(claim, "/status/phase") != "Bound" {
            return Ok(false);
        }
        let Some(volume) = objects.get(&format!("/core/persistentvolumes/{volume}")) else {
            return Err(format!("{key} is bound to a volume that is gone"));
        };
        let affinity = volume["spec"]["nodeAffinity"].to_string();
        if !volume["spec"]["nodeAffinity"].is_null() && !affinity.contains(&format!("\"{node}\"")) {
            return Err(format!("{} is on {node}, and {key} is not: {affinity}", place(pod)));
        }
    }
    Ok(true)
}
