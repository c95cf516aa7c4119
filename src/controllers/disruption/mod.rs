//! Says of each disruption budget how many of its pods may go now.
//!
//! Start at [`plan()`]. The API server's eviction spends what is said here.

mod plan;

pub use plan::{Expected, Observed, ObservedBudget, plan};

use super::Caches;
use super::kinds::Kinds;
use super::ownership::matches;
use crate::api::ObjectKey;
use crate::api::owner::controller_of;
use crate::client::{Cache, Change, Client, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use http::Method;
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use plan::{depends_on_scale, selector, targeted_since};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Budget(ObjectKey),
    /// A pod that somebody means to disrupt.
    Pod(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(key) => write!(formatter, "{key}"),
            Self::Pod(key) => write!(formatter, "pod {key}"),
        }
    }
}

/// Looks at budgets and the pods that they select.
#[derive(Debug)]
pub struct DisruptionController {
    client: Client,
    kinds: Kinds,
    budgets: Arc<Cache<PodDisruptionBudget>>,
    deployments: Arc<Cache<Deployment>>,
    replica_sets: Arc<Cache<ReplicaSet>>,
    pods: Arc<Cache<Pod>>,
}

impl DisruptionController {
    /// `client` is asked for the scale of owners of which there is no cache.
    #[must_use]
    pub(super) fn new(client: Client, caches: &Caches, kinds: Kinds) -> Self {
        Self {
            client,
            kinds,
            budgets: Arc::clone(&caches.disruption_budgets),
            deployments: Arc::clone(&caches.deployments),
            replica_sets: Arc::clone(&caches.replica_sets),
            pods: Arc::clone(&caches.pods),
        }
    }

    /// Queues a budget when it or one of its pods changes.
    #[must_use]
    pub fn queue(&self) -> Queue<Key> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.budgets.on_change(move |change| changed.add(&Key::Budget(change.key.clone())));
        let (changed, budgets) = (queue.clone(), Arc::clone(&self.budgets));
        self.pods.on_change(move |change| {
            for key in concerned_budgets(change, &budgets) {
                changed.add(&Key::Budget(key));
            }
            if change.new.as_ref().is_some_and(|pod| targeted_since(pod).is_some()) {
                changed.add(&Key::Pod(change.key.clone()));
            }
        });
        queue
    }

    async fn observe_budget(&self, key: &ObjectKey, attempt: Attempt) -> Option<ObservedBudget> {
        let budget = self.budgets.get(key)?;
        let selector = selector(&budget)?;
        let namespace = key.namespace.as_deref()?;
        let pods = self.pods.list_where(namespace, |pod| matches(&selector, &pod.metadata));
        let expected = if depends_on_scale(&budget) {
            self.expected(namespace, &pods).await
        } else {
            Ok(Expected::default())
        };
        Some(ObservedBudget { budget, pods, expected, attempt })
    }

    /// Upstream `getExpectedScale`: every owner counts once.
    async fn expected(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<Expected, String> {
        let mut has_unmanaged = false;
        let mut owners: BTreeMap<&str, (&OwnerReference, &Pod)> = BTreeMap::new();
        for pod in pods {
            match controller_of(&pod.metadata) {
                None => has_unmanaged = true,
                Some(owner) => drop(owners.entry(&owner.uid).or_insert((owner, pod))),
            }
        }
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for (owner, pod) in owners.into_values() {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let found = self.scale_of(namespace, owner).await?;
            let (uid, scale) =
                found.ok_or_else(|| format!("found no controllers for pod {name:?}"))?;
            scales.insert(uid, scale);
        }
        let pods = scales.values().fold(0_i32, |sum, scale| sum.saturating_add(*scale));
        Ok(Expected { pods, has_unmanaged })
    }

    /// Who decides how many pods there are, and how many that are. `None` where nobody is there.
    async fn scale_of(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, String> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        if group == ReplicaSet::GROUP && owner.kind == ReplicaSet::KIND {
            return Ok(self.scale_of_set(namespace, owner));
        }
        let Some(kind) = self.kinds.find(group, &owner.kind) else {
            let (kind, version) = (&owner.kind, &owner.api_version);
            return Err(format!("no matches for kind {kind:?} in version {version:?}"));
        };
        let key = ObjectKey::namespaced(namespace, owner.name.clone());
        let path = kind.resource.object_path(&key, Some("scale"));
        let scale: Scale = match self.client.request(Method::GET, &path, None).await {
            Ok(answer) => serde_json::from_slice(&answer).map_err(|error| error.to_string())?,
            Err(error) if error.is_not_found() => {
                let whole = kind.resource.object_path(&key, None);
                let exists = self.client.request(Method::GET, &whole, None).await.is_ok();
                let problem =
                    || format!("{} does not implement the scale subresource", kind.resource);
                return if exists { Err(problem()) } else { Ok(None) };
            }
            Err(error) => return Err(crate::stdx::chain(&error)),
        };
        let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or_default();
        Ok(scale.metadata.uid.filter(|uid| *uid == owner.uid).map(|uid| (uid, replicas)))
    }

    /// A Deployment speaks for its sets.
    fn scale_of_set(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let key = |owner: &OwnerReference| ObjectKey::namespaced(namespace, owner.name.clone());
        let set = self.replica_sets.get(&key(owner))?;
        let uid = set.metadata.uid.clone().filter(|uid| *uid == owner.uid)?;
        match controller_of(&set.metadata).filter(|above| above.kind == Deployment::KIND) {
            None => Some((uid, set.spec.as_ref()?.replicas.unwrap_or(1))),
            Some(above) => {
                let deployment = self.deployments.get(&key(above))?;
                let uid = deployment.metadata.uid.clone().filter(|uid| *uid == above.uid)?;
                Some((uid, deployment.spec.as_ref()?.replicas.unwrap_or(1)))
            }
        }
    }
}

impl Controller for DisruptionController {
    const NAME: &'static str = "disruption-controller";
    type Key = Key;
    type Observed = Observed;

    async fn observe(&self, key: &Key, attempt: Attempt) -> Option<Observed> {
        match key {
            Key::Budget(key) => {
                let observed = self.observe_budget(key, attempt).await?;
                Some(Observed::Budget(Box::new(observed)))
            }
            Key::Pod(key) => Some(Observed::Target { pod: self.pods.get(key)?, attempt }),
        }
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<PodDisruptionBudget>(), Arc::clone(&self.budgets) as Arc<dyn Seen>),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
            (ResourceType::of::<ReplicaSet>(), Arc::clone(&self.replica_sets) as Arc<dyn Seen>),
            (ResourceType::of::<Deployment>(), Arc::clone(&self.deployments) as Arc<dyn Seen>),
        ]
    }
}

/// The budgets that select the pod as it is or was.
fn concerned_budgets(change: &Change<Pod>, budgets: &Cache<PodDisruptionBudget>) -> Vec<ObjectKey> {
    let Some(namespace) = &change.key.namespace else { return Vec::new() };
    let versions = || [&change.old, &change.new].into_iter().flatten();
    let selecting = budgets.list_where(namespace, |budget| {
        selector(budget)
            .is_some_and(|selector| versions().any(|pod| matches(&selector, &pod.metadata)))
    });
    selecting.iter().map(|budget| key_of(&budget.metadata)).collect()
}
