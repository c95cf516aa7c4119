//! Which volumes the pods of this node have at the moment: for those who measure them.

use super::plan::{Source, VolumePlan};
use crate::api::ObjectKey;
use crate::kubelet::container::mounts::ReadyVolume;
use crate::kubelet::pod::BoundPod;
use k8s_openapi::api::core::v1::Volume;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// A volume that has been made for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubelet) struct MadeVolume {
    /// The pod's name for it.
    pub(in crate::kubelet) name: String,
    /// Upstream's name for what makes such volumes.
    pub(in crate::kubelet) plugin: &'static str,
    /// The claim that it is for, and where its files are; `None` where there are none, as of a block
    /// device, or it goes with the pod.
    pub(in crate::kubelet) claimed: Option<(ObjectKey, PathBuf)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::kubelet) struct VolumeBook(
    /// By the pod's uid.
    Mutex<BTreeMap<String, Vec<MadeVolume>>>,
);

impl VolumeBook {
    pub(in crate::kubelet) fn note(&self, uid: &str, volumes: Vec<MadeVolume>) {
        let mut all = self.0.lock().expect("no panics under this lock");
        all.insert(uid.to_owned(), volumes);
    }

    pub(in crate::kubelet) fn forget(&self, uid: &str) {
        self.0.lock().expect("no panics under this lock").remove(uid);
    }

    /// By the uids of pods.
    pub(in crate::kubelet) fn all(&self) -> BTreeMap<String, Vec<MadeVolume>> {
        self.0.lock().expect("no panics under this lock").clone()
    }
}

/// What has been made of a pod's plans.
pub(in crate::kubelet) fn made(
    pod: &BoundPod,
    plans: &[VolumePlan],
    ready: &BTreeMap<String, ReadyVolume>,
) -> Vec<MadeVolume> {
    let volumes: BTreeMap<&str, &Volume> =
        pod.spec().volumes.iter().flatten().map(|it| (it.name.as_str(), it)).collect();
    let entry = |plan: &VolumePlan| {
        let (volume, made) = (volumes.get(plan.name.as_str())?, ready.get(&plan.name)?);
        let claim = claim(pod, volume).filter(|_| !made.is_device);
        Some(MadeVolume {
            name: plan.name.clone(),
            plugin: match plan.persistent {
                Some(_) => plugin_of(&plan.source),
                None => plugin(volume),
            },
            claimed: claim.map(|claim| (claim, made.path.clone())),
        })
    };
    plans.iter().filter_map(entry).collect()
}

/// The claim that a volume of the pod is for.
fn claim(pod: &BoundPod, volume: &Volume) -> Option<ObjectKey> {
    let name = match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => source.claim_name.clone(),
        // Upstream `VolumeClaimName` (k8s.io/component-helpers/storage/ephemeral).
        (None, Some(_)) => format!("{}-{}", pod.name(), volume.name),
        (None, None) => return None,
    };
    Some(ObjectKey::namespaced(pod.namespace(), &name))
}

/// Upstream's name for what makes the volume, as far as its pod says it.
pub(in crate::kubelet) fn plugin(volume: &Volume) -> &'static str {
    match volume {
        Volume { empty_dir: Some(_), .. } => "kubernetes.io/empty-dir",
        Volume { config_map: Some(_), .. } => "kubernetes.io/configmap",
        Volume { secret: Some(_), .. } => "kubernetes.io/secret",
        Volume { projected: Some(_), .. } => "kubernetes.io/projected",
        Volume { downward_api: Some(_), .. } => "kubernetes.io/downward-api",
        Volume { host_path: Some(_), .. } => "kubernetes.io/host-path",
        Volume { nfs: Some(_), .. } => "kubernetes.io/nfs",
        Volume { image: Some(_), .. } => "kubernetes.io/image",
        _ => "kubernetes.io/persistent-claim",
    }
}

fn plugin_of(source: &Source) -> &'static str {
    match source {
        Source::Local { .. } | Source::Device { .. } => "kubernetes.io/local-volume",
        Source::HostPath { .. } => "kubernetes.io/host-path",
        Source::Nfs(_) => "kubernetes.io/nfs",
        Source::EmptyDir | Source::Memory { .. } | Source::Files { .. } => {
            "kubernetes.io/empty-dir"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::persistent::Persistent;
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn claims_are_known_by_where_their_files_are() {
        let pod = json!({
            "metadata": { "namespace": "n", "name": "p", "uid": "u" },
            "spec": { "nodeName": "one", "containers": [], "volumes": [
                { "name": "own", "emptyDir": {} },
                { "name": "data", "persistentVolumeClaim": { "claimName": "c" } },
                { "name": "raw", "persistentVolumeClaim": { "claimName": "r" } },
                { "name": "brought", "ephemeral": {} },
                { "name": "late", "persistentVolumeClaim": { "claimName": "l" } },
            ] },
        });
        let pod = BoundPod::read(Arc::new(serde_json::from_value(pod).unwrap())).unwrap();
        let local = |name: &str| VolumePlan {
            persistent: Some(Persistent { name: "pv".to_owned(), is_exclusive: false }),
            ..VolumePlan::of(name, Source::Local { path: "/v".into() })
        };
        let plans = [
            VolumePlan::of("own", Source::EmptyDir),
            local("data"),
            local("raw"),
            local("brought"),
            local("late"),
        ];
        let ready = |name: &str| {
            let path = PathBuf::from(format!("/{name}"));
            let is_device = name == "raw";
            (name.to_owned(), ReadyVolume { path, read_only: false, is_device })
        };
        let ready = ["own", "data", "raw", "brought"].map(ready).into();
        let shown: Vec<_> = made(&pod, &plans, &ready)
            .iter()
            .map(|it| {
                let claimed = it.claimed.as_ref();
                let claimed = claimed.map(|(claim, path)| format!("{claim} at {}", path.display()));
                format!("{} {} {}", it.name, it.plugin, claimed.unwrap_or_default())
            })
            .collect();
        let expected = [
            "own kubernetes.io/empty-dir ",
            "data kubernetes.io/local-volume n/c at /data",
            "raw kubernetes.io/local-volume ",
            "brought kubernetes.io/local-volume n/p-brought at /brought",
        ];
        assert_eq!(shown, expected);
    }
}
