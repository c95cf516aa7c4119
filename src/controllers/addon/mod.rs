//! Manifests that are applied by themselves: what is in the files of a directory is in the cluster, and
//! what goes from them goes from it (docs/decisions/0035).
//!
//! Start at [`plan`], which decides what is to be done about each file; [`files`] says what
//! there is, [`manifest`] what it means, [`apply`] does what was decided, and an AddOn ([`kind`]) in
//! `kube-system` says what has come of it ([`outcome`]) and remembers what was made.
//!
//! This has a loop of its own: what it looks at is files, and each object of a file has an outcome that
//! its AddOn tells, where other controllers try again as a whole. A directory without manifests costs
//! a watch on it, and nothing in the API.

mod apply;
mod files;
mod kind;
mod manifest;
mod memory;
mod object;
mod outcome;
mod plan;

use super::Caches;
use super::definition::Definition;
use crate::api::ObjectKey;
use crate::client::{Cache, Client, ClientError, EventRecorder, Reporter, Selection};
use crate::stdx::{Clock, Tasks, chain, monotonic};
use apply::Applier;
use files::{Found, ManifestFiles, Scan};
use k8s_openapi::api::core::v1::Namespace;
use kind::{API_VERSION, AddOn, KIND, NAMESPACE};
use memory::{BACKOFF, Ended, Memory};
use object::ServedKinds;
use plan::{FileView, Observed};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const NAME: &str = "addon-controller";

