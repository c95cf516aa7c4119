//! Keeps the kernel's rules as what is known has them to be: watches, plans, applies.
//!
//! What changes while nft runs is joined into the next transaction. Nothing is applied before
//! everything is known: until then the rules of an earlier process stand.

use super::known::Known;
use super::model::Model;
use super::plan::plan;
use super::render::{TABLE, changes, leftovers, whole};
use super::view::{NamespaceView, PodView};
use crate::client::watch::{Item, Watcher};
use crate::client::{Client, ResourceType, Selection, Watched};
use crate::stdx::{Backoff, chain};
use crate::sys::nft::{Author, Heard};
use crate::sys::nft_text;
use crate::sys::process::ProcessError;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

/// How long after nft refused it is tried again.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };

const JSON: &str = "application/json";

/// What the tasks share with those who attach pods.
#[derive(Debug)]
pub(super) struct Keeper {
    known: Mutex<Known>,
    changed: Notify,
    /// Somebody took the rules away.
    is_lost: AtomicBool,
    /// Pods and namespaces are watched as long as there are policies.
    has_policies: watch::Sender<bool>,
    /// The newest change that the kernel has.
    applied: watch::Sender<u64>,
    /// Tells of each look at policies.
    looked: watch::Sender<()>,
    author: Author,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
            changed: Notify::new(),
            is_lost: AtomicBool::new(false),
            has_policies: watch::Sender::new(false),
            applied: watch::Sender::new(0),
            looked: watch::Sender::new(()),
            author: Author::default(),
        }
    }

    /// Changes what is known, and has the rules follow.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.lock();
        let before = known.change();
        let result = change(&mut known);
        let (has_policies, is_changed) = (known.has_policies(), known.change() != before);
        drop(known);
        self.has_policies
            .send_if_modified(|known| std::mem::replace(known, has_policies) != has_policies);
        if is_changed {
            self.changed.notify_one();
        }
        result
    }

    /// Waits until the kernel has every change through this one.
    pub(super) async fn applied(&self, change: u64) {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= change).await;
        reached.expect("the sender is in self");
    }

    /// Waits until what is known is as wanted. Asked after each change of policies.
    pub(super) async fn wait_known(&self, is_wanted: impl Fn(&Known) -> bool) {
        let mut looked = self.looked.subscribe();
        while !is_wanted(&self.lock()) {
            looked.changed().await.expect("the sender is in self");
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn keep(&self, client: Client) {
        let policies = async {
            let mut policies =
                Watcher::with_seldom_bookmarks(client.clone(), &Selection::default());
            loop {
                let item = policies.next().await;
                let revision = policies.revision();
                self.update(|known| known.take_policies(item, revision));
                self.looked.send_replace(());
            }
        };
        tokio::join!(policies, self.watch_peers(&client), self.apply_forever(), self.watch_rules());
    }

    async fn watch_rules(&self) {
        let watching = async {
            let mut others = self.author.others(TABLE)?;
            loop {
                let is_lost = match others.changed().await? {
                    Heard::Changed => true,
                    // Most likely they were our own.
                    Heard::TooMuch => !nft_text::has_table(TABLE).await.unwrap_or(true),
                };
                if is_lost {
                    self.is_lost.store(true, Ordering::Relaxed);
                    self.changed.notify_one();
                }
            }
        };
        let failure: Result<(), io::Error> = watching.await;
        if let Err(error) = failure {
            warn!(error = chain(&error), "rules that somebody takes away are not written again");
        }
    }

    async fn watch_peers(&self, client: &Client) {
        let mut has_policies = self.has_policies.subscribe();
        loop {
            has_policies.wait_for(|has| *has).await.expect("the sender is in self");
            let pods = self.feed::<PodView>(client, ResourceType::of::<Pod>(), Known::take_pods);
            let namespaces = ResourceType::of::<Namespace>();
            let namespaces = self.feed::<NamespaceView>(client, namespaces, Known::take_namespaces);
            // Whoever keeps what was found keeps everybody from saying anything else.
            let no_policies = async { has_policies.wait_for(|has| !has).await.map(drop) };
            tokio::select! {
                () = pods => {}
                () = namespaces => {}
                _ended = no_policies => self.update(Known::forget_peers),
            }
        }
    }

    async fn feed<T: Watched>(
        &self,
        client: &Client,
        resource: ResourceType,
        take: fn(&mut Known, Item<T>),
    ) {
        let mut watcher = Watcher::of_type(client.clone(), resource, &Selection::default(), JSON);
        loop {
            let item = watcher.next().await;
            self.update(|known| take(known, item));
        }
    }

    async fn apply_forever(&self) {
        // What the kernel has, where that is known.
        let mut has: Option<Model> = None;
        let mut failures = 0;
        loop {
            self.changed.notified().await;
            let Some((world, change)) = self.lock().complete() else { continue };
            // Without rules there is nothing to lose.
            if self.is_lost.swap(false, Ordering::Relaxed)
                && has.as_ref().is_some_and(|has| !has.is_empty())
            {
                warn!("somebody changed the rules of network policies; they are written again");
                has = None;
            }
            let wanted = plan(&world);
            drop(world);
            match self.apply(has.as_ref(), &wanted).await {
                Ok(()) => {
                    tell(has.as_ref(), &wanted);
                    (has, failures) = (Some(wanted), 0);
                    self.applied.send_replace(change);
                }
                Err(error) => {
                    // All of it is written then: whatever the kernel has, it is not what was meant.
                    (has, failures) = (None, failures + 1);
                    warn!(error = chain(&error), "the rules of network policies cannot be changed");
                    tokio::time::sleep(RETRY.delay(failures)).await;
                    self.changed.notify_one();
                }
            }
        }
    }

    async fn apply(&self, has: Option<&Model>, wanted: &Model) -> Result<(), ProcessError> {
        match has {
            None => self.author.apply(&whole(wanted)).await,
            Some(has) => {
                self.author.apply(&changes(has, wanted)).await?;
                self.author.apply(&leftovers(has, wanted)).await
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panics under this lock")
    }
}

/// Says when policies begin or cease to be enforced on this node.
fn tell(has: Option<&Model>, wanted: &Model) {
    match (has.is_some_and(|has| !has.is_empty()), !wanted.is_empty()) {
        (false, true) => info!("network policies are about pods of this node"),
        (true, false) => info!("network policies are not about any pod of this node any more"),
        _ => {}
    }
}
