//! `/stats/summary`: upstream `Summary` (k8s.io/kubelet pkg/apis/stats/v1alpha1/types.go, v1.35).
//! Pure.
//!
//! What would take walking through directories (what containers and volumes have written) is left
//! out.

use super::rates::Rate;
use super::{Extent, Measured, Observed, VolumeLoad};
use crate::runtime::{PodIdentity, Usage};
use crate::sys::load::{DeviceTraffic, DiskLoad};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(in super::super) fn render(observed: &Observed, extent: Extent) -> Value {
    let mut pods: BTreeMap<&PodIdentity, Vec<&Measured>> = BTreeMap::new();
    for container in &observed.containers {
        pods.entry(&container.status.pod).or_default().push(container);
    }
    let pods: Vec<_> = pods
        .iter()
        .map(|(pod, containers)| render_pod(observed, pod, containers, extent))
        .collect();
    json!({ "node": render_node(observed, extent), "pods": pods })
}

fn render_node(observed: &Observed, extent: Extent) -> Value {
    let (at, machine) = (observed.at, &observed.machine);
    let usage = Usage {
        cpu_nanoseconds: machine.cpu_nanoseconds,
        memory_bytes: machine.memory_bytes,
        memory_working_set_bytes: machine.memory_working_set_bytes,
        memory_rss_bytes: machine.memory_rss_bytes,
        processes: machine.threads,
    };
    let mut memory = memory(at, &usage);
    let available = machine.memory_total_bytes.saturating_sub(machine.memory_working_set_bytes);
    memory["availableBytes"] = json!(available);
    let mut node = json!({
        "nodeName": observed.node_name,
        "cpu": cpu(at, usage.cpu_nanoseconds, observed.machine_rate),
        "memory": memory,
    });
    if extent == Extent::All {
        let disk = disk(at, observed.disk);
        node["network"] = network(at, &observed.devices);
        node["fs"] = disk.clone();
        node["runtime"] = json!({ "imageFs": disk, "containerFs": disk });
        node["rlimit"] =
            json!({ "time": at, "maxpid": machine.threads_max, "curproc": machine.threads });
    }
    node
}

fn render_pod(
    observed: &Observed,
    pod: &PodIdentity,
    containers: &[&Measured],
    extent: Extent,
) -> Value {
    let at = observed.at;
    let sum = |of: fn(&Usage) -> u64| containers.iter().map(|it| of(&it.usage)).sum::<u64>();
    let usage = Usage {
        cpu_nanoseconds: sum(|usage| usage.cpu_nanoseconds),
        memory_bytes: sum(|usage| usage.memory_bytes),
        memory_working_set_bytes: sum(|usage| usage.memory_working_set_bytes),
        memory_rss_bytes: sum(|usage| usage.memory_rss_bytes),
        processes: sum(|usage| usage.processes),
    };
    let rendered: Vec<_> =
        containers.iter().map(|container| render_container(at, container, extent)).collect();
    let mut value = json!({
        "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
        "startTime": containers.iter().map(|container| container.started_at).min(),
        "containers": rendered,
        "cpu": cpu(at, usage.cpu_nanoseconds, together(containers)),
        "memory": memory(at, &usage),
        "process_stats": { "process_count": usage.processes },
    });
    let devices = containers.iter().map(|container| &container.devices);
    if let Some(devices) = devices.filter(|devices| !devices.is_empty()).max_by_key(|it| it.len()) {
        value["network"] = network(at, devices);
    }
    if let Some(volumes) = observed.volumes.get(&pod.uid).filter(|volumes| !volumes.is_empty()) {
        value["volume"] = volumes.iter().map(|volume| render_volume(at, volume)).collect();
    }
    value
}

fn render_volume(at: Timestamp, volume: &VolumeLoad) -> Value {
    let mut value = disk(at, volume.disk);
    value["name"] = json!(volume.name);
    value["pvcRef"] = json!({ "namespace": volume.claim.namespace, "name": volume.claim.name });
    value
}

/// The rates of all containers in one; `None` where one of them has none yet.
fn together(containers: &[&Measured]) -> Option<Rate> {
    let rates: Option<Vec<Rate>> = containers.iter().map(|container| container.rate).collect();
    let rates = rates?;
    let window = rates.iter().map(|rate| rate.window).min()?;
    Some(Rate { nanocores: rates.iter().map(|rate| rate.nanocores).sum(), window })
}

fn render_container(at: Timestamp, container: &Measured, extent: Extent) -> Value {
    let usage = &container.usage;
    let mut value = json!({
        "name": container.status.name,
        "startTime": container.started_at,
        "cpu": cpu(at, usage.cpu_nanoseconds, container.rate),
        "memory": memory(at, usage),
    });
    if extent == Extent::All {
        value["logs"] = json!({ "time": at, "usedBytes": container.log_bytes });
    }
    value
}

/// With the window that the rate is of, in seconds, which upstream does not tell.
fn cpu(at: Timestamp, nanoseconds: u64, rate: Option<Rate>) -> Value {
    let mut value = json!({ "time": at, "usageCoreNanoSeconds": nanoseconds });
    if let Some(rate) = rate {
        value["usageNanoCores"] = json!(rate.nanocores);
        value["windowSeconds"] = json!(rate.window.as_secs_f64());
    }
    value
}

fn memory(at: Timestamp, usage: &Usage) -> Value {
    json!({
        "time": at,
        "usageBytes": usage.memory_bytes,
        "workingSetBytes": usage.memory_working_set_bytes,
        "rssBytes": usage.memory_rss_bytes,
    })
}

fn disk(at: Timestamp, disk: DiskLoad) -> Value {
    json!({
        "time": at,
        "availableBytes": disk.available_bytes,
        "capacityBytes": disk.capacity_bytes,
        "usedBytes": disk.used_bytes,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

/// The first device is the one that stands for all.
fn network(at: Timestamp, devices: &[DeviceTraffic]) -> Value {
    let render = |device: &DeviceTraffic| {
        let mut value = Map::new();
        value.insert("name".to_owned(), json!(device.name));
        for (name, number) in [
            ("rxBytes", device.received_bytes),
            ("rxErrors", device.received_errors),
            ("txBytes", device.sent_bytes),
            ("txErrors", device.sent_errors),
        ] {
            value.insert(name.to_owned(), json!(number));
        }
        value
    };
    let mut value = devices.first().map(render).unwrap_or_default();
    value.insert("time".to_owned(), json!(at));
    value.insert("interfaces".to_owned(), devices.iter().map(render).collect());
    Value::Object(value)
}
