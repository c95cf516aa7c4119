//! What the kubelet and the users do.

use super::*;

impl World {
    /// One more step of a pod's life.
    pub(super) fn kubelet(&mut self, name: &str) {
        let now = self.now().to_string();
        let pod = self.store.get(Kind::Pod, name).expect("it is in the store");
        if pod["metadata"]["deletionTimestamp"].is_string() {
            self.store.remove(Kind::Pod, name);
        } else if pod["spec"]["nodeName"].is_null() {
            self.store.edit(Kind::Pod, name, |pod| pod["spec"]["nodeName"] = json!("n"));
        } else {
            self.store.edit(Kind::Pod, name, |pod| {
                pod["status"] = json!({"phase": "Running", "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": now}]});
            });
        }
    }

    pub(super) fn user(&mut self) {
        let name = *self.random.pick(&["web", "api"]);
        let Some(change) = (!self.scenario.users_change.is_empty())
            .then(|| *self.random.pick(self.scenario.users_change))
        else {
            return;
        };
        let number = self.random.below(4);
        self.story.push(format!("  {change} of {name}: {number}"));
        let image = |image: String| {
            move |object: &mut Value| {
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            }
        };
        match change {
            "template" => self.store.edit(Kind::Deployment, name, image(format!("v{number}"))),
            "broken" => self.store.edit(Kind::Deployment, name, image(BROKEN.to_owned())),
            "size" => self
                .store
                .edit(Kind::Deployment, name, |it| it["spec"]["replicas"] = json!(number * 2)),
            "pause" => self.store.edit(Kind::Deployment, name, |it| {
                it["spec"]["paused"] = json!(it["spec"]["paused"] != true);
            }),
            "strategy" => self.store.edit(Kind::Deployment, name, |it| {
                it["spec"]["strategy"] = if number == 0 {
                    json!({"type": "Recreate"})
                } else {
                    json!({"type": "RollingUpdate", "rollingUpdate":
                        {"maxSurge": number - 1, "maxUnavailable": 1}})
                };
            }),
            "pods" => self.meddle_with_pods(number),
            other => panic!("{other}"),
        }
    }

    /// A user deletes a pod, or takes it from its set, or gives it away.
    pub(super) fn meddle_with_pods(&mut self, number: usize) {
        let pods: Vec<_> = self.store.list(Kind::Pod).map(name).collect();
        if pods.is_empty() {
            return;
        }
        let pod = self.random.pick(&pods).clone();
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

    pub(crate) fn stop_faults(&mut self) {
        self.story.push("the faults stop".to_owned());
        self.has_faults = false;
        for name in ["web", "api"] {
            self.store.edit(Kind::Deployment, name, |it| it["spec"]["paused"] = json!(false));
        }
    }
}
