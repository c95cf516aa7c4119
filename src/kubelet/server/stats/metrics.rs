//! `/metrics` and `/metrics/probes`: what the kubelet itself does. The names are upstream's
//! (pkg/kubelet/metrics/metrics.go and pkg/kubelet/prober/prober_manager.go, v1.35), as far as what
//! they count is done here. Pure.

use super::volumes::{self, VolumeLoads};
use crate::kubelet::pod::ProbeKind;
use crate::kubelet::tally::{Happening, Operation, ProbeCount, ProbeName, Span};
use crate::stdx::exposition::{
    Durations, Exposition, Labels, count, counter, gauge, seconds, whole,
};
use crate::sys::load::OwnLoad;
use std::collections::BTreeMap;

/// What the kubelet can say of itself.
#[derive(Clone, Debug)]
pub(in super::super) struct Own {
    pub(in super::super) node_name: String,
    pub(in super::super) version: &'static str,
    /// Pods that the node is to run, and those of them that are the API's or its own.
    pub(in super::super) pods_of_api: usize,
    pub(in super::super) static_pods: usize,
    /// Pods with a sandbox.
    pub(in super::super) running_pods: usize,
    pub(in super::super) containers: BTreeMap<&'static str, usize>,
    /// Of those that the node is to run, the ones that have not ended.
    pub(in super::super) active_of_api: usize,
    pub(in super::super) active_static: usize,
    pub(in super::super) operations: BTreeMap<&'static str, Operation>,
    pub(in super::super) spans: BTreeMap<Span, Operation>,
    pub(in super::super) happenings: BTreeMap<Happening, u64>,
    /// Volumes that pods are to have and those that they have, by what makes them.
    pub(in super::super) volumes_wanted: BTreeMap<&'static str, usize>,
    pub(in super::super) volumes_made: BTreeMap<&'static str, usize>,
    pub(in super::super) volumes: VolumeLoads,
    pub(in super::super) load: OwnLoad,
}

pub(in super::super) fn render(own: &Own) -> String {
    let mut text = Exposition::default();
    let (major, minor) = own.version.trim_start_matches('v').split_once('.').unwrap_or_default();
    let minor = minor.split_once('.').map_or(minor, |(minor, _)| minor);
    let build = vec![("git_version", own.version), ("major", major), ("minor", minor)];
    text.family(
        gauge(
            "kubernetes_build_info",
            "A metric with a constant '1' value labeled by the version from which Kubernetes was built.",
        ),
        vec![(build, 1.0)],
    );
    text.family(
        gauge("kubelet_node_name", "The node's name. The count is always 1."),
        vec![(vec![("node", own.node_name.as_str())], 1.0)],
    );
    pods(own, &mut text);
    operations(own, &mut text);
    spans(own, &mut text);
    happenings(own, &mut text);
    volume_counts(own, &mut text);
    volumes::render(&own.volumes, &mut text);
    process(own, &mut text);
    text.finish()
}

fn pods(own: &Own, text: &mut Exposition) {
    text.one(
        gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox"),
        count(own.running_pods),
    );
    let states = own.containers.iter();
    text.family(
        gauge("kubelet_running_containers", "Number of containers currently running"),
        states.map(|(state, number)| (vec![("container_state", *state)], count(*number))).collect(),
    );
    let by_source = |of_api, of_node| {
        vec![(vec![("static", "")], count(of_api)), (vec![("static", "true")], count(of_node))]
    };
    text.family(
        gauge("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run."),
        by_source(own.pods_of_api, own.static_pods),
    );
    text.family(
        gauge(
            "kubelet_active_pods",
            "The number of pods the kubelet considers active and which are being considered when admitting new pods.",
        ),
        by_source(own.active_of_api, own.active_static),
    );
    text.one(
        gauge("kubelet_mirror_pods", "The number of mirror pods the kubelet will try to create."),
        count(own.active_static),
    );
}

