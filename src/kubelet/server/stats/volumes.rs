//! How full the volumes of claims are: upstream `volumeStatsCollector` (pkg/kubelet/metrics/
//! collectors/volume_stats.go, v1.35).
//!
//! Start at [`Measures::observe`]. Upstream measures all volumes every minute; here it is looked when
//! somebody asks. As upstream has it for local volumes, what is told is how full their file system is.

use crate::api::ObjectKey;
use crate::kubelet::volumes::MadeVolume;
use crate::stdx::blocking;
use crate::stdx::exposition::{Exposition, Labels, gauge, whole};
use crate::sys::load::{self, DiskLoad};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::debug;

/// A file system that has not answered by then is left out, such as that of a server that is away.
/// It is not asked again before it has.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// What is being measured.
#[derive(Debug, Default)]
pub(super) struct Measures(Arc<Mutex<BTreeSet<PathBuf>>>);

/// A volume of a pod that is for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct VolumeLoad {
    /// The pod's name for it.
    pub(in super::super) name: String,
    pub(in super::super) claim: ObjectKey,
    pub(in super::super) disk: DiskLoad,
}

/// By the uids of pods.
pub(in super::super) type VolumeLoads = BTreeMap<String, Vec<VolumeLoad>>;

impl Measures {
    /// Measures those volumes that are claimed; what cannot be measured is left out.
    pub(super) async fn observe(&self, all: BTreeMap<String, Vec<MadeVolume>>) -> VolumeLoads {
        let claimed = all.values().flatten().filter_map(|volume| volume.claimed.as_ref());
        let paths: BTreeSet<&PathBuf> = claimed.map(|(_, path)| path).collect();
        let measured = paths.into_iter().map(async |path| Some((path, self.measure(path).await?)));
        let disks: BTreeMap<_, _> = join_all(measured).await.into_iter().flatten().collect();
        let load = |volume: &MadeVolume| {
            let (claim, path) = volume.claimed.as_ref()?;
            let (name, claim) = (volume.name.clone(), claim.clone());
            Some(VolumeLoad { name, claim, disk: *disks.get(path)? })
        };
        let of_pod = |(uid, volumes): (&String, &Vec<MadeVolume>)| {
            (uid.clone(), volumes.iter().filter_map(load).collect())
        };
        all.iter().map(of_pod).collect()
    }

    async fn measure(&self, path: &Path) -> Option<DiskLoad> {
        let under_way = Arc::clone(&self.0);
        if !under_way.lock().expect("no panics under this lock").insert(path.to_owned()) {
            return None;
        }
        let asked = path.to_owned();
        let measuring = blocking(move || {
            let measured = load::disk(&asked);
            under_way.lock().expect("no panics under this lock").remove(&asked);
            measured
        });
        match tokio::time::timeout(ANSWERS_WITHIN, measuring).await {
            Ok(Ok(disk)) => Some(disk),
            Ok(Err(error)) => {
                debug!(path = %path.display(), %error, "a volume cannot be measured");
                None
            }
            Err(_elapsed) => None,
        }
    }
}

/// Each claim once, however many pods have it.
pub(super) fn render(loads: &VolumeLoads, text: &mut Exposition) {
    let loads = loads.values().flatten();
    let claims: BTreeMap<&ObjectKey, DiskLoad> = loads.map(|it| (&it.claim, it.disk)).collect();
    type Value = fn(DiskLoad) -> u64;
    for (name, help, value) in [
        (
            "kubelet_volume_stats_capacity_bytes",
            "Capacity in bytes of the volume",
            (|disk| disk.capacity_bytes) as Value,
        ),
        (
            "kubelet_volume_stats_available_bytes",
            "Number of available bytes in the volume",
            |disk| disk.available_bytes,
        ),
        ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", |disk| {
            disk.used_bytes
        }),
        ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", |disk| {
            disk.inodes
        }),
        ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", |disk| {
            disk.inodes_free
        }),
        ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", |disk| {
            disk.inodes.saturating_sub(disk.inodes_free)
        }),
    ] {
        let each = claims.iter().map(|(claim, disk)| (labels(claim), whole(value(*disk))));
        text.family(gauge(name, help), each.collect());
    }
}

fn labels(claim: &ObjectKey) -> Labels<'_> {
    vec![
        ("namespace", claim.namespace.as_deref().unwrap_or_default()),
        ("persistentvolumeclaim", &claim.name),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(claim: &str, path: &std::path::Path) -> MadeVolume {
        let claimed = Some((ObjectKey::namespaced("n", claim), path.to_owned()));
        MadeVolume { name: format!("of-{claim}"), plugin: "kubernetes.io/local-volume", claimed }
    }

    #[tokio::test]
    async fn what_answers_is_measured_and_nothing_is_asked_twice() {
        let directory = tempfile::tempdir().unwrap();
        let (here, gone) = (directory.path(), directory.path().join("gone"));
        let own = MadeVolume { claimed: None, ..volume("own", here) };
        let all = || {
            BTreeMap::from([
                ("u1".to_owned(), vec![volume("a", here), own.clone(), volume("b", &gone)]),
                ("u2".to_owned(), vec![volume("a", here)]),
            ])
        };
        let measures = Measures::default();
        let loads = measures.observe(all()).await;
        let names = |uid: &str| -> Vec<String> {
            loads[uid].iter().map(|it| format!("{} {}", it.name, it.claim)).collect()
        };
        assert_eq!((names("u1"), names("u2")), (vec!["of-a n/a".into()], vec!["of-a n/a".into()]));
        assert!(loads["u1"][0].disk.capacity_bytes > 0);

        // As if it had not answered yet.
        measures.0.lock().unwrap().insert(here.to_owned());
        assert_eq!(measures.observe(all()).await["u2"], []);
    }

    #[test]
    fn a_claim_is_told_of_once() {
        let disk = DiskLoad {
            capacity_bytes: 10,
            available_bytes: 5,
            used_bytes: 4,
            inodes: 9,
            inodes_free: 7,
        };
        let claim = ObjectKey::namespaced("n", "c");
        let load = VolumeLoad { name: "v".to_owned(), claim, disk };
        let loads = ["u1", "u2"].map(|uid| (uid.to_owned(), vec![load.clone()])).into();
        let mut text = Exposition::default();
        render(&loads, &mut text);
        let text = text.finish();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "{namespace=\"n\",persistentvolumeclaim=\"c\"}";
        let expected = [
            ("capacity_bytes", 10),
            ("available_bytes", 5),
            ("used_bytes", 4),
            ("inodes", 9),
            ("inodes_free", 7),
            ("inodes_used", 2),
        ]
        .map(|(name, value)| format!("kubelet_volume_stats_{name}{labels} {value}"));
        assert_eq!(lines, expected);
    }
}
