//! `/metrics/cadvisor`: what dashboards and alerts know containers by. The names and labels are
//! cAdvisor's (metrics/prometheus.go, v0.53) as upstream's kubelet sets them
//! (`containerPrometheusLabelsFunc`, pkg/kubelet/server/server.go, v1.35). Pure.

use super::{Measured, Observed};
use crate::runtime::{Activity, DeviceActivity, Stall, Stalls};
use crate::stdx::exposition::{Exposition, Family, Labels, counter, gauge, seconds, whole};
use crate::sys::load::DeviceTraffic;
use std::collections::BTreeSet;

type Value = fn(&Measured) -> Option<f64>;

/// What there is one of for each container.
const PER_CONTAINER: &[(Family, Value)] = &[
    (
        counter(
            "container_cpu_user_seconds_total",
            "Cumulative user cpu time consumed in seconds.",
        ),
        |it| activity(it, |of| seconds(of.user_nanoseconds)),
    ),
    (
        counter(
            "container_cpu_system_seconds_total",
            "Cumulative system cpu time consumed in seconds.",
        ),
        |it| activity(it, |of| seconds(of.system_nanoseconds)),
    ),
    (
        counter(
            "container_cpu_cfs_periods_total",
            "Number of elapsed enforcement period intervals.",
        ),
        |it| held(it, |of| whole(of.periods)),
    ),
    (
        counter(
            "container_cpu_cfs_throttled_periods_total",
            "Number of throttled period intervals.",
        ),
        |it| held(it, |of| whole(of.throttled_periods)),
    ),
    (
        counter(
            "container_cpu_cfs_throttled_seconds_total",
            "Total time duration the container has been throttled.",
        ),
        |it| held(it, |of| seconds(of.throttled_nanoseconds)),
    ),
    (
        gauge(
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory.",
        ),
        |it| Some(whole(it.usage.memory_bytes)),
    ),
    (gauge("container_memory_working_set_bytes", "Current working set in bytes."), |it| {
        Some(whole(it.usage.memory_working_set_bytes))
    }),
    (gauge("container_memory_rss", "Size of RSS in bytes."), |it| {
        Some(whole(it.usage.memory_rss_bytes))
    }),
    (gauge("container_memory_cache", "Number of bytes of page cache memory."), |it| {
        activity(it, |of| whole(of.cache_bytes))
    }),
    (gauge("container_memory_mapped_file", "Size of memory mapped files in bytes."), |it| {
        activity(it, |of| whole(of.mapped_bytes))
    }),
    (gauge("container_memory_swap", "Container swap usage in bytes."), |it| {
        activity(it, |of| whole(of.swap_bytes))
    }),
    (gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes"), |it| {
        activity(it, |of| whole(of.memory_max_bytes))
    }),
    (counter("container_oom_events_total", "Count of out of memory events observed."), |it| {
        activity(it, |of| whole(of.oom_kills))
    }),
    (gauge("container_processes", "Number of processes running inside the container."), |it| {
        Some(whole(it.usage.processes))
    }),
    (
        gauge(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds.",
        ),
        |it| Some(it.started_seconds()),
    ),
    (
        counter(
            "container_pressure_cpu_stalled_seconds_total",
            "Total time duration no tasks in the container could make progress due to CPU congestion.",
        ),
        |it| stalled(it, |of| of.cpu).map(|of| seconds(of.full_nanoseconds)),
    ),
    (
        counter(
            "container_pressure_cpu_waiting_seconds_total",
            "Total time duration tasks in the container have waited due to CPU congestion.",
        ),
        |it| stalled(it, |of| of.cpu).map(|of| seconds(of.some_nanoseconds)),
    ),
    (
        counter(
            "container_pressure_memory_stalled_seconds_total",
            "Total time duration no tasks in the container could make progress due to memory congestion.",
        ),
        |it| stalled(it, |of| of.memory).map(|of| seconds(of.full_nanoseconds)),
    ),
    (
        counter(
            "container_pressure_memory_waiting_seconds_total",
            "Total time duration tasks in the container have waited due to memory congestion.",
        ),
        |it| stalled(it, |of| of.memory).map(|of| seconds(of.some_nanoseconds)),
    ),
    (
        counter(
            "container_pressure_io_stalled_seconds_total",
            "Total time duration no tasks in the container could make progress due to IO congestion.",
        ),
        |it| stalled(it, |of| of.io).map(|of| seconds(of.full_nanoseconds)),
    ),
    (
        counter(
            "container_pressure_io_waiting_seconds_total",
            "Total time duration tasks in the container have waited due to IO congestion.",
        ),
        |it| stalled(it, |of| of.io).map(|of| seconds(of.some_nanoseconds)),
    ),
    (gauge("container_spec_cpu_period", "CPU period of the container."), |it| {
        it.status.resources.cpu_period.map(whole)
    }),
    (gauge("container_spec_cpu_quota", "CPU quota of the container."), |it| {
        it.status.resources.cpu_quota.filter(|quota| *quota > 0).map(|quota| quota as f64)
    }),
    (gauge("container_spec_cpu_shares", "CPU share of the container."), |it| {
        it.status.resources.cpu_shares.map(whole)
    }),
    (gauge("container_spec_memory_limit_bytes", "Memory limit for the container."), |it| {
        // None is told as 0 (cAdvisor `specMemoryValue`).
        Some(it.status.resources.memory_limit_bytes.map_or(0.0, |limit| limit as f64))
    }),
];

