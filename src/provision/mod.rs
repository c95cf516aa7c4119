//! Local volumes for claims: a directory on the node where the first pod of each claim runs.
//!
//! Start at [`claim`] and [`volume`], which decide, and at `directories`, which does what is to be
//! done on disk. Every node has its own part and sees to its own claims. Architecture invariants: a
//! directory is there before the object that names it and is gone before that object goes; nothing
//! outside the root is ever touched.
//!
//! What users know is that of k3s and of Rancher's local-path-provisioner: the class `local-path`,
//! a directory `pvc-<uid>_<namespace>_<claim>` that everybody may write to.

pub mod claim;
mod directories;
mod executor;
#[cfg(test)]
mod tests;
pub mod volume;

use crate::api::ObjectKey;
use crate::api::volume::{LOCAL_PROVISIONERS, claim_class, claim_of, selected_node, volume_name};
use crate::client::{
    Cache, Client, ClientError, EventRecorder, Reporter, ResourceType, Seen, Selection, key_of,
};
use crate::control::{Attempt, ClientExecutor, Controller, Plan, Queue, run};
use crate::stdx::{Clock, Tasks, blocking, chain};
use claim::ClaimView;
use directories::Directories;
use executor::DirectoryExecutor;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::warn;
use volume::VolumeView;

/// Who makes the volumes of the class `local-path`.
pub const PROVISIONER: &str = LOCAL_PROVISIONERS[0];

/// The class that every cluster begins with.
pub const CLASS: &str = "local-path";

/// The service account, in `kube-system`.
pub const ACCOUNT: &str = "local-path-provisioner";

/// What a provisioner is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    /// All directories are here.
    pub root: PathBuf,
    pub clock: Clock,
}

/// Who makes the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// This part, where there is none of its name.
    Own,
    /// That of a server. Others may not make classes.
    Elsewhere,
}

/// What a provisioner works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// With the identity of [`ACCOUNT`].
    pub client: Client,
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    pub volumes: Arc<Cache<PersistentVolume>>,
    pub classes: Arc<Cache<StorageClass>>,
    pub nodes: Arc<Cache<Node>>,
    pub class: Class,
}

impl Parts {
    /// With caches of its own.
    #[must_use]
    pub fn watched(client: Client, tasks: &mut Tasks) -> Self {
        let everything = Selection::default;
        Self {
            claims: Cache::start(client.clone(), everything(), tasks),
            volumes: Cache::start(client.clone(), everything(), tasks),
            classes: Cache::start(client.clone(), everything(), tasks),
            nodes: Cache::start(client.clone(), everything(), tasks),
            class: Class::Own,
            client,
        }
    }
}

/// Starts this node's part. It works until its tasks are stopped.
///
/// # Errors
/// Where the root cannot be made.
pub fn start(config: Config, parts: Parts, tasks: &mut Tasks) -> io::Result<()> {
    let directories = Directories::open(config.root.clone())?;
    let client = parts.client.clone();
    let reporter = Reporter { component: PROVISIONER.to_owned(), host: config.node.clone() };
    let events = EventRecorder::start(client.clone(), reporter, config.clock.clone(), tasks);
    let executor = DirectoryExecutor {
        directories: directories.clone(),
        inner: ClientExecutor { client, events },
    };
    let provisioner = LocalProvisioner { node: config.node, root: config.root, parts };
    let queue = provisioner.queue();
    let shutdown = tasks.shutdown();
    tasks.spawn(LocalProvisioner::NAME, async move {
        let begun = async {
            if provisioner.parts.class == Class::Own {
                make_class(&provisioner.parts.client).await;
            }
            provisioner.sweep(directories).await;
        };
        if shutdown.run_until_cancelled(begun).await.is_some() {
            run(provisioner, queue, executor, config.clock, shutdown).await;
        }
    });
    Ok(())
}

/// Makes the class where there is none of its name: what its users make of it stays.
async fn make_class(client: &Client) {
    match client.create(&claim::class()).await {
        Ok(_made) => {}
        Err(ClientError::Status(status))
            if ClientError::Status(status.clone()).is_already_exists() => {}
        Err(error) => warn!(error = chain(&error), "cannot make the class {CLASS}"),
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Claim(ObjectKey),
    Volume(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(formatter, "claim {key}"),
            Self::Volume(key) => write!(formatter, "volume {key}"),
        }
    }
}

/// What was seen of either.
#[derive(Clone, Debug)]
pub enum Observed {
    Claim(ClaimView),
    Volume(VolumeView),
}

/// See the module.
#[derive(Debug)]
pub struct LocalProvisioner {
    node: String,
    root: PathBuf,
    parts: Parts,
}