/// How long things took that pods are made of.
fn spans(own: &Own, text: &mut Exposition) {
    type Told<'a> = Vec<(Labels<'a>, Durations)>;
    let [mut looks, mut starts, mut ages, mut cgroups, mut sandboxes]: [Told<'_>; 5] =
        Default::default();
    let mut failed = Vec::new();
    for (span, Operation { durations, failures }) in &own.spans {
        match span {
            Span::Look(kind) => looks.push((vec![("operation_type", *kind)], *durations)),
            Span::Start => starts.push((Vec::new(), *durations)),
            Span::StartSinceCreation => ages.push((Vec::new(), *durations)),
            Span::Cgroup(kind) => cgroups.push((vec![("operation_type", *kind)], *durations)),
            Span::Sandbox(handler) => {
                let labels = vec![("runtime_handler", handler.as_str())];
                if *failures > 0 {
                    failed.push((labels.clone(), whole(*failures)));
                }
                sandboxes.push((labels, *durations));
            }
        }
    }
    for (name, help, told) in [
        (
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type.",
            looks,
        ),
        (
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            starts,
        ),
        (
            "kubelet_pod_start_total_duration_seconds",
            "Duration in seconds to start a pod since creation, including time to pull images and run init containers",
            ages,
        ),
        (
            "kubelet_cgroup_manager_duration_seconds",
            "Duration in seconds for cgroup manager operations. Broken down by method.",
            cgroups,
        ),
        (
            "kubelet_run_podsandbox_duration_seconds",
            "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
            sandboxes,
        ),
    ] {
        text.durations(name, help, &told);
    }
    text.family(
        counter(
            "kubelet_run_podsandbox_errors_total",
            "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
        ),
        failed,
    );
}

fn happenings(own: &Own, text: &mut Exposition) {
    let (mut evictions, mut rejections) = (Vec::new(), Vec::new());
    for (happening, number) in &own.happenings {
        match happening {
            Happening::Evicted(signal) => {
                evictions.push((vec![("eviction_signal", *signal)], whole(*number)));
            }
            Happening::Rejected(reason) => {
                rejections.push((vec![("reason", reason.as_str())], whole(*number)));
            }
        }
    }
    text.family(
        counter("kubelet_evictions", "Cumulative number of pod evictions by eviction signal"),
        evictions,
    );
    text.family(
        counter(
            "kubelet_admission_rejections_total",
            "Cumulative number pod admission rejections by the Kubelet.",
        ),
        rejections,
    );
}

fn volume_counts(own: &Own, text: &mut Exposition) {
    let worlds = [
        ("actual_state_of_world", &own.volumes_made),
        ("desired_state_of_world", &own.volumes_wanted),
    ];
    let each = worlds.into_iter().flat_map(|(state, volumes)| {
        let labels = move |plugin| vec![("plugin_name", plugin), ("state", state)];
        volumes.iter().map(move |(plugin, number)| (labels(*plugin), count(*number)))
    });
    text.family(
        gauge("volume_manager_total_volumes", "Number of volumes in Volume Manager"),
        each.collect(),
    );
}

fn operations(own: &Own, text: &mut Exposition) {
    let each = |value: fn(&Operation) -> u64| -> Vec<(Labels<'_>, f64)> {
        let named = own.operations.iter();
        named.map(|(name, it)| (vec![("operation_type", *name)], whole(value(it)))).collect()
    };
    text.family(
        counter(
            "kubelet_runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
        ),
        each(|it| it.durations.count()),
    );
    let failed = each(|it| it.failures).into_iter().filter(|(_, count)| *count > 0.0).collect();
    text.family(
        counter(
            "kubelet_runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
        ),
        failed,
    );
    let named = own.operations.iter();
    let durations: Vec<_> =
        named.map(|(name, it)| (vec![("operation_type", *name)], it.durations)).collect();
    text.durations(
        "kubelet_runtime_operations_duration_seconds",
        "Duration in seconds of runtime operations. Broken down by operation type.",
        &durations,
    );
    let of = |name: &str| own.operations.get(name).copied().unwrap_or_default();
    for (name, help, operation) in [
        ("kubelet_started_pods_total", "Cumulative number of pods started", "run_podsandbox"),
        (
            "kubelet_started_containers_total",
            "Cumulative number of containers started",
            "start_container",
        ),
    ] {
        let Operation { durations, failures } = of(operation);
        text.one(counter(name, help), whole(durations.count().saturating_sub(failures)));
    }
    text.one(
        counter(
            "kubelet_started_pods_errors_total",
            "Cumulative number of errors when starting pods",
        ),
        whole(of("run_podsandbox").failures),
    );
}

/// Of the whole process, as Prometheus' clients tell it.
fn process(own: &Own, text: &mut Exposition) {
    let load = &own.load;
    text.one(
        counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds."),
        seconds(load.cpu_nanoseconds),
    );
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", load.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", load.virtual_bytes),
        ("process_open_fds", "Number of open file descriptors.", load.open_files),
        ("process_max_fds", "Maximum number of open file descriptors.", load.open_files_max),
        ("process_threads", "Number of threads.", load.threads),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            load.started_at,
        ),
    ] {
        text.one(gauge(name, help), whole(value));
    }
}

