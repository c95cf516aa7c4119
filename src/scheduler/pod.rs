//! What the plugins ask of a pod, read from it once.
//!
//! Architecture invariant: equal [`Ask`]s are placed alike. Whatever a plugin looks at is in there,
//! and nothing that differs between the replicas of one workload.

use super::resources::Resources;
use crate::api::host_port::{HostPort, host_ports};
use crate::api::labels::Selector;
use crate::api::volume::{ClaimKind, claim_used};
use crate::api::{ObjectKey, node_selector, owner};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeSelector, Pod, PodAffinityTerm, PodSpec, PreferredSchedulingTerm,
    Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) type Labels = BTreeMap<String, String>;

/// For objects without labels.
pub(super) static NO_LABELS: Labels = Labels::new();

/// A pod with what the plugins ask of it.
#[derive(Clone, Debug)]
pub(super) struct PodFacts {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    pub(super) pod: Arc<Pod>,
    pub(super) ask: Arc<Ask>,
}

impl PodFacts {
    pub(super) fn new(key: ObjectKey, pod: Arc<Pod>) -> Self {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let ask = Arc::new(Ask::of(&pod));
        Self { key, uid, pod, ask }
    }

    /// As [`PodFacts::new`], for a pod that is known already: what has not changed is not read again.
    pub(super) fn renewed(&self, pod: Arc<Pod>) -> Self {
        if is_alike(&self.pod, &pod) {
            return Self { pod, ..self.clone() };
        }
        let facts = Self::new(self.key.clone(), pod);
        if facts.ask == self.ask { Self { ask: Arc::clone(&self.ask), ..facts } } else { facts }
    }

    pub(super) fn namespace(&self) -> &str {
        self.key.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn priority(&self) -> i32 {
        self.ask.priority
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// The node where room is being made for the pod.
    pub(super) fn nominated_node(&self) -> Option<&str> {
        let status = self.pod.status.as_ref()?;
        status.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }
}

fn is_alike(old: &Pod, new: &Pod) -> bool {
    let sizes = |pod: &Pod| {
        let status = pod.status.as_ref()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        Some(
            all.map(|one| (one.allocated_resources.clone(), one.resources.clone()))
                .collect::<Vec<_>>(),
        )
    };
    has_same_spec(old, new)
        && old.metadata.labels == new.metadata.labels
        && old.metadata.owner_references == new.metadata.owner_references
        && sizes(old) == sizes(new)
}

/// Every change of the spec but a binding begins a new generation.
fn has_same_spec(old: &Pod, new: &Pod) -> bool {
    match (old.metadata.generation, new.metadata.generation) {
        (Some(old), Some(new)) => old == new,
        _ => old.spec == new.spec,
    }
}

/// Everything about a pod that a placement depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ask {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) priority: i32,
    /// Whether less important pods may have to go for this one.
    pub(super) may_preempt: bool,
    pub(super) requests: Resources,
    pub(super) requests_for_scoring: Resources,
    pub(super) node_selector: Labels,
    pub(super) node_affinity: Option<NodeSelector>,
    pub(super) node_wishes: Vec<PreferredSchedulingTerm>,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) ports: Vec<HostPort>,
    pub(super) images: Vec<String>,
    pub(super) containers: usize,
    pub(super) affinity: PodTerms,
    pub(super) spread: Vec<SpreadConstraint>,
    pub(super) claims: Vec<ClaimUse>,
    pub(super) disks: Vec<Disk>,
    /// Kind and name of the controller.
    pub(super) owner: Option<(String, String)>,
}

/// A claim among the pod's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimUse {
    pub(super) key: ObjectKey,
    pub(super) kind: ClaimKind,
}

/// Terms about other pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodTerms {
    pub(super) near: Vec<Term>,
    pub(super) apart: Vec<Term>,
    /// With weights; those of anti-affinity are negative.
    pub(super) wishes: Vec<(i64, Term)>,
}

impl PodTerms {
    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.apart.is_empty() && self.wishes.is_empty()
    }
}

/// Which pods a term is about, and over which domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) namespaces: BTreeSet<String>,
    pub(super) namespace_selector: Selector,
    pub(super) selector: Selector,
    pub(super) topology_key: String,
}

impl Term {
    /// Upstream `newAffinityTerm`: without namespaces and without a selector of them, the term is
    /// about the namespace of its own pod. A selector that cannot be read selects nothing.
    fn new(term: &PodAffinityTerm, own_namespace: &str) -> Self {
        let mut namespaces: BTreeSet<_> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(own_namespace.to_owned());
        }
        let selector = |selector: Option<&_>| {
            Selector::of_object(selector).unwrap_or_else(|_| Selector::nothing())
        };
        Self {
            namespaces,
            namespace_selector: selector(term.namespace_selector.as_ref()),
            selector: selector(term.label_selector.as_ref()),
            topology_key: term.topology_key.clone(),
        }
    }

    pub(super) fn covers_namespace(&self, namespace: &str, labels: &Labels) -> bool {
        self.namespaces.contains(namespace) || self.namespace_selector.matches(labels)
    }

    /// `namespace_labels` are those of the pod's namespace.
    pub(super) fn matches(&self, pod: &Ask, namespace_labels: &Labels) -> bool {
        self.selector.matches(&pod.labels)
            && self.covers_namespace(&pod.namespace, namespace_labels)
    }
}

/// How far the numbers of pods in two domains may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpreadConstraint {
    pub(super) max_skew: i64,
    pub(super) topology_key: String,
    pub(super) selector: Selector,
    pub(super) min_domains: usize,
    /// Whether nodes count that the pod's node affinity does not allow.
    pub(super) honors_affinity: bool,
    /// Whether nodes count only where the pod tolerates their taints.
    pub(super) honors_taints: bool,
    /// Whether a node is refused over it, or is only worse.
    pub(super) is_hard: bool,
}

