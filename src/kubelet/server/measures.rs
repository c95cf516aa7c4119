//! What the node, its containers and the kubelet use and do, in every form that somebody reads.

use super::query::Query;
use super::stats::{self, Extent, Observed, Stats};
use super::{Refusal, json_response, plain};
use crate::api::pod::{is_active, is_terminal};
use crate::kubelet::node::KUBELET_VERSION;
use crate::kubelet::static_pods::is_static;
use crate::kubelet::volumes::{MadeVolume, plugin};
use crate::kubelet::worker::Shared;
use crate::runtime::{ContainerState, RuntimeError, SandboxState};
use crate::stdx::http::Response;
use crate::stdx::{blocking, chain};
use crate::sys::load;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use stats::metrics::Own;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

pub(super) async fn answer(
    shared: &Shared,
    stats: &Stats,
    path: &[&str],
    query: &Query,
) -> Result<Response, Refusal> {
    let text = match path {
        ["stats", "summary"] => {
            let is_short = query.is_set("only_cpu_and_memory");
            let extent = if is_short { Extent::Essential } else { Extent::All };
            let observed = observe(shared, stats, extent).await?;
            return Ok(json_response(&stats::summary::render(&observed, extent)));
        }
        ["metrics"] => stats::metrics::render(&own(shared, stats).await.map_err(not_seen)?),
        ["metrics", "resource"] => {
            stats::resource::render(&observe(shared, stats, Extent::Essential).await?)
        }
        ["metrics", "cadvisor"] => {
            stats::cadvisor::render(&observe(shared, stats, Extent::All).await?)
        }
        ["metrics", "probes"] => {
            let pods = shared.all_pods();
            let uids: BTreeSet<&str> =
                pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
            let load = blocking(load::own).await.map_err(not_seen)?;
            let probes = shared.tally.probes(|uid| uids.contains(uid));
            stats::metrics::probes(&probes, load.started_at)
        }
        ["metrics", name] if shared.further_metrics.contains_key(name) => {
            (shared.further_metrics[name].0)()
        }
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    };
    Ok(plain(StatusCode::OK, text))
}

fn not_seen(error: io::Error) -> Refusal {
    Refusal::internal(format!("cannot look at the node: {}", chain(&error)))
}

async fn observe(shared: &Shared, stats: &Stats, extent: Extent) -> Result<Observed, Refusal> {
    stats.observe(shared, extent).await.map_err(not_seen)
}

async fn own(shared: &Shared, stats: &Stats) -> io::Result<Own> {
    let of_runtime = |error: RuntimeError| io::Error::other(error);
    let sandboxes = shared.runtime.sandboxes().await.map_err(of_runtime)?;
    let mut containers = BTreeMap::new();
    for container in shared.runtime.containers().await.map_err(of_runtime)? {
        let state = match container.state {
            ContainerState::Created => "created",
            ContainerState::Running { .. } => "running",
            ContainerState::Exited { .. } => "exited",
        };
        *containers.entry(state).or_default() += 1;
    }
    let static_pods = shared.statics.list().len();
    let pods = shared.all_pods();
    let active = pods.iter().filter(|pod| is_active(pod));
    let (active_static, active_of_api): (Vec<_>, Vec<_>) = active.partition(|pod| is_static(pod));
    let made = shared.volumes.all();
    Ok(Own {
        node_name: shared.config.node.name.clone(),
        version: KUBELET_VERSION,
        pods_of_api: pods.len().saturating_sub(static_pods),
        static_pods,
        running_pods: sandboxes.iter().filter(|it| it.state == SandboxState::Ready).count(),
        containers,
        active_of_api: active_of_api.len(),
        active_static: active_static.len(),
        operations: shared.tally.operations(),
        spans: shared.tally.spans(),
        happenings: shared.tally.happenings(),
        volumes_wanted: volumes_wanted(&pods, &made),
        volumes_made: tally_up(made.values().flatten().map(|volume| volume.plugin)),
        volumes: stats.volumes(shared).await,
        load: blocking(load::own).await?,
    })
}

/// What makes the volumes of pods that have not ended. What will be behind a claim is known when it
/// is made.
fn volumes_wanted(
    pods: &[Arc<Pod>],
    made: &BTreeMap<String, Vec<MadeVolume>>,
) -> BTreeMap<&'static str, usize> {
    tally_up(pods.iter().filter(|pod| !is_terminal(pod)).flat_map(|pod| {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let made = made.get(uid);
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.map(move |volume| {
            let known = made.into_iter().flatten().find(|it| it.name == volume.name);
            known.map_or_else(|| plugin(volume), |it| it.plugin)
        })
    }))
}

fn tally_up(plugins: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    plugins.for_each(|plugin| *counts.entry(plugin).or_default() += 1);
    counts
}
