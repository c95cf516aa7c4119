//! What the workers of all pods have in common.

use super::Bell;
use crate::api::ObjectKey;
use crate::api::pod::{Amounts, amounts};
use crate::client::{Cache, Client, EventRecorder, key_of};
use crate::kubelet::container::classes::NodeShare;
use crate::kubelet::container::security::Confinement;
use crate::kubelet::eviction::Evictions;
use crate::kubelet::exits::Exits;
use crate::kubelet::images::ImageFetcher;
use crate::kubelet::ledger::Ledger;
use crate::kubelet::node::NodeKeeper;
use crate::kubelet::pod::BoundPod;
use crate::kubelet::references::ReferenceCaches;
use crate::kubelet::shutdown::Shutdown;
use crate::kubelet::static_pods::{StaticPods, is_static, mirrored};
use crate::kubelet::tally::Tally;
use crate::kubelet::volumes::VolumeBook;
use crate::kubelet::{Config, Exposed};
use crate::network::PodNetwork;
use crate::runtime::Runtime;
use crate::stdx::Clock;
use k8s_openapi::api::core::v1::{Pod, Service};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// So many sandboxes and containers are made at once; others wait for their turn. Making one is
/// mostly processor time, and more side by side make each of them late.
const STARTS_AT_ONCE_MAX: usize = 8;

/// What the workers need to know of their node, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::kubelet) struct NodeState {
    /// The primary one first.
    pub(in crate::kubelet) addresses: Vec<IpAddr>,
    /// What the node can give to pods; empty before it has registered.
    pub(in crate::kubelet) allocatable: Amounts,
    pub(in crate::kubelet) memory_bytes: u64,
}

#[derive(Debug)]
pub(in crate::kubelet) struct Shared {
    pub(in crate::kubelet) config: Config,
    pub(in crate::kubelet) client: Client,
    pub(in crate::kubelet) runtime: Arc<dyn Runtime>,
    pub(in crate::kubelet) network: Arc<dyn PodNetwork>,
    pub(in crate::kubelet) events: EventRecorder,
    pub(in crate::kubelet) clock: Clock,
    /// The pods that are bound to this node.
    pub(in crate::kubelet) pods: Arc<Cache<Pod>>,
    pub(in crate::kubelet) services: Arc<Cache<Service>>,
    pub(in crate::kubelet) further_metrics: BTreeMap<&'static str, Exposed>,
    pub(in crate::kubelet) references: ReferenceCaches,
    pub(in crate::kubelet) images: ImageFetcher,
    pub(in crate::kubelet) keeper: NodeKeeper,
    pub(in crate::kubelet) share: NodeShare,
    pub(in crate::kubelet) confinement: Confinement,
    /// Whether pods can be put on the network.
    pub(in crate::kubelet) network_open: watch::Receiver<bool>,
    pub(in crate::kubelet) starts: Semaphore,
    /// The right to ask one probe more at once.
    pub(in crate::kubelet) questions: Semaphore,
    pub(in crate::kubelet) statics: StaticPods,
    /// Touched when a pod comes, goes or changes.
    pub(in crate::kubelet) changes: watch::Sender<()>,
    pub(in crate::kubelet) ledger: Ledger,
    pub(in crate::kubelet) bell: Bell,
    pub(in crate::kubelet) evictions: Evictions,
    pub(in crate::kubelet) shutdown: Shutdown,
    pub(in crate::kubelet) exits: Exits,
    pub(in crate::kubelet) tally: Arc<Tally>,
    pub(in crate::kubelet) volumes: VolumeBook,
}

impl Shared {
    /// The right to make one thing more at once.
    pub(in crate::kubelet) fn starts() -> Semaphore {
        Semaphore::new(STARTS_AT_ONCE_MAX)
    }

    pub(in crate::kubelet) fn node(&self) -> NodeState {
        let node = self.keeper.node();
        let status = node.as_ref().and_then(|node| node.status.as_ref());
        NodeState {
            addresses: self.config.node.addresses.clone(),
            allocatable: amounts(status.and_then(|status| status.allocatable.as_ref())),
            memory_bytes: self.share.memory_bytes,
        }
    }

    /// The pod as its source has it now, whether that is the API or a file. The status is the
    /// API's, where it knows the pod.
    pub(in crate::kubelet) fn pod(&self, key: &ObjectKey, uid: &str) -> Option<Arc<Pod>> {
        if let Some(object) = self.statics.get(uid) {
            let mirror = self.pods.get(key).filter(|mirror| mirrored(mirror) == Some(uid));
            return Some(match mirror {
                Some(mirror) => {
                    Arc::new(Pod { status: mirror.status.clone(), ..Pod::clone(&object) })
                }
                None => object,
            });
        }
        self.pods.get(key).filter(|object| object.metadata.uid.as_deref() == Some(uid))
    }

    /// The pods that this node is to run, each with its newest status that anybody knows.
    pub(in crate::kubelet) fn all_pods(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.list();
        pods.retain(|pod| mirrored(pod).is_none());
        pods.extend(self.statics.list_with_status());
        pods
    }

    /// The pod of that name, as it runs here: a static pod has a uid of its own, and may be asked for
    /// by that or by the one of its mirror.
    pub(in crate::kubelet) fn pod_named(
        &self,
        key: &ObjectKey,
        uid: Option<&str>,
    ) -> Option<Arc<Pod>> {
        let has_uid = |pod: &Pod| uid.is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid));
        let shown = self.pods.get(key);
        if shown.as_deref().is_some_and(|pod| mirrored(pod).is_none()) {
            return shown.filter(|pod| has_uid(pod));
        }
        let mut statics = self.statics.list_with_status().into_iter();
        let found = statics.find(|pod| key_of(&pod.metadata) == *key)?;
        (has_uid(&found) || shown.is_some_and(|mirror| has_uid(&mirror))).then_some(found)
    }

    /// The pods of this node are others, or have changed.
    pub(in crate::kubelet) fn pods_changed(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The uid by which the API knows a pod; `None` for a static one that it does not show yet.
    pub(in crate::kubelet) fn uid_in_api(&self, pod: &BoundPod) -> Option<String> {
        if !is_static(pod.object()) {
            return Some(pod.uid().to_owned());
        }
        let mirror = self.pods.get(&pod.key()).filter(|it| mirrored(it) == Some(pod.uid()))?;
        mirror.metadata.uid.clone()
    }

    pub(in crate::kubelet) fn is_network_open(&self) -> bool {
        *self.network_open.borrow()
    }
}
