//! What the node, its containers and the kubelet use and do, in every form that somebody reads.

use super::query::Query;
use super::stats::{self, Extent, Observed, Stats};
use super::{Refusal, json_response, plain};
use crate::kubelet::node::KUBELET_VERSION;
use crate::kubelet::worker::Shared;
use crate::runtime::{ContainerState, RuntimeError, SandboxState};
use crate::stdx::http::Response;
use crate::stdx::{blocking, chain};
use crate::sys::load;
use http::StatusCode;
use stats::metrics::Own;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

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
        ["metrics"] => stats::metrics::render(&own(shared).await.map_err(not_seen)?),
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

async fn own(shared: &Shared) -> io::Result<Own> {
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
    Ok(Own {
        node_name: shared.config.node.name.clone(),
        version: KUBELET_VERSION,
        pods_of_api: shared.all_pods().len().saturating_sub(static_pods),
        static_pods,
        running_pods: sandboxes.iter().filter(|it| it.state == SandboxState::Ready).count(),
        containers,
        operations: shared.tally.operations(),
        load: blocking(load::own).await?,
    })
}