type OfDevice = fn(&DeviceActivity) -> u64;

const PER_DISK: &[(Family, OfDevice)] = &[
    (counter("container_fs_reads_bytes_total", "Cumulative count of bytes read"), |it| {
        it.read_bytes
    }),
    (counter("container_fs_reads_total", "Cumulative count of reads completed"), |it| it.reads),
    (counter("container_fs_writes_bytes_total", "Cumulative count of bytes written"), |it| {
        it.written_bytes
    }),
    (counter("container_fs_writes_total", "Cumulative count of writes completed"), |it| it.writes),
];

type OfInterface = fn(&DeviceTraffic) -> u64;

const PER_INTERFACE: &[(Family, OfInterface)] = &[
    (
        counter("container_network_receive_bytes_total", "Cumulative count of bytes received"),
        |it| it.received_bytes,
    ),
    (
        counter("container_network_receive_packets_total", "Cumulative count of packets received"),
        |it| it.received_packets,
    ),
    (
        counter(
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
        ),
        |it| it.received_dropped,
    ),
    (
        counter(
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
        ),
        |it| it.received_errors,
    ),
    (
        counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted"),
        |it| it.sent_bytes,
    ),
    (
        counter(
            "container_network_transmit_packets_total",
            "Cumulative count of packets transmitted",
        ),
        |it| it.sent_packets,
    ),
    (
        counter(
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
        ),
        |it| it.sent_dropped,
    ),
    (
        counter(
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
        ),
        |it| it.sent_errors,
    ),
];

pub(in super::super) fn render(observed: &Observed) -> String {
    let mut text = Exposition::new(Some(observed.at));
    let containers = &observed.containers;
    text.family(
        counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds."),
        containers
            .iter()
            .map(|it| (with(labels(it), ("cpu", "total")), seconds(it.usage.cpu_nanoseconds)))
            .collect(),
    );
    for (family, value) in PER_CONTAINER {
        let values = containers.iter().filter_map(|it| Some((labels(it), value(it)?)));
        text.family(*family, values.collect());
    }
    let seen = whole(observed.at.as_second().unsigned_abs());
    text.family(
        gauge("container_last_seen", "Last time a container was seen by the exporter"),
        containers.iter().map(|it| (labels(it), seen)).collect(),
    );
    for (family, value) in PER_DISK {
        let disks = containers.iter().flat_map(|it| {
            let disks = it.activity.iter().flat_map(|of| &of.devices);
            disks.map(|(name, disk)| (with(labels(it), ("device", name)), whole(value(disk))))
        });
        text.family(*family, disks.collect());
    }
    for (family, value) in PER_INTERFACE {
        text.family(*family, interfaces(observed, *value));
    }
    let mut machine = Exposition::default();
    let load = &observed.machine;
    machine.one(gauge("machine_cpu_cores", "Number of logical CPU cores."), whole(load.processors));
    machine.one(
        gauge("machine_memory_bytes", "Amount of memory installed on the machine."),
        whole(load.memory_total_bytes),
    );
    for (name, help) in [
        (
            "container_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
        ),
        (
            "machine_scrape_error",
            "1 if there was an error while getting machine metrics, 0 otherwise.",
        ),
    ] {
        machine.one(gauge(name, help), 0.0);
    }
    text.finish() + &machine.finish()
}

fn activity(container: &Measured, of: fn(&Activity) -> f64) -> Option<f64> {
    container.activity.as_ref().map(of)
}

fn stalled(container: &Measured, of: fn(Stalls) -> Stall) -> Option<Stall> {
    container.activity.as_ref()?.stalls.map(of)
}

/// Only of containers that are held to something.
fn held(container: &Measured, of: fn(&Activity) -> f64) -> Option<f64> {
    container.status.resources.cpu_quota.filter(|quota| *quota > 0)?;
    activity(container, of)
}

fn labels(container: &Measured) -> Labels<'_> {
    let (status, pod) = (&container.status, &container.status.pod);
    vec![
        ("container", &*status.name),
        ("id", &*container.cgroup),
        ("image", &*status.image_reference),
        ("name", &*status.id.0),
        ("namespace", &*pod.namespace),
        ("pod", &*pod.name),
    ]
}

fn with<'a>(mut labels: Labels<'a>, further: (&'static str, &'a str)) -> Labels<'a> {
    labels.push(further);
    labels
}

/// A network is its pod's: no container's, and told once.
fn interfaces(observed: &Observed, value: OfInterface) -> Vec<(Labels<'_>, f64)> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for container in &observed.containers {
        let (status, pod) = (&container.status, &container.status.pod);
        if container.devices.is_empty() || !seen.insert(&pod.uid) {
            continue;
        }
        let id = container.cgroup.rsplit_once('/').map_or("", |(pod, _)| pod);
        for device in &container.devices {
            let labels = vec![
                ("container", ""),
                ("id", id),
                ("image", ""),
                ("interface", &*device.name),
                ("name", &*status.sandbox.0),
                ("namespace", &*pod.namespace),
                ("pod", &*pod.name),
            ];
            values.push((labels, whole(value(device))));
        }
    }
    values
}
