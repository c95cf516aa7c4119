//! Keeps a resolver up to date: the cluster from caches, overrides from a ConfigMap, other servers
//! from the node's resolv.conf.

use super::corefile::{self, BadCustom};
use super::resolv_conf;
use super::resolver::Resolver;
use crate::client::{Cache, EventRecorder, EventType, object_reference};
use crate::stdx::{blocking, chain};
use crate::sys::directory_watch::{DirectoryWatch, FileChange};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// What names come from.
#[derive(Clone, Debug)]
pub struct Sources {
    pub services: Arc<Cache<Service>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    pub namespaces: Arc<Cache<Namespace>>,
    pub nodes: Arc<Cache<Node>>,
    /// Holds the ConfigMap with overrides ([`CUSTOM`]), and no other.
    pub custom: Arc<Cache<ConfigMap>>,
}

/// Namespace and name of the ConfigMap with overrides, as k3s has it.
pub const CUSTOM: (&str, &str) = ("kube-system", "coredns-custom");

/// From here on the resolver hears of every change as it is read.
pub(super) fn follow_cluster(resolver: &Arc<Resolver>, sources: &Sources) {
    let told = Arc::clone(resolver);
    sources.services.on_change(move |change| {
        told.change(|index| index.set_service(&change.key, change.new.as_deref()));
    });
    let told = Arc::clone(resolver);
    sources.endpoint_slices.on_change(move |change| {
        told.change(|index| index.set_slice(&change.key, change.new.as_deref()));
    });
    let told = Arc::clone(resolver);
    sources.namespaces.on_change(move |change| {
        told.change(|index| index.set_namespace(&change.key.name, change.new.is_some()));
    });
    let told = Arc::clone(resolver);
    sources.nodes.on_change(move |change| {
        told.change(|index| index.set_node(&change.key.name, change.new.as_deref()));
    });
}

/// Waits until everything has been read once, and says so to the resolver.
pub(super) async fn wait_until_whole(resolver: &Resolver, sources: &Sources) {
    sources.services.synced().await;
    sources.endpoint_slices.synced().await;
    sources.namespaces.synced().await;
    resolver.change(super::index::Index::set_whole);
}

/// Keeps to what file and ConfigMap say. A ConfigMap that cannot be understood changes nothing.
pub(super) async fn follow_routes(
    resolver: &Resolver,
    path: &Path,
    sources: &Sources,
    recorder: &EventRecorder,
) {
    let (told, mut custom_changed) = watch::channel(());
    sources.custom.on_change(move |_change| told.send_replace(()));
    let mut good = BTreeMap::new();
    loop {
        // Watched from before the look, so that nothing is missed after it.
        let watches = watch_file(path);
        custom_changed.mark_unchanged();
        let servers = servers(path, resolver).await;
        debug!(?servers, "other names are asked of these");
        let files = custom(sources);
        match corefile::read(&files, &servers) {
            Ok(routes) => {
                resolver.set_routes(routes);
                good = files;
            }
            Err(error) => {
                resolver.metrics.reload_failed();
                refuse(sources, recorder, &error);
                if let Ok(routes) = corefile::read(&good, &servers) {
                    resolver.set_routes(routes);
                }
            }
        }
        tokio::select! {
            () = changed(watches, path) => {}
            changed = custom_changed.changed() => changed.expect("the cache keeps who tells"),
        }
    }
}

/// The texts of the ConfigMap; none where it is not there.
fn custom(sources: &Sources) -> BTreeMap<String, String> {
    let map = sources.custom.list().into_iter().next();
    map.and_then(|map| map.data.clone()).unwrap_or_default()
}

fn refuse(sources: &Sources, recorder: &EventRecorder, error: &BadCustom) {
    for map in sources.custom.list() {
        let name = map.metadata.name.as_deref().unwrap_or_default();
        warn!("ConfigMap {name} is not taken, what it said before stays: {error}");
        let regarding = object_reference(&*map);
        recorder.record(regarding, EventType::Warning, "NotTaken", error.to_string());
    }
}

/// Directories with the file: that of the link, and that of what it leads to.
fn watch_file(path: &Path) -> io::Result<Vec<DirectoryWatch>> {
    let mut files = vec![path.to_owned()];
    files.extend(fs::canonicalize(path));
    let mut directories: Vec<PathBuf> =
        files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
    directories.dedup();
    directories.iter().map(|directory| DirectoryWatch::open(directory)).collect()
}

/// Waits until something changes that may be the file; for ever where that cannot be seen.
async fn changed(watches: io::Result<Vec<DirectoryWatch>>, path: &Path) {
    let changed = async {
        let watches = watches?;
        let each = watches.iter().map(|watch| Box::pin(may_have_changed(watch)));
        futures_util::future::select_all(each).await.0
    };
    if let Err(error) = changed.await {
        warn!(error = chain(&error), "changes of {} are not seen", path.display());
        std::future::pending::<()>().await;
    }
}

/// Every program that writes the file calls its own something with `resolv`.
async fn may_have_changed(watch: &DirectoryWatch) -> io::Result<()> {
    loop {
        let changes = watch.changed().await?;
        let is_it = |change: &FileChange| change.name.to_string_lossy().contains("resolv");
        if changes.is_empty() || changes.iter().any(is_it) {
            return Ok(());
        }
    }
}

async fn servers(path: &Path, resolver: &Resolver) -> Vec<SocketAddr> {
    let (own, shown) = (path.to_owned(), path.display());
    match blocking(move || fs::read_to_string(own)).await {
        Ok(text) => {
            let servers = resolv_conf::servers(&text, &resolver.zone().addresses);
            if servers.is_empty() {
                info!("{shown} names no other name server: names outside the cluster are unknown");
            }
            servers
        }
        Err(error) => {
            warn!(error = chain(&error), "{shown} cannot be read: names outside are unknown");
            Vec::new()
        }
    }
}