impl SpreadConstraint {
    fn new(constraint: &TopologySpreadConstraint) -> Self {
        let selector = constraint.label_selector.as_ref();
        let is = |policy: &Option<String>, wanted: &str, otherwise: bool| {
            policy.as_deref().map_or(otherwise, |policy| policy == wanted)
        };
        let min_domains = constraint.min_domains.and_then(|least| usize::try_from(least).ok());
        Self {
            max_skew: i64::from(constraint.max_skew),
            topology_key: constraint.topology_key.clone(),
            selector: Selector::of_object(selector).unwrap_or_else(|_| Selector::nothing()),
            min_domains: min_domains.unwrap_or(1),
            honors_affinity: is(&constraint.node_affinity_policy, "Honor", true),
            honors_taints: is(&constraint.node_taints_policy, "Honor", false),
            is_hard: constraint.when_unsatisfiable == "DoNotSchedule",
        }
    }
}

/// A disk that a pod names itself, and that two pods of one node cannot always share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// What two volumes of the same disk have in common; Ceph images by each of their monitors.
    pub(super) names: Vec<String>,
    /// Such disks can be shared by readers.
    pub(super) is_read_only: bool,
}

impl Disk {
    /// Upstream `isVolumeConflict` (plugins/volumerestrictions, v1.35).
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        self.names.iter().any(|name| other.names.contains(name))
            && !(self.is_read_only && other.is_read_only)
    }
}

impl Ask {
    fn of(pod: &Pod) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let owner = owner::controller_of(&pod.metadata);
        let owner = owner.map(|owner| (owner.kind.clone(), owner.name.clone()));
        let Some(spec) = &pod.spec else {
            return Self { namespace, labels, owner, ..Self::default() };
        };
        let sized = super::resources::with_actual_sizes(pod, spec);
        let affinity = spec.affinity.as_ref();
        let node_affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
        let node_wishes = node_affinity.and_then(|affinity| {
            affinity.preferred_during_scheduling_ignored_during_execution.clone()
        });
        let volumes = spec.volumes.iter().flatten();
        let claims = volumes.clone().filter_map(|volume| claim_used(pod, volume));
        Self {
            affinity: affinity.map(|affinity| pod_terms(affinity, &namespace)).unwrap_or_default(),
            priority: spec.priority.unwrap_or_default(),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            requests: Resources::of_pod(&sized),
            requests_for_scoring: Resources::of_pod_for_scoring(&sized),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            node_affinity: node_selector::required_affinity(spec).cloned(),
            node_wishes: node_wishes.unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            ports: host_ports(spec),
            images: each_container(spec)
                .filter_map(|one| one.image.as_deref())
                .map(image_name)
                .collect(),
            containers: each_container(spec).count(),
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(SpreadConstraint::new)
                .collect(),
            claims: claims.map(|(key, kind)| ClaimUse { key, kind }).collect(),
            disks: volumes.filter_map(disk).collect(),
            namespace,
            labels,
            owner,
        }
    }
}

fn each_container(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Upstream `normalizedImageName` (plugins/imagelocality, v1.35).
fn image_name(image: &str) -> String {
    let has_tag = image.rfind(':') > image.rfind('/');
    if has_tag { image.to_owned() } else { format!("{image}:latest") }
}

fn pod_terms(affinity: &Affinity, namespace: &str) -> PodTerms {
    let required = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
        terms.into_iter().flatten().map(|term| Term::new(term, namespace)).collect()
    };
    let wishes = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<(i64, Term)> {
        let wish = |wish: &WeightedPodAffinityTerm| {
            (sign * i64::from(wish.weight), Term::new(&wish.pod_affinity_term, namespace))
        };
        terms.into_iter().flatten().map(wish).collect()
    };
    let (near, apart) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let wanted =
        near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref());
    let unwanted =
        apart.and_then(|apart| apart.preferred_during_scheduling_ignored_during_execution.as_ref());
    PodTerms {
        near: required(
            near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref()),
        ),
        apart: required(
            apart.and_then(|apart| {
                apart.required_during_scheduling_ignored_during_execution.as_ref()
            }),
        ),
        wishes: [wishes(wanted, 1), wishes(unwanted, -1)].concat(),
    }
}

fn disk(volume: &k8s_openapi::api::core::v1::Volume) -> Option<Disk> {
    if let Some(disk) = &volume.gce_persistent_disk {
        let is_read_only = disk.read_only.unwrap_or_default();
        return Some(Disk { names: vec![format!("gce {}", disk.pd_name)], is_read_only });
    }
    if let Some(disk) = &volume.aws_elastic_block_store {
        return Some(Disk { names: vec![format!("aws {}", disk.volume_id)], is_read_only: false });
    }
    if let Some(disk) = &volume.iscsi {
        let is_read_only = disk.read_only.unwrap_or_default();
        return Some(Disk { names: vec![format!("iscsi {}", disk.iqn)], is_read_only });
    }
    let image = volume.rbd.as_ref()?;
    let pool = image.pool.as_deref().unwrap_or("rbd");
    let name = |monitor: &String| format!("rbd {monitor} {pool} {}", image.image);
    let names = image.monitors.iter().map(name).collect();
    Some(Disk { names, is_read_only: image.read_only.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_tag_are_the_latest() {
        for (image, expected) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("host:5000/busybox", "host:5000/busybox:latest"),
            ("host:5000/busybox:1", "host:5000/busybox:1"),
        ] {
            assert_eq!(image_name(image), expected);
        }
    }
}
