//! Claims, volumes that users made, and volumes that are made for claims.

use super::super::audit::{list, name, text, uid};
use super::super::rules::is_provisioned;
use super::super::{Cluster, play};
use super::{PODS, pod_spec};
use kinglet::client::Propagation;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const MACHINES: [&str; 3] = ["m0", "m1", "m2"];

fn claim(name: &str, class: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}})
}

fn volume(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "mine", "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
        "persistentVolumeReclaimPolicy": "Retain"}})
}

fn user_of(claim: &str, pod: &str) -> Value {
    let mut spec = pod_spec("i");
    spec["volumes"] = json!([{"name": "d", "persistentVolumeClaim": {"claimName": claim}}]);
    json!({"metadata": {"name": pod, "labels": {"app": "user"}}, "spec": spec})
}

impl Cluster {
    async fn meddle_with_volumes(&mut self) {
        let number = self.random.below(5);
        let made = format!("made-{number}");
        // What is there already, or still, is left as it is.
        match self.random.below(7) {
            0 => drop(self.try_create(CLAIMS, claim(&format!("mine-{number}"), "mine")).await),
            1 => drop(self.try_create(VOLUMES, volume(&format!("v-{number}"))).await),
            2 => drop(self.try_create(CLAIMS, claim(&made, "local-path")).await),
            3 => drop(self.try_create(PODS, user_of(&made, &format!("p-{number}"))).await),
            4 => self.delete(&format!("{PODS}/p-{number}"), Propagation::Background).await,
            5 => {
                let kind = *self.random.pick(&["mine", "made"]);
                let path = format!("{CLAIMS}/{kind}-{number}");
                self.delete(&path, Propagation::Background).await;
            }
            _ => {
                let path = format!("{VOLUMES}/v-{number}");
                self.delete(&path, Propagation::Background).await;
            }
        }
    }

    /// What must be true of claims and volumes at rest.
    fn check_volumes(&self) {
        let objects = self.objects();
        let claims: Vec<&Value> = list(&objects, "core/persistentvolumeclaims").collect();
        let mut kept = BTreeSet::new();
        for volume in list(&objects, "core/persistentvolumes") {
            let owner = text(volume, "/spec/claimRef/uid");
            let claim = claims.iter().find(|claim| uid(claim) == owner);
            let phase = text(volume, "/status/phase");
            let expected = match (owner.is_empty(), claim) {
                (true, _) => "Available",
                (false, Some(_)) => "Bound",
                (false, None) => "Released",
            };
            assert_eq!(phase, expected, "{volume:#}");
            if let Some(claim) = claim {
                assert_eq!(text(claim, "/spec/volumeName"), name(volume), "{claim:#}");
            }
            if is_provisioned(volume) {
                assert_eq!(phase, "Bound", "{volume:#}");
                let path = text(volume, "/spec/local/path");
                let path = if path.is_empty() { text(volume, "/spec/hostPath/path") } else { path };
                assert!(kept.insert(path.to_owned()), "two volumes are at {path}");
            }
        }
        for claim in claims.iter().filter(|claim| text(claim, "/spec/storageClassName") == "mine") {
            let is_free = list(&objects, "core/persistentvolumes")
                .any(|volume| text(volume, "/status/phase") == "Available");
            assert!(text(claim, "/status/phase") == "Bound" || !is_free, "{claim:#}");
        }
        let on_disk = MACHINES.iter().flat_map(|machine| std::fs::read_dir(self.disk(machine)));
        let on_disk = on_disk.flatten().map(|entry| entry.unwrap().path().display().to_string());
        assert_eq!(on_disk.collect::<BTreeSet<_>>(), kept);
    }
}

#[test]
fn claims_and_volumes_find_each_other_once() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&MACHINES).await;
        cluster.restart_loops();
        cluster.rest().await;
        cluster.network.set_faults(true);
        for step in 0..160 {
            cluster.tick().await;
            if cluster.random.one_in(2) {
                cluster.meddle_with_volumes().await;
            }
            if step % 50 == 49 {
                cluster.note("all loops start again");
                cluster.restart_loops();
            }
        }
        cluster.rest().await;
        cluster.check_volumes();
        let pods = super::pods_of(&cluster.objects(), "user");
        for pod in pods {
            let claim = text(&pod, "/spec/volumes/0/persistentVolumeClaim/claimName").to_owned();
            let key = format!("/core/persistentvolumeclaims/default/{claim}");
            let is_there = cluster.objects().contains_key(&key);
            assert!(!is_there || super::is_ready(&pod), "{pod:#}");
        }
    });
}