/// Why a look at the directory came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the manifests in {directory} cannot be read")]
    Files {
        directory: String,
        #[source]
        source: io::Error,
    },
    #[error("AddOns cannot be listed")]
    Remembered(#[source] ClientError),
    #[error("the kind AddOn cannot be defined")]
    Define(#[source] ClientError),
    #[error("what has come of {source_file} cannot be written")]
    Write {
        source_file: String,
        #[source]
        source: ClientError,
    },
}

/// See the module.
#[derive(Debug)]
struct AddOnController {
    files: ManifestFiles,
    applier: Applier,
    definitions: Arc<Cache<Definition>>,
    namespaces: Arc<Cache<Namespace>>,
    kinds_changed: Arc<Notify>,
    namespaces_changed: Arc<Notify>,
    memory: Memory,
    /// The kind AddOn was defined by this process, as this version has it.
    is_defined: bool,
    /// It is not served yet.
    awaits_kind: bool,
    /// Looks that came to nothing, and when to look again.
    failures: u32,
    retry_at: Option<Instant>,
}

/// Begins to apply what is in `directory`, as somebody who may do everything.
pub(super) fn start(
    client: Client,
    caches: &Caches,
    clock: &Clock,
    directory: PathBuf,
    tasks: &mut Tasks,
) {
    let reporter = Reporter { component: NAME.to_owned(), host: String::new() };
    let events = EventRecorder::start(client.clone(), reporter, clock.clone(), tasks);
    let (kinds_changed, namespaces_changed) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (kinds, namespaces) = (Arc::clone(&kinds_changed), Arc::clone(&namespaces_changed));
    caches.definitions.on_change(move |_| kinds.notify_one());
    caches.namespaces.on_change(move |_| namespaces.notify_one());
    let controller = AddOnController {
        files: ManifestFiles::watch(directory),
        applier: Applier { client, events, clock: clock.clone() },
        definitions: Arc::clone(&caches.definitions),
        namespaces: Arc::clone(&caches.namespaces),
        kinds_changed,
        namespaces_changed,
        memory: Memory::default(),
        is_defined: false,
        awaits_kind: false,
        failures: 0,
        retry_at: None,
    };
    tasks.spawn(NAME, controller.run(tasks.shutdown()));
}

impl AddOnController {
    async fn run(mut self, shutdown: CancellationToken) {
        let follow = async {
            tokio::join!(self.definitions.synced(), self.namespaces.synced());
            loop {
                match self.look().await {
                    Ok(()) => (self.failures, self.retry_at) = (0, None),
                    Err(error) => {
                        warn!(error = chain(&error), "manifests are not applied; will try again");
                        self.failures = self.failures.saturating_add(1);
                        self.retry_at = Some(monotonic() + BACKOFF.delay(self.failures));
                    }
                }
                self.wait().await;
            }
        };
        // A file that is being applied is gone on with at the next start.
        shutdown.run_until_cancelled(follow).await;
    }

    /// Looks at all files once, and does what is to be done.
    async fn look(&mut self) -> Result<(), LookError> {
        let kinds = ServedKinds::new(self.definitions.list());
        let addons = self.remembered(&kinds).await?;
        let found = self.scan(&addons).await?;
        let (files, mut read) = self.memory.take(found);
        let has_any = files.values().any(|file| *file != FileView::Kept);
        if !has_any && addons.is_empty() {
            return Ok(());
        }
        let is_served = kinds.find(API_VERSION, KIND).is_some();
        if !self.is_defined || !is_served {
            self.applier.define().await.map_err(LookError::Define)?;
            self.is_defined = true;
        }
        if !is_served {
            // The next look is when it is.
            self.awaits_kind = true;
            return Ok(());
        }
        let due = self.memory.due();
        let observed = Observed { files: &files, addons: &addons, due: &due, kinds: &kinds };
        let mut failed = None;
        for job in plan::plan(&observed) {
            let wanted = read.remove(&job.source).unwrap_or_default();
            let ended = self.applier.carry_out(&job, wanted, &kinds).await;
            let (source, now) = (job.source.as_str(), monotonic());
            match ended {
                Ok(None) => self.memory.end(source, Ended::Well, now),
                Ok(Some(outcomes)) => self.memory.end(source, Ended::With(&outcomes), now),
                Err(source_error) => {
                    self.memory.end(source, Ended::Badly, now);
                    let source_file = job.source.clone();
                    failed = Some(LookError::Write { source_file, source: source_error });
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What was made of each file.
    async fn remembered(&self, kinds: &ServedKinds) -> Result<BTreeMap<String, AddOn>, LookError> {
        if kinds.find(API_VERSION, KIND).is_none() {
            return Ok(BTreeMap::new());
        }
        let all = self.applier.client.list::<AddOn>(&Selection::namespace(NAMESPACE)).await;
        let all = all.map_err(LookError::Remembered)?.items;
        Ok(all.into_iter().map(|addon| (addon.spec.source.clone(), addon)).collect())
    }

    async fn scan(
        &self,
        addons: &BTreeMap<String, AddOn>,
    ) -> Result<BTreeMap<String, Found>, LookError> {
        let known = self.memory.known(|source| addons.contains_key(source));
        let scanned = async {
            match self.files.scan(known).await? {
                Scan::Files(found) => Ok(found),
                Scan::Missing if addons.is_empty() => {
                    self.files.make().await?;
                    // From now on it is watched.
                    match self.files.scan(BTreeMap::new()).await? {
                        Scan::Files(found) => Ok(found),
                        Scan::Missing => Ok(BTreeMap::new()),
                    }
                }
                // The files of a cluster that was restored on another machine, say.
                Scan::Missing => {
                    let problem = "it is not there: what was applied from it stays; to have it \
                                   pruned, make the directory";
                    Err(io::Error::new(io::ErrorKind::NotFound, problem))
                }
            }
        };
        let directory = self.files.directory().display().to_string();
        scanned.await.map_err(|source| LookError::Files { directory, source })
    }

    /// Waits until there is a reason to look again.
    async fn wait(&mut self) {
        loop {
            let retry_at = [self.memory.next_retry(), self.retry_at].into_iter().flatten().min();
            let retry = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.files.changed() => return,
                () = retry => {
                    self.memory.rouse_late(monotonic());
                    return;
                }
                () = self.kinds_changed.notified() => {
                    let kinds = ServedKinds::new(self.definitions.list());
                    let is_here = self.awaits_kind && kinds.find(API_VERSION, KIND).is_some();
                    self.awaits_kind &= !is_here;
                    if self.memory.rouse_by_kinds(&kinds) || is_here {
                        return;
                    }
                }
                () = self.namespaces_changed.notified() => {
                    let namespaces = Arc::clone(&self.namespaces);
                    let is_there = |name: &str| {
                        let namespace = namespaces.get(&ObjectKey::cluster(name));
                        namespace.is_some_and(|it| it.metadata.deletion_timestamp.is_none())
                    };
                    if self.memory.rouse_by_namespaces(is_there) {
                        return;
                    }
                }
            }
        }
    }
}
