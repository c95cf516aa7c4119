//! `/metrics/resource` and `/metrics/cadvisor` in the text format of Prometheus. Pure.
//!
//! The names are upstream's (pkg/kubelet/metrics/collectors/resource_metrics.go, v1.35, and
//! cAdvisor's metrics/prometheus.go, v0.53), as far as what is measured goes.

use super::{Measured, Observed};
use jiff::Timestamp;
use std::fmt::Write as _;

/// A kind of measurement: its name, what it is, and how it grows.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: "counter" }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: "gauge" }
}

/// What `/metrics/resource` says: for autoscalers and `kubectl top`.
pub(in super::super) fn resource(observed: &Observed) -> String {
    let mut text = String::new();
    let machine = &observed.machine;
    let node = |value: f64| vec![(String::new(), value)];
    let containers = |value: fn(&Measured) -> f64| per_container(observed, value);
    let now = Some(observed.at);
    for (family, values) in [
        (
            counter(
                "container_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the container in core-seconds",
            ),
            containers(cpu_seconds),
        ),
        (
            gauge(
                "container_memory_working_set_bytes",
                "Current working set of the container in bytes",
            ),
            containers(|it| whole(it.usage.memory_working_set_bytes)),
        ),
        (
            gauge(
                "container_start_time_seconds",
                "Start time of the container since unix epoch in seconds",
            ),
            containers(started),
        ),
        (
            counter(
                "node_cpu_usage_seconds_total",
                "Cumulative cpu time consumed by the node in core-seconds",
            ),
            node(seconds(machine.cpu_nanoseconds)),
        ),
        (
            gauge("node_memory_working_set_bytes", "Current working set of the node in bytes"),
            node(whole(machine.memory_working_set_bytes)),
        ),
        (
            gauge(
                "resource_scrape_error",
                "1 if there was an error while getting container metrics, 0 otherwise",
            ),
            node(0.0),
        ),
    ] {
        let now = now.filter(|_| family.name != "resource_scrape_error");
        write_family(&mut text, &family, &values, now);
    }
    text
}

/// What `/metrics/cadvisor` says, of what is measured here.
pub(in super::super) fn cadvisor(observed: &Observed) -> String {
    let mut text = String::new();
    let containers = |value: fn(&Measured) -> f64| per_container(observed, value);
    for (family, values) in [
        (
            counter(
                "container_cpu_usage_seconds_total",
                "Cumulative cpu time consumed in seconds.",
            ),
            containers(cpu_seconds),
        ),
        (
            gauge("container_memory_usage_bytes", "Current memory usage in bytes."),
            containers(|it| whole(it.usage.memory_bytes)),
        ),
        (
            gauge("container_memory_working_set_bytes", "Current working set in bytes."),
            containers(|it| whole(it.usage.memory_working_set_bytes)),
        ),
        (
            gauge("container_memory_rss", "Size of RSS in bytes."),
            containers(|it| whole(it.usage.memory_rss_bytes)),
        ),
        (
            gauge("container_processes", "Number of processes running inside the container."),
            containers(|it| whole(it.usage.processes)),
        ),
        (
            gauge(
                "container_start_time_seconds",
                "Start time of the container since unix epoch in seconds.",
            ),
            containers(started),
        ),
        (
            gauge("machine_memory_bytes", "Amount of memory installed on the machine."),
            vec![(String::new(), whole(observed.machine.memory_total_bytes))],
        ),
    ] {
        write_family(&mut text, &family, &values, Some(observed.at));
    }
    for (family, value) in [
        (
            counter("container_network_receive_bytes_total", "Cumulative count of bytes received."),
            0,
        ),
        (
            counter(
                "container_network_transmit_bytes_total",
                "Cumulative count of bytes transmitted.",
            ),
            1,
        ),
    ] {
        write_family(&mut text, &family, &per_device(observed, value), Some(observed.at));
    }
    text
}

/// What `/metrics` says of the kubelet itself.
pub(in super::super) fn kubelet(observed: &Observed, version: &str, pods: usize) -> String {
    let mut text = String::new();
    let build = format!("{{git_version=\"{version}\"}}");
    let running = observed.containers.len();
    for (family, values) in [
        (
            gauge(
                "kubernetes_build_info",
                "A metric with a constant '1' value labeled by the version from which Kubernetes was built.",
            ),
            vec![(build, 1.0)],
        ),
        (
            gauge("kubelet_node_name", "The node's name. The count is always 1."),
            vec![(format!("{{node=\"{}\"}}", escape(&observed.node_name)), 1.0)],
        ),
        (
            gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox"),
            vec![(String::new(), count(pods))],
        ),
        (
            gauge("kubelet_running_containers", "Number of containers currently running"),
            vec![("{container_state=\"running\"}".to_owned(), count(running))],
        ),
    ] {
        write_family(&mut text, &family, &values, None);
    }
    text
}

fn per_container(observed: &Observed, value: fn(&Measured) -> f64) -> Vec<(String, f64)> {
    let containers = observed.containers.iter();
    let labelled = containers.map(|container| {
        let (status, pod) = (&container.status, &container.status.pod);
        let labels = format!(
            "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
            escape(&status.name),
            escape(&pod.namespace),
            escape(&pod.name)
        );
        (labels, value(container))
    });
    labelled.collect()
}

/// Received bytes, or sent ones with 1, of the devices of each pod.
fn per_device(observed: &Observed, way: usize) -> Vec<(String, f64)> {
    let mut seen = std::collections::BTreeSet::new();
    let mut values = Vec::new();
    for container in &observed.containers {
        let pod = &container.status.pod;
        if !seen.insert(&pod.uid) {
            continue;
        }
        for device in &container.devices {
            let labels = format!(
                "{{interface=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                escape(&device.name),
                escape(&pod.namespace),
                escape(&pod.name)
            );
            let bytes = [device.received_bytes, device.sent_bytes][way];
            values.push((labels, whole(bytes)));
        }
    }
    values
}

fn write_family(
    text: &mut String,
    family: &Family,
    values: &[(String, f64)],
    at: Option<Timestamp>,
) {
    let Family { name, help, kind } = family;
    if values.is_empty() {
        return;
    }
    let written = "a String takes any text";
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(written);
    let at = at.map(|at| format!(" {}", at.as_millisecond())).unwrap_or_default();
    for (labels, value) in values {
        writeln!(text, "{name}{labels} {value}{at}").expect(written);
    }
}

fn cpu_seconds(container: &Measured) -> f64 {
    seconds(container.usage.cpu_nanoseconds)
}

fn started(container: &Measured) -> f64 {
    container.started_at.as_millisecond() as f64 / 1_000.0
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn whole(number: u64) -> f64 {
    number as f64
}

fn count(number: usize) -> f64 {
    number as f64
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut text = String::new();
        let family = gauge("a", "What it is.");
        let at = Timestamp::from_millisecond(1_500).unwrap();
        write_family(&mut text, &family, &[("{b=\"c\"}".to_owned(), 2.5)], Some(at));
        write_family(&mut text, &family, &[], None);
        write_family(&mut text, &counter("d", "Else."), &[(String::new(), 7.0)], None);
        assert_eq!(
            text,
            "# HELP a What it is.\n# TYPE a gauge\na{b=\"c\"} 2.5 1500\n\
             # HELP d Else.\n# TYPE d counter\nd 7\n"
        );
        assert_eq!(escape("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
