//! What the kubelet and the users do.

use super::*;

/// Whether there is something for a kubelet, the scheduler or the collector of pods to do.
pub(super) fn can_move(store: &Store, pod: &Value) -> bool {
    let is_broken = pod["spec"]["containers"][0]["image"] == BROKEN;
    let is_going = pod["metadata"]["deletionTimestamp"].is_string();
    match pod["spec"]["nodeName"].as_str() {
        None => is_going || wanted_node(store, pod).is_some(),
        Some(node) if store.get(Kind::Node, node).is_none() => true,
        Some(_) => {
            is_going || pod["status"]["phase"].is_null() && !is_broken && has_claims(store, pod)
        }
    }
}

/// The node that the pod is pinned to, if it is there, or any.
fn wanted_node(store: &Store, pod: &Value) -> Option<String> {
    let pinned = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/\
        nodeSelectorTerms/0/matchFields/0/values/0";
    match pod.pointer(pinned).and_then(Value::as_str) {
        Some(node) => store.get(Kind::Node, node).map(name),
        None => store.list(Kind::Node).next().map(name),
    }
}

fn has_claims(store: &Store, pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
        .all(|claim| store.get(Kind::Claim, claim).is_some())
}

impl World {
    /// One more step of a pod's life.
    pub(super) fn kubelet(&mut self, name: &str) {
        let now = self.now().to_string();
        let pod = self.store.get(Kind::Pod, name).expect("it is in the store");
        let node = pod["spec"]["nodeName"].as_str();
        let is_lost = node.is_some_and(|node| self.store.get(Kind::Node, node).is_none());
        if is_lost || pod["metadata"]["deletionTimestamp"].is_string() {
            self.store.remove(Kind::Pod, name);
        } else if node.is_none() {
            let node = wanted_node(&self.store, pod);
            self.store.edit(Kind::Pod, name, |pod| pod["spec"]["nodeName"] = json!(node));
        } else {
            self.store.edit(Kind::Pod, name, |pod| {
                pod["status"] = json!({"phase": "Running", "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": now}]});
            });
        }
    }

    pub(super) fn user(&mut self) {
        let name = *self.random.pick(&NAMES);
        let Some(change) = (!self.scenario.users_change.is_empty())
            .then(|| *self.random.pick(self.scenario.users_change))
        else {
            return;
        };
        let (number, kind) = (self.random.below(4), self.kind());
        self.story.push(format!("  {change} of {name}: {number}"));
        let image = |image: String| {
            move |object: &mut Value| {
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            }
        };
        match change {
            "template" => self.store.edit(kind, name, image(format!("v{number}"))),
            "broken" => self.store.edit(kind, name, image(BROKEN.to_owned())),
            "size" => {
                self.store.edit(kind, name, |it| it["spec"]["replicas"] = json!(number * 2));
            }
            "pause" => self.store.edit(kind, name, |it| {
                it["spec"]["paused"] = json!(it["spec"]["paused"] != true);
            }),
            "strategy" => self.store.edit(kind, name, |it| {
                it["spec"]["strategy"] = if number == 0 {
                    json!({"type": "Recreate"})
                } else {
                    json!({"type": "RollingUpdate", "rollingUpdate":
                        {"maxSurge": number - 1, "maxUnavailable": 1}})
                };
            }),
            "partition" => self.store.edit(kind, name, |it| {
                it["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(number);
            }),
            "claims" => {
                let claims: Vec<_> = self.store.list(Kind::Claim).map(crate::store::name).collect();
                if !claims.is_empty() {
                    let claim = self.random.pick(&claims).clone();
                    self.store.delete(Kind::Claim, &claim);
                }
            }
            "nodes" => self.meddle_with_nodes(number),
            "recreate" => {
                if self.store.get(kind, name).is_some() {
                    self.store.delete(kind, name);
                } else {
                    self.add_workload(name);
                }
            }
            "pods" => self.meddle_with_pods(number),
            other => panic!("{other}"),
        }
    }

    /// A user deletes a pod, or takes it from its set, or gives it away.
    fn meddle_with_pods(&mut self, number: usize) {
        let pods: Vec<_> = self.store.list(Kind::Pod).map(name).collect();
        if pods.is_empty() {
            return;
        }
        let pod = self.random.pick(&pods).clone();
        // One that is given away keeps its name, and with it the place of another in a StatefulSet.
        let number = if self.kind() == Kind::StatefulSet && number == 2 { 0 } else { number };
        match number {
            0 | 1 => {
                self.store.delete(Kind::Pod, &pod);
            }
            2 => self.store.edit(Kind::Pod, &pod, |pod| {
                pod["metadata"]["labels"]["app"] = json!("else");
            }),
            _ => self.store.edit(Kind::Pod, &pod, |pod| {
                pod["metadata"]["ownerReferences"] = json!([]);
            }),
        }
    }

    /// A node comes, goes, or begins or ceases to drive pods out.
    fn meddle_with_nodes(&mut self, number: usize) {
        let node = *self.random.pick(&NODES);
        match number {
            0 => {
                self.store.remove(Kind::Node, node);
            }
            1 => self.add_node(node),
            _ => self.store.edit(Kind::Node, node, |node| {
                let effect = if number == 2 { "NoSchedule" } else { "NoExecute" };
                node["spec"] = match node["spec"]["taints"] {
                    Value::Null => json!({"taints": [{"key": "k", "effect": effect}]}),
                    _ => json!({}),
                };
            }),
        }
    }

    pub(crate) fn stop_faults(&mut self) {
        self.story.push("the faults stop".to_owned());
        self.has_faults = false;
        if self.store.list(Kind::Node).next().is_none() {
            self.add_node(NODES[0]);
        }
        let kind = self.kind();
        for name in NAMES {
            if kind == Kind::Deployment {
                self.store.edit(kind, name, |it| it["spec"]["paused"] = json!(false));
            }
            if self.store.get(kind, name).is_none() {
                self.add_workload(name);
            }
        }
    }
}