/// What `/metrics/probes` says.
pub(in super::super) fn probes(
    probes: &BTreeMap<ProbeName, ProbeCount>,
    started_at: u64,
) -> String {
    let mut text = Exposition::default();
    let totals = probes.iter().flat_map(|(name, probe)| {
        probe.outcomes.iter().map(|(outcome, number)| {
            let mut labels = labels(name);
            labels.extend([("pod_uid", name.uid.as_str()), ("result", outcome.as_str())]);
            (labels, whole(*number))
        })
    });
    text.family(
        counter(
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        ),
        totals.collect(),
    );
    let durations: Vec<_> =
        probes.iter().map(|(name, probe)| (labels(name), probe.durations)).collect();
    text.durations(
        "prober_probe_duration_seconds",
        "Duration in seconds for a probe response.",
        &durations,
    );
    text.one(
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
        ),
        whole(started_at),
    );
    text.finish()
}

fn labels(probe: &ProbeName) -> Labels<'_> {
    let kind = match probe.kind {
        ProbeKind::PostStart => "PostStart",
        ProbeKind::Startup => "Startup",
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
    };
    vec![
        ("container", &*probe.container),
        ("namespace", &*probe.namespace),
        ("pod", &*probe.pod),
        ("probe_type", kind),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::tally::ProbeOutcome;

    #[test]
    fn the_kubelet_says_what_it_does() {
        let failed = Operation { failures: 3, ..Operation::default() };
        let own = Own {
            node_name: "one".to_owned(),
            version: "v1.35.0+kinglet0",
            pods_of_api: 3,
            static_pods: 1,
            running_pods: 4,
            containers: BTreeMap::from([("running", 5)]),
            active_of_api: 2,
            active_static: 1,
            operations: BTreeMap::from([("pull_image", failed)]),
            spans: BTreeMap::from([
                (Span::Look("sync"), Operation::default()),
                (Span::Sandbox("kata".to_owned()), failed),
            ]),
            happenings: BTreeMap::from([
                (Happening::Evicted("memory.available"), 2),
                (Happening::Rejected("OutOfcpu".to_owned()), 7),
            ]),
            volumes_wanted: BTreeMap::from([("kubernetes.io/nfs", 2)]),
            volumes_made: BTreeMap::from([("kubernetes.io/nfs", 1)]),
            volumes: VolumeLoads::default(),
            load: OwnLoad { cpu_nanoseconds: 1_500_000_000, ..OwnLoad::default() },
        };
        let text = render(&own);
        for line in [
            "kubernetes_build_info{git_version=\"v1.35.0+kinglet0\",major=\"1\",minor=\"35\"} 1\n",
            "kubelet_running_pods 4\n",
            "kubelet_running_containers{container_state=\"running\"} 5\n",
            "kubelet_desired_pods{static=\"true\"} 1\n",
            "kubelet_runtime_operations_errors_total{operation_type=\"pull_image\"} 3\n",
            "kubelet_runtime_operations_duration_seconds_count{operation_type=\"pull_image\"} 0\n",
            "process_cpu_seconds_total 1.5\n",
            "kubelet_active_pods{static=\"\"} 2\n",
            "kubelet_mirror_pods 1\n",
            "kubelet_pod_worker_duration_seconds_count{operation_type=\"sync\"} 0\n",
            "kubelet_run_podsandbox_errors_total{runtime_handler=\"kata\"} 3\n",
            "kubelet_evictions{eviction_signal=\"memory.available\"} 2\n",
            "kubelet_admission_rejections_total{reason=\"OutOfcpu\"} 7\n",
            "volume_manager_total_volumes{plugin_name=\"kubernetes.io/nfs\",state=\"actual_state_of_world\"} 1\n",
            "volume_manager_total_volumes{plugin_name=\"kubernetes.io/nfs\",state=\"desired_state_of_world\"} 2\n",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn probes_are_told_by_what_they_came_to() {
        let name = ProbeName {
            kind: ProbeKind::Liveness,
            container: "c".to_owned(),
            pod: "p".to_owned(),
            namespace: "n".to_owned(),
            uid: "u".to_owned(),
        };
        let count = ProbeCount {
            outcomes: BTreeMap::from([(ProbeOutcome::Failed, 2)]),
            ..ProbeCount::default()
        };
        let text = probes(&BTreeMap::from([(name, count)]), 7);
        let labels = "container=\"c\",namespace=\"n\",pod=\"p\",probe_type=\"Liveness\"";
        let total = format!("prober_probe_total{{{labels},pod_uid=\"u\",result=\"failed\"}} 2\n");
        assert!(text.contains(&total), "{text}");
        assert!(text.ends_with("process_start_time_seconds 7\n"), "{text}");
    }
}
