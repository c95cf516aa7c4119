//! The nodes and workloads that a world begins with.

use super::*;

impl World {
    pub(super) fn add_node(&mut self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        let now = self.now().to_string();
        // One that is there already stays.
        self.store.create(Kind::Node, node, &now).ok();
    }

    /// The kind that this world is about.
    pub(super) fn kind(&self) -> Kind {
        match self.scenario.workload {
            Workload::Deployment => Kind::Deployment,
            Workload::ReplicationController => Kind::ReplicationController,
            Workload::StatefulSet => Kind::StatefulSet,
            Workload::DaemonSet => Kind::DaemonSet,
        }
    }

    pub(super) fn add_workload(&mut self, name: &str) {
        let replicas = 1 + self.random.below(6);
        let mut object = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "minReadySeconds": self.scenario.min_ready_seconds,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "c", "image": "v0"}]}},
            },
        });
        let spec = &mut object["spec"];
        match self.scenario.workload {
            Workload::Deployment => {
                spec["strategy"] = self.deployment_strategy();
                spec["progressDeadlineSeconds"] = json!(self.scenario.progress_deadline_seconds);
            }
            Workload::ReplicationController => spec["selector"] = json!({"app": name}),
            Workload::StatefulSet => {
                spec["serviceName"] = json!(name);
                spec["podManagementPolicy"] =
                    json!(if self.scenario.parallel { "Parallel" } else { "OrderedReady" });
                let (_, unavailable) = self.scenario.rolling.expect("a rolling update");
                spec["updateStrategy"] = json!({"type": "RollingUpdate",
                    "rollingUpdate": {"partition": 0, "maxUnavailable": bound(unavailable)}});
                if let Some((deleted, scaled)) = self.scenario.claims {
                    spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}}]);
                    spec["persistentVolumeClaimRetentionPolicy"] =
                        json!({"whenDeleted": deleted, "whenScaled": scaled});
                }
            }
            Workload::DaemonSet => {
                let (surge, unavailable) = self.scenario.rolling.expect("a rolling update");
                spec["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate":
                    {"maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}});
            }
        }
        if self.scenario.workload != Workload::DaemonSet {
            spec["replicas"] = json!(replicas);
        }
        if self.scenario.workload != Workload::ReplicationController {
            spec["revisionHistoryLimit"] = json!(2);
        }
        let now = self.now().to_string();
        self.store.create(self.kind(), object, &now).unwrap();
    }

    fn deployment_strategy(&self) -> Value {
        match self.scenario.rolling {
            None => json!({"type": "Recreate"}),
            Some((surge, unavailable)) => json!({"type": "RollingUpdate", "rollingUpdate":
                {"maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}}),
        }
    }
}

fn bound(text: &str) -> Value {
    text.parse::<i32>().map_or(json!(text), Value::from)
}
