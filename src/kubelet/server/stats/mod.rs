//! What containers, pods and the node use: `/stats/summary` and the metrics of upstream's kubelet.
//!
//! Start at [`Stats::observe`]. Nothing is measured while nobody asks. How fast processors are used
//! takes two looks at their time: the first is that of whoever asked last, where that was not long
//! ago, and otherwise one that is taken for it a moment before the second. [`rates`] decides, and
//! [`summary`], [`resource`], [`cadvisor`] and [`metrics`] say it; all are pure.

pub(super) mod cadvisor;
pub(super) mod metrics;
mod rates;
pub(super) mod resource;
pub(super) mod summary;
mod volumes;

use crate::kubelet::worker::Shared;
use crate::runtime::{Activity, ContainerId, ContainerState, ContainerStatus, Runtime, Usage};
use crate::stdx::{blocking, monotonic};
use crate::sys::load::{self, DeviceTraffic, DiskLoad, MachineLoad};
use jiff::Timestamp;
use rates::{Rate, Rates, WINDOW_MIN};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use volumes::Measures;
pub(super) use volumes::{VolumeLoad, VolumeLoads};

/// What is measured, and what was when somebody asked before.
#[derive(Debug, Default)]
pub(super) struct Stats {
    rates: Mutex<Rates>,
    volumes: Measures,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What takes nothing but a few files of each container.
    Essential,
    /// Networks and file systems as well.
    All,
}

/// What there was to see.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) node_name: String,
    pub(super) at: Timestamp,
    pub(super) machine: MachineLoad,
    pub(super) machine_rate: Option<Rate>,
    pub(super) containers: Vec<Measured>,
    pub(super) devices: Vec<DeviceTraffic>,
    /// The file system that images and containers are on.
    pub(super) disk: DiskLoad,
    pub(super) volumes: VolumeLoads,
}

/// One running container.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) status: ContainerStatus,
    pub(super) started_at: Timestamp,
    pub(super) usage: Usage,
    pub(super) rate: Option<Rate>,
    /// Of its pod's network; empty where the pod is on the node's.
    pub(super) devices: Vec<DeviceTraffic>,
    pub(super) log_bytes: u64,
    /// Where its processes are, and what they have done; where that was asked for.
    pub(super) cgroup: String,
    pub(super) activity: Option<Activity>,
}

impl Measured {
    pub(super) fn started_seconds(&self) -> f64 {
        self.started_at.as_millisecond() as f64 / 1_000.0
    }
}

/// What the machine as a whole is called among containers.
fn machine() -> ContainerId {
    ContainerId(String::new())
}

impl Stats {
    /// # Errors
    /// Where the machine cannot be looked at.
    pub(super) async fn observe(&self, shared: &Shared, extent: Extent) -> io::Result<Observed> {
        let mut sample = Sample::take(shared).await?;
        let is_known = |rates: &Rates| sample.times().all(|(id, _)| rates.knows(id, sample.when));
        if !self.rates.lock().is_ok_and(|rates| is_known(&rates)) {
            self.note(&sample);
            tokio::time::sleep(WINDOW_MIN).await;
            sample = Sample::take(shared).await?;
        }
        let rates = self.note(&sample);
        let rate = |id: &ContainerId| rates.get(id).copied();
        let mut measured = Vec::with_capacity(sample.containers.len());
        for (status, usage) in sample.containers {
            let ContainerState::Running { started_at, .. } = status.state else { continue };
            let rate = rate(&status.id);
            measured.push(Measured {
                status,
                started_at,
                usage,
                rate,
                devices: Vec::new(),
                log_bytes: 0,
                cgroup: String::new(),
                activity: None,
            });
        }
        let mut observed = Observed {
            node_name: shared.config.node.name.clone(),
            at: shared.clock.now(),
            machine: sample.machine,
            machine_rate: rate(&machine()),
            containers: measured,
            devices: Vec::new(),
            disk: DiskLoad::default(),
            volumes: VolumeLoads::default(),
        };
        if extent == Extent::All {
            let path = shared.config.volumes.pods_dir.clone();
            let runtime = Arc::clone(&shared.runtime);
            observed = blocking(move || with_files(observed, &*runtime, path)).await?;
            observed.volumes = self.volumes(shared).await;
        }
        Ok(observed)
    }

    /// How full the volumes of claims are.
    pub(super) async fn volumes(&self, shared: &Shared) -> VolumeLoads {
        self.volumes.observe(shared.volumes.all()).await
    }

    /// Takes note of a sample and says what follows from it and an earlier one.
    fn note(&self, sample: &Sample) -> BTreeMap<ContainerId, Rate> {
        let mut rates = self.rates.lock().expect("no panics under this lock");
        rates.note(sample.when, sample.times())
    }
}

/// Networks and file systems: a few files of each container.
fn with_files(
    mut observed: Observed,
    runtime: &dyn Runtime,
    path: PathBuf,
) -> io::Result<Observed> {
    let own = load::traffic(None)?;
    for container in &mut observed.containers {
        let ContainerState::Running { pid, .. } = container.status.state else { continue };
        // One that has ended since has used no network that anybody could ask for.
        let devices = load::traffic(Some(pid)).unwrap_or_default();
        if devices != own {
            container.devices = devices;
        }
        if let Some((cgroup, mut activity)) = runtime.activity(&container.status.id) {
            let named = std::mem::take(&mut activity.devices).into_iter();
            activity.devices = named.map(|(it, of)| (load::device_name(&it), of)).collect();
            (container.cgroup, container.activity) = (cgroup, Some(activity));
        }
        container.log_bytes =
            container.status.log_path.metadata().map_or(0, |metadata| metadata.len());
    }
    observed.devices = own;
    observed.disk = load::disk(&path)?;
    Ok(observed)
}

/// One look at everything that uses processors.
struct Sample {
    when: std::time::Instant,
    machine: MachineLoad,
    containers: Vec<(ContainerStatus, Usage)>,
}

impl Sample {
    async fn take(shared: &Shared) -> io::Result<Self> {
        let machine = blocking(MachineLoad::observe).await?;
        let statuses = shared.runtime.containers().await.map_err(io::Error::other)?;
        let mut containers = Vec::new();
        for status in statuses {
            if matches!(status.state, ContainerState::Running { .. })
                // One that has ended since uses nothing.
                && let Ok(usage) = shared.runtime.usage(&status.id).await
            {
                containers.push((status, usage));
            }
        }
        Ok(Self { when: monotonic(), machine, containers })
    }

    /// Whose processor time is how many nanoseconds.
    fn times(&self) -> impl Iterator<Item = (ContainerId, u64)> {
        let containers = self.containers.iter();
        let containers =
            containers.map(|(status, usage)| (status.id.clone(), usage.cpu_nanoseconds));
        containers.chain([(machine(), self.machine.cpu_nanoseconds)])
    }
}
