//! `/metrics/resource`: what autoscalers and `kubectl top` need, and metrics-server reads. The names
//! are upstream's (pkg/kubelet/metrics/collectors/resource_metrics.go, v1.35). Pure.

use super::{Measured, Observed};
use crate::stdx::exposition::{Exposition, Labels, counter, gauge, seconds, whole};
use std::collections::BTreeMap;

pub(in super::super) fn render(observed: &Observed) -> String {
    let mut text = Exposition::new(Some(observed.at));
    let each = |value: fn(&Measured) -> f64| -> Vec<(Labels<'_>, f64)> {
        observed.containers.iter().map(|it| (labels(it), value(it))).collect()
    };
    text.family(
        counter(
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
        ),
        each(|it| seconds(it.usage.cpu_nanoseconds)),
    );
    text.family(
        gauge(
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
        ),
        each(|it| whole(it.usage.memory_working_set_bytes)),
    );
    text.family(
        gauge(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
        ),
        each(Measured::started_seconds),
    );
    let machine = &observed.machine;
    text.one(
        counter(
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
        ),
        seconds(machine.cpu_nanoseconds),
    );
    text.one(
        gauge("node_memory_working_set_bytes", "Current working set of the node in bytes"),
        whole(machine.memory_working_set_bytes),
    );
    text.family(
        counter(
            "pod_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the pod in core-seconds",
        ),
        pods(observed, |it| seconds(it.usage.cpu_nanoseconds)),
    );
    text.family(
        gauge("pod_memory_working_set_bytes", "Current working set of the pod in bytes"),
        pods(observed, |it| whole(it.usage.memory_working_set_bytes)),
    );
    let mut end = Exposition::default();
    for name in ["resource_scrape_error", "scrape_error"] {
        let help = "1 if there was an error while getting container metrics, 0 otherwise";
        end.one(gauge(name, help), 0.0);
    }
    text.finish() + &end.finish()
}

fn labels(container: &Measured) -> Labels<'_> {
    let (status, pod) = (&container.status, &container.status.pod);
    vec![("container", &*status.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)]
}

/// What the containers of each pod use together.
fn pods(observed: &Observed, value: fn(&Measured) -> f64) -> Vec<(Labels<'_>, f64)> {
    let mut sums = BTreeMap::new();
    for container in &observed.containers {
        *sums.entry(&container.status.pod).or_insert(0.0) += value(container);
    }
    let labelled = sums.into_iter().map(|(pod, sum)| {
        (vec![("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())], sum)
    });
    labelled.collect()
}
