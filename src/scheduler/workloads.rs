//! Which pods belong together: the selectors of Services and of what creates pods.

use super::pod::{Ask, Labels};
use crate::api::ObjectKey;
use crate::api::labels::Selector;
use std::collections::BTreeMap;

/// Selectors, read once.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    /// By namespace and name.
    services: BTreeMap<String, BTreeMap<String, Labels>>,
    /// Of ReplicationControllers, ReplicaSets and StatefulSets, by kind and key.
    owners: BTreeMap<(String, ObjectKey), Selector>,
}

impl Workloads {
    pub(super) fn set_service(&mut self, key: &ObjectKey, selector: Option<Labels>) {
        let services = self.services.entry(key.namespace.clone().unwrap_or_default()).or_default();
        match selector {
            Some(selector) => drop(services.insert(key.name.clone(), selector)),
            None => drop(services.remove(&key.name)),
        }
    }

    pub(super) fn set_owner(&mut self, kind: &str, key: &ObjectKey, selector: Option<Selector>) {
        let at = (kind.to_owned(), key.clone());
        match selector {
            Some(selector) => drop(self.owners.insert(at, selector)),
            None => drop(self.owners.remove(&at)),
        }
    }

    /// Selects the pods that do the same as this one; `None` where it is on its own (upstream
    /// `DefaultSelector`, plugins/helper/spread.go, v1.35).
    pub(super) fn selector_of(&self, pod: &Ask) -> Option<Selector> {
        let services = self.services.get(&pod.namespace).into_iter().flat_map(BTreeMap::values);
        let chosen = services
            .filter(|wanted| wanted.iter().all(|(key, value)| pod.labels.get(key) == Some(value)));
        let labels: Labels =
            chosen.flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let selector = Selector::of_labels(&labels);
        let owner = pod.owner.as_ref().and_then(|(kind, name)| {
            let key = ObjectKey::namespaced(&pod.namespace, name);
            self.owners.get(&(kind.clone(), key))
        });
        let selector = match owner {
            Some(owner) => selector.and(owner),
            None => selector,
        };
        (!selector.is_everything()).then_some(selector)
    }
}
