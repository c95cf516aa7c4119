//! Keeps in the status of every Ingress that is served here where it is, and makes the class of this
//! cluster's ingress.
//!
//! Start at [`plan()`]. What serves them is the proxy of each node (`crate::ingress`); one writes down
//! that it does.

mod plan;

pub use plan::{Observed, plan};

use super::Caches;
use super::node_addresses::{published, serves_outside};
use crate::api::ObjectKey;
use crate::api::ingress::{CLASS, served_classes};
use crate::client::{Cache, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The class, once, when the controller starts: what users make of it later stays.
    Class,
    Ingress(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class => write!(formatter, "class {CLASS}"),
            Self::Ingress(key) => write!(formatter, "{key}"),
        }
    }
}

/// Looks at Ingresses, their classes, and the nodes that serve them.
#[derive(Debug)]
pub struct IngressController {
    ingresses: Arc<Cache<Ingress>>,
    classes: Arc<Cache<IngressClass>>,
    nodes: Arc<Cache<Node>>,
}

impl IngressController {
    #[must_use]
    pub fn new(caches: &Caches) -> Self {
        Self {
            ingresses: Arc::clone(&caches.ingresses),
            classes: Arc::clone(&caches.ingress_classes),
            nodes: Arc::clone(&caches.nodes),
        }
    }

    /// Queues an Ingress when it changes, and all of them when a class or the addresses of nodes do.
    #[must_use]
    pub fn queue(&self) -> Queue<Key> {
        let queue = Queue::new();
        queue.add(&Key::Class);
        let changed = queue.clone();
        self.ingresses.on_change(move |change| {
            if change.new.is_some() {
                changed.add(&Key::Ingress(change.key.clone()));
            }
        });
        let all = {
            let (changed, ingresses) = (queue.clone(), Arc::clone(&self.ingresses));
            move || {
                for ingress in ingresses.list() {
                    changed.add(&Key::Ingress(crate::client::key_of(&ingress.metadata)));
                }
            }
        };
        let every = all.clone();
        self.classes.on_change(move |_change| every());
        self.nodes.on_change(move |change| {
            if addresses(change.old.clone()) != addresses(change.new.clone()) {
                all();
            }
        });
        queue
    }
}

/// Where clients outside reach those of these nodes that serve them.
fn addresses(nodes: impl IntoIterator<Item = Arc<Node>>) -> BTreeSet<IpAddr> {
    let serving: Vec<_> = nodes.into_iter().filter(|node| serves_outside(node)).collect();
    published(&serving)
}

impl Controller for IngressController {
    const NAME: &'static str = "ingress-controller";
    type Key = Key;
    type Observed = Observed;

    async fn observe(&self, key: &Key, _attempt: Attempt) -> Option<Observed> {
        let classes = self.classes.list();
        Some(match key {
            Key::Class => Observed::Class { classes },
            Key::Ingress(key) => Observed::Ingress {
                ingress: self.ingresses.get(key)?,
                served: served_classes(classes.iter().map(|class| &**class)),
                addresses: addresses(self.nodes.list()),
            },
        })
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (ResourceType::of::<Ingress>(), Arc::clone(&self.ingresses) as Arc<dyn Seen>),
            (ResourceType::of::<IngressClass>(), Arc::clone(&self.classes) as Arc<dyn Seen>),
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
        ]
    }
}
