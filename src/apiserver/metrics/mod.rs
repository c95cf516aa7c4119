//! `metrics.k8s.io/v1beta1`: what nodes and pods use, asked of their kubelets when somebody asks
//! here. Upstream has a server of its own for it (kubernetes-sigs/metrics-server, v0.8); nothing
//! is kept here, and nothing runs while nobody asks.

mod render;

use super::encoding::json_response;
use super::request::{ResourcePath, Verb};
use super::selection::{Place, Selection};
use super::server::{Asked, Server, no_such_path, not_allowed};
use super::{errors, keys};
use crate::api::status::{Details, Reason, Status};
use crate::registry;
use crate::stdx::chain;
use crate::stdx::http::{Response, read_whole};
use crate::storage::{Entry, ListRequest};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use render::{Seen, Summary};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

pub(super) const GROUP: &str = "metrics.k8s.io";
pub(super) const VERSION: &str = "v1beta1";

/// What is served: plural, kind, whether it is in namespaces.
pub(super) const RESOURCES: &[(&str, &str, bool)] =
    &[("nodes", "NodeMetrics", false), ("pods", "PodMetrics", true)];

/// What can be asked.
pub(super) const VERBS: &[&str] = &["get", "list"];

/// So many kubelets are asked at once.
const KUBELETS_AT_ONCE: usize = 16;

/// A kubelet that has not answered by then is left out.
const KUBELET_DEADLINE: Duration = Duration::from_secs(10);

/// A longer answer of a kubelet is none: a thousand containers take half of it.
const SUMMARY_BYTES_MAX: usize = 1 << 20;

/// Answers a request for a resource of the group.
pub(super) async fn answer(
    server: &Server,
    asked: &Asked,
    path: &ResourcePath,
) -> Result<Response, Status> {
    let known = RESOURCES.iter().find(|(plural, ..)| *plural == path.resource);
    let (plural, kind, is_namespaced) = *known.ok_or_else(no_such_path)?;
    if path.version != VERSION || path.subresource.is_some() {
        return Err(no_such_path());
    }
    let wants_one = match (asked.info.verb, path.namespace.is_some()) {
        (Verb::List, in_namespace) if is_namespaced || !in_namespace => false,
        (Verb::Get, in_namespace) if is_namespaced == in_namespace => true,
        (Verb::List | Verb::Get, _) => return Err(no_such_path()),
        _ => return Err(not_allowed()),
    };
    let namespace = path.namespace.as_deref();
    let selected = select(server, asked, plural, (namespace, path.name.as_deref())).await?;
    let items = match plural {
        "nodes" => nodes(server, &selected).await,
        _ => pods(server, &selected).await,
    };
    let body = if wants_one {
        items.into_iter().next().ok_or_else(|| not_found(kind, path))?
    } else {
        let api_version = format!("{GROUP}/{VERSION}");
        json!({
            "kind": format!("{kind}List"), "apiVersion": api_version, "metadata": {},
            "items": items,
        })
    };
    Ok(json_response(StatusCode::OK, body.to_string()))
}

fn not_found(kind: &str, path: &ResourcePath) -> Status {
    let resource = kind.to_ascii_lowercase();
    let name = path.name.clone().unwrap_or_default();
    let shown = match &path.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    let message = format!("{resource}.{GROUP} {shown:?} not found");
    let details =
        Details { name: shown, group: GROUP.to_owned(), kind: resource, ..Details::default() };
    Status { details: Box::new(details), ..Status::new(Reason::NotFound, message) }
}

/// The stored objects of the core group that are asked about.
async fn select(
    server: &Server,
    asked: &Asked,
    plural: &str,
    place: (Option<&str>, Option<&str>),
) -> Result<Vec<Seen>, Status> {
    let kind = registry::find("", "v1", plural).ok_or_else(no_such_path)?;
    let selection = Selection::parse(&kind.into(), place, &asked.query)?;
    let entries: Vec<Entry> = match &selection.place {
        Place::Nowhere => Vec::new(),
        Place::Key(key) => {
            let lookup = server.store.get(key).await;
            lookup.map_err(|error| errors::of_read(&error))?.entry.into_iter().collect()
        }
        Place::Prefix(prefix) => {
            let prefix = prefix.clone();
            let request = ListRequest { prefix, after: None, limit: None, at: None };
            let read = server.store.list(request).await;
            read.map_err(|error| errors::of_read(&error))?.entries
        }
    };
    let matching = entries.into_iter().filter(|entry| selection.matches(&entry.key, &entry.value));
    let seen = matching.map(|entry| {
        let (namespace, name) = keys::segments(kind, &entry.key);
        Seen::read(namespace, name, &entry.value)
    });
    Ok(seen.collect())
}

async fn nodes(server: &Server, selected: &[Seen]) -> Vec<Value> {
    let names = selected.iter().map(|node| node.name.clone()).collect();
    let summaries = summaries(server, names).await;
    let metrics = selected.iter().filter_map(|node| {
        let summary = summaries.get(&node.name)?;
        render::node(node, summary)
    });
    metrics.collect()
}

async fn pods(server: &Server, selected: &[Seen]) -> Vec<Value> {
    let nodes = selected.iter().filter(|pod| pod.is_running).map(|pod| pod.node.clone()).collect();
    let summaries = summaries(server, nodes).await;
    let metrics = selected.iter().filter_map(|pod| {
        let summary = summaries.get(&pod.node)?;
        render::pod(pod, summary)
    });
    metrics.collect()
}

/// What the kubelets of these nodes say. Those that say nothing are left out.
async fn summaries(server: &Server, nodes: BTreeSet<String>) -> BTreeMap<String, Summary> {
    let ask = |node: String| async move {
        let asked = tokio::time::timeout(KUBELET_DEADLINE, summary(server, &node)).await;
        let summary = match asked {
            Ok(Ok(summary)) => Some(summary),
            Ok(Err(error)) => {
                debug!(node, error = chain(&error), "a kubelet does not say what is used");
                None
            }
            Err(_elapsed) => None,
        };
        Some((node, summary?))
    };
    stream::iter(nodes)
        .map(ask)
        .buffer_unordered(KUBELETS_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn summary(server: &Server, node: &str) -> io::Result<Summary> {
    let request = http::Request::get("/stats/summary?only_cpu_and_memory=true");
    let request = request.body(Bytes::new()).map_err(io::Error::other)?;
    let nodes = Arc::clone(&server.nodes);
    let response = nodes.call(node, request).await?;
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(format!("it answers {}", response.status())));
    }
    let body = read_whole(response.into_body(), SUMMARY_BYTES_MAX).await?;
    Ok(serde_json::from_slice(&body)?)
}