impl LocalProvisioner {
    fn queue(&self) -> Queue<Key> {
        let queue = Queue::new();
        let (changed, volumes) = (queue.clone(), Arc::clone(&self.parts.volumes));
        self.parts.claims.on_change(move |change| {
            if change.new.is_some() {
                changed.add(&Key::Claim(change.key.clone()));
                return;
            }
            // Its volume may be on its way out already, and have waited for this.
            let name = change.old.as_ref().and_then(|claim| volume_name(claim).map(str::to_owned));
            let key = name.map(ObjectKey::cluster);
            if let Some(volume) = key.and_then(|key| volumes.get(&key)) {
                changed.add(&Key::Volume(key_of(&volume.metadata)));
            }
        });
        let changed = queue.clone();
        self.parts.volumes.on_change(move |change| {
            if change.new.is_some() {
                changed.add(&Key::Volume(change.key.clone()));
            }
            // A claim that has become larger waits for its volume to.
            let seen = change.new.as_deref().and_then(claim_of);
            if let Some((namespace, name)) =
                seen.and_then(|it| Some((it.namespace.clone()?, it.name.clone()?)))
            {
                changed.add(&Key::Claim(ObjectKey::namespaced(namespace, name)));
            }
        });
        let (changed, claims) = (queue.clone(), Arc::clone(&self.parts.claims));
        self.parts.classes.on_change(move |change| {
            for claim in claims.list() {
                if volume_name(&claim).is_none() && claim_class(&claim) == change.key.name {
                    changed.add(&Key::Claim(key_of(&claim.metadata)));
                }
            }
        });
        queue
    }

    fn see_claim(&self, key: &ObjectKey) -> Option<ClaimView> {
        let claim = self.parts.claims.get(key)?;
        let class = self.parts.classes.get(&ObjectKey::cluster(claim_class(&claim)));
        let volume = match volume_name(&claim) {
            Some(name) => self.parts.volumes.get(&ObjectKey::cluster(name)),
            None => self.parts.volumes.get(&ObjectKey::cluster(claim::name_of_volume(&claim))),
        };
        // Without a choice of the scheduler's, all nodes agree on one by themselves.
        let nodes = match selected_node(&claim) {
            Some(_) => self.own_node().into_iter().collect(),
            None => self.parts.nodes.list(),
        };
        let (node, root) = (self.node.clone(), self.root.clone());
        Some(ClaimView { claim, class, volume, nodes, node, root })
    }

    fn own_node(&self) -> Option<Arc<Node>> {
        self.parts.nodes.get(&ObjectKey::cluster(&*self.node))
    }

    fn see_volume(&self, key: &ObjectKey) -> Option<VolumeView> {
        let volume = self.parts.volumes.get(key)?;
        Some(VolumeView { volume, node: self.own_node(), root: self.root.clone() })
    }

    /// Takes away what a crash has left between a directory and its object, as long as it is empty.
    async fn sweep(&self, directories: Directories) {
        self.parts.claims.synced().await;
        self.parts.volumes.synced().await;
        let mut known: BTreeSet<String> = BTreeSet::new();
        known.extend(self.parts.claims.list().iter().map(|claim| claim::name_of_volume(claim)));
        known.extend(self.parts.volumes.list().iter().filter_map(|it| it.metadata.name.clone()));
        if let Err(error) = blocking(move || directories.sweep(&known)).await {
            warn!(error = chain(&error), "cannot look for directories without a volume");
        }
    }
}

impl Controller for LocalProvisioner {
    const NAME: &'static str = ACCOUNT;
    type Key = Key;
    type Observed = Observed;

    async fn observe(&self, key: &Key, _attempt: Attempt) -> Option<Observed> {
        Some(match key {
            Key::Claim(key) => Observed::Claim(self.see_claim(key)?),
            Key::Volume(key) => Observed::Volume(self.see_volume(key)?),
        })
    }

    fn plan(observed: &Observed) -> Plan {
        match observed {
            Observed::Claim(view) => claim::plan(view),
            Observed::Volume(view) => volume::plan(view),
        }
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        let Parts { claims, volumes, classes, nodes, .. } = &self.parts;
        vec![
            (ResourceType::of::<PersistentVolumeClaim>(), Arc::clone(claims) as Arc<dyn Seen>),
            (ResourceType::of::<PersistentVolume>(), Arc::clone(volumes) as Arc<dyn Seen>),
            (ResourceType::of::<StorageClass>(), Arc::clone(classes) as Arc<dyn Seen>),
            (ResourceType::of::<Node>(), Arc::clone(nodes) as Arc<dyn Seen>),
        ]
    }
}
