//! What Prometheus reads of the proxy, in upstream's names (pkg/proxy/metrics/metrics.go, v1.35).
//!
//! Upstream has a proxy for each family. Here rules of both are changed in one transaction, so how long
//! that took, and when it was, is told of each family alike. Pure.

use super::element::Family;
use super::health::ProgressState;
use super::tally::Counts;
use crate::stdx::exposition::{Durations, Exposition, Labels, counter, gauge, whole};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// `families` are those that this node serves.
pub(super) fn render(counts: &Counts, progress: ProgressState, families: &[Family]) -> String {
    let mut all = Exposition::default();
    syncs(&mut all, counts, families);
    times(&mut all, progress, families);
    changes(&mut all, counts);
    let refusals = counts.refusals;
    let alike = |count: u64| by_family(families, |_| whole(count));
    all.family(
        counter(
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
            "Transactions that nft refused.",
        ),
        alike(refusals.transactions),
    );
    all.family(
        counter(
            "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
            "Deletions of chains that nft refused.",
        ),
        alike(refusals.cleanups),
    );
    without_local(&mut all, counts, families);
    all.family(
        counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Flows of UDP to endpoints that are gone which were forgotten.",
        ),
        by_family(families, |family| whole(*counts.forgotten_flows.get(family))),
    );
    answers(&mut all, "kubeproxy_proxy_healthz_total", &counts.healthz);
    answers(&mut all, "kubeproxy_proxy_livez_total", &counts.livez);
    all.finish()
}

/// As the API calls it.
pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

fn by_family<T>(families: &[Family], value: impl Fn(Family) -> T) -> Vec<(Labels<'static>, T)> {
    families.iter().map(|family| (vec![("ip_family", name(*family))], value(*family))).collect()
}

fn syncs(all: &mut Exposition, counts: &Counts, families: &[Family]) {
    let shared: [(&str, &str, &Durations); 4] = [
        (
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "How long it took to bring the rules up to date.",
            &counts.syncs,
        ),
        (
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "The same, where the kernel's rules were looked at.",
            &counts.full_syncs,
        ),
        (
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "The same, where only what changed was.",
            &counts.partial_syncs,
        ),
        (
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "How long it took to find flows to endpoints that are gone.",
            &counts.flow_searches,
        ),
    ];
    for (name, help, durations) in shared {
        all.durations(name, help, &by_family(families, |_| *durations));
    }
    all.durations(
        "kubeproxy_network_programming_duration_seconds",
        "From when a pod or Service changed to when its rules did.",
        &by_family(families, |family| *counts.programming.get(family)),
    );
}

fn times(all: &mut Exposition, progress: ProgressState, families: &[Family]) {
    let since_epoch =
        |time: Option<Timestamp>| time.map_or(0.0, |time| time.as_duration().as_secs_f64());
    all.family(
        gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "When the kernel last had all that was known.",
        ),
        by_family(families, |_| since_epoch(progress.applied)),
    );
    all.family(
        gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "When a Service or its endpoints last changed.",
        ),
        by_family(families, |_| since_epoch(progress.queued)),
    );
}

fn without_local(all: &mut Exposition, counts: &Counts, families: &[Family]) {
    let values = families.iter().flat_map(|family| {
        let count = counts.without_local.get(*family);
        [("internal", count.internal), ("external", count.external)].map(|(policy, count)| {
            (vec![("traffic_policy", policy), ("ip_family", name(*family))], whole(count))
        })
    });
    all.family(
        gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Ports of Services with the traffic policy Local that have no endpoint on this node.",
        ),
        values.collect(),
    );
}

fn changes(all: &mut Exposition, counts: &Counts) {
    let (services, endpoints) = (counts.service_changes, counts.endpoint_changes);
    for (family, value) in [
        (
            counter(
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "Changes of Services that were heard of.",
            ),
            services.total,
        ),
        (
            gauge("kubeproxy_sync_proxy_rules_service_changes_pending", "Those of them that wait."),
            services.pending,
        ),
        (
            counter(
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "Changes of EndpointSlices that were heard of.",
            ),
            endpoints.total,
        ),
        (
            gauge(
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "Those of them that wait.",
            ),
            endpoints.pending,
        ),
    ] {
        all.one(family, whole(value));
    }
}

fn answers(all: &mut Exposition, name: &'static str, answers: &BTreeMap<u16, u64>) {
    let by_code: Vec<_> =
        answers.iter().map(|(code, count)| (code.to_string(), whole(*count))).collect();
    let values = by_code.iter().map(|(code, count)| (vec![("code", code.as_str())], *count));
    all.family(counter(name, "Answers to load balancers, by status."), values.collect());
}

#[cfg(test)]
mod tests {
    use super::super::tally::{ByFamily, Changed, Extent, Refusals, Tally, WithoutLocal};
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_counted_is_told_in_upstreams_names() {
        let tally = Tally::default();
        tally.heard(Changed::Service);
        tally.heard(Changed::Endpoints);
        tally.nothing_pending();
        tally.heard(Changed::Endpoints);
        tally.synced(Extent::Full, Duration::from_millis(3));
        tally.synced(Extent::Partial, Duration::from_millis(20));
        tally.programmed([(Family::Ipv6, Duration::from_millis(40))]);
        let external = |external| WithoutLocal { internal: 1, external };
        let without_local = ByFamily { ipv4: external(2), ipv6: external(3) };
        tally.is_now(Refusals { transactions: 3, cleanups: 0 }, without_local);
        tally.answered(false, 503);
        let applied = Timestamp::from_millisecond(1_500).ok();
        let progress = ProgressState { applied, ..ProgressState::default() };
        let text = render(&tally.counts(), progress, &Family::ALL);
        let of_one = render(&tally.counts(), progress, &[Family::Ipv6]);
        assert!(!of_one.contains("IPv4"), "{of_one}");
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 2",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"} 0.02",
            "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 0",
            "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv6\"} 1",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.5",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 1",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv6\"} 3",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\",\
             ip_family=\"IPv6\"} 3",
            "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 0",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
