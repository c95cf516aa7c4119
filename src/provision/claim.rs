//! The volume of a claim: when it is made here, what it is, and how it grows. Pure.
//!
//! Upstream sigs.k8s.io/sig-storage-lib-external-provisioner `shouldProvision` and
//! `provisionClaimOperation`, and external-resizer for what has become larger.

use super::{CLASS, LOCAL_PROVISIONERS, PROVISIONER};
use crate::api::Quantity;
use crate::api::volume::{
    capacity, claim_of, is_allowed_by, is_fully_bound, requested, selected_node, volume_name,
};
use crate::client::{key_of, object_reference};
use crate::control::{Detail, Plan, Planned, Report, Write};
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
    VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// On a claim: who is to make its volume, under its two names.
const STORAGE_PROVISIONER: &[&str] =
    &["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// On a volume: who made it and will delete it.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// While it is there, a volume that was deleted stays until its directory is gone (upstream
/// `PVDeletionProtectionFinalizer`).
pub(super) const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// On a volume: the node that it was made on, as k3s has it.
const SELECTED_NODE_OF_VOLUME: &str = "local.path.provisioner/selected-node";
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Everything the decision about a claim may depend on.
#[derive(Clone, Debug)]
pub struct ClaimView {
    pub claim: Arc<PersistentVolumeClaim>,
    /// The one that the claim names.
    pub class: Option<Arc<StorageClass>>,
    /// The claim's volume: the one it has, or the one of the name that it will have.
    pub volume: Option<Arc<PersistentVolume>>,
    /// Those that the claim's volume may be on.
    pub nodes: Vec<Arc<Node>>,
    /// The name of this node.
    pub node: String,
    /// Where directories are.
    pub root: PathBuf,
}

/// The name of the volume that is made for a claim.
#[must_use]
pub fn name_of_volume(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// The class that every cluster begins with.
#[must_use]
pub fn class() -> StorageClass {
    StorageClass {
        metadata: ObjectMeta {
            name: Some(CLASS.to_owned()),
            annotations: Some([(DEFAULT_CLASS.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        volume_binding_mode: Some("WaitForFirstConsumer".to_owned()),
        allow_volume_expansion: Some(true),
        ..StorageClass::default()
    }
}

/// See the module.
pub fn plan(view: &ClaimView) -> Plan {
    let mut plan = match volume_name(&view.claim) {
        Some(_) => grow(view),
        None => provision(view),
    };
    plan.regarding = object_reference(&*view.claim);
    plan
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn provision(view: &ClaimView) -> Plan {
    let claim = &*view.claim;
    let (Some(class), Some(spec)) = (&view.class, &claim.spec) else { return Plan::default() };
    let wants = STORAGE_PROVISIONER.iter().find_map(|name| annotation(&claim.metadata, name));
    let is_ours =
        wants == Some(&class.provisioner) && LOCAL_PROVISIONERS.contains(&&*class.provisioner);
    let is_waited_for = view.volume.is_none() && claim.metadata.deletion_timestamp.is_none();
    let Some(node) = chosen_node(view, class).filter(|_| is_ours && is_waited_for) else {
        return Plan::default();
    };
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let failed = format!("failed to provision volume with StorageClass {name:?}: ");
    let why = match is_allowed_on(class, node) {
        true => refusal(class, spec),
        false => Some("the selected node is in none of the class's allowedTopologies"),
    };
    if let Some(why) = why {
        let report = Report::warning("ProvisioningFailed", format!("{failed}{why}"));
        return Plan { reports: vec![report], ..Plan::default() };
    }
    let volume = volume(view, class, spec, node);
    let made = format!("Successfully provisioned volume {}", name_of_volume(claim));
    let mut plan = Plan::default();
    plan.then([Planned {
        write: Write::create(&volume),
        succeeded: Some(Report::normal("ProvisioningSucceeded", made)),
        failed: Some(Report::warning("ProvisioningFailed", failed).with(Detail::Error)),
    }]);
    plan
}

/// This node, where the volume is to be made here. Without a choice of the scheduler's (a class that
/// binds at once) it is the first of the nodes that take pods and are of the class's topologies.
fn chosen_node<'a>(view: &'a ClaimView, class: &StorageClass) -> Option<&'a Node> {
    let own = |node: &&Node| node.metadata.name.as_deref() == Some(&*view.node);
    let nodes = view.nodes.iter().map(|node| &**node);
    if let Some(selected) = selected_node(&view.claim) {
        return nodes.into_iter().find(|node| own(node) && selected == view.node);
    }
    let takes_pods =
        |node: &&Node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
    let suitable = nodes.filter(|node| takes_pods(node) && is_allowed_on(class, node));
    suitable.min_by_key(|node| node.metadata.name.clone()).filter(own)
}

fn is_allowed_on(class: &StorageClass, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    is_allowed_by(class, &labels)
}

/// Why a directory does not do.
fn refusal(class: &StorageClass, spec: &PersistentVolumeClaimSpec) -> Option<&'static str> {
    let alone = ["ReadWriteOnce", "ReadWriteOncePod"];
    let modes = spec.access_modes.iter().flatten();
    if !modes.into_iter().all(|mode| alone.contains(&mode.as_str())) {
        return Some("local volumes only have the access modes ReadWriteOnce and ReadWriteOncePod");
    }
    if spec.volume_mode.as_deref().is_some_and(|mode| mode != "Filesystem") {
        return Some("local volumes only have the volume mode Filesystem");
    }
    if spec.selector.is_some() {
        return Some("claim.Spec.Selector is not supported");
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("local volumes begin empty: a data source is not supported");
    }
    if spec.volume_attributes_class_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some(
            "local volumes have no attributes: volumeAttributesClassName is not supported",
        );
    }
    let options = class.mount_options.as_ref().is_some_and(|options| !options.is_empty());
    options.then_some("local volumes are not mounted: mountOptions are not supported")
}

fn volume(
    view: &ClaimView,
    class: &StorageClass,
    spec: &PersistentVolumeClaimSpec,
    node: &Node,
) -> PersistentVolume {
    let claim = &*view.claim;
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
    let policy = class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned());
    let finalizers = (policy == "Delete").then(|| vec![FINALIZER.to_owned()]);
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name_of_volume(claim)),
            annotations: Some(
                [
                    (PROVISIONED_BY.to_owned(), class.provisioner.clone()),
                    (SELECTED_NODE_OF_VOLUME.to_owned(), view.node.clone()),
                ]
                .into(),
            ),
            finalizers,
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: requests.map(|requests| {
                requests.into_iter().filter(|(resource, _)| resource == "storage").collect()
            }),
            claim_ref: Some(object_reference(claim)),
            local: Some(LocalVolumeSource {
                path: directory(&view.root, claim).to_string_lossy().into_owned(),
                fs_type: None,
            }),
            node_affinity: Some(only_on(node)),
            persistent_volume_reclaim_policy: Some(policy),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// With the names of the claim, so that people know whose it is.
fn directory(root: &Path, claim: &PersistentVolumeClaim) -> PathBuf {
    let key = key_of(&claim.metadata);
    let namespace = key.namespace.unwrap_or_default();
    root.join(format!("{}_{namespace}_{}", name_of_volume(claim), key.name))
}

pub(super) fn hostname(node: &Node) -> &str {
    let label = node.metadata.labels.as_ref().and_then(|labels| labels.get(HOSTNAME));
    label.or(node.metadata.name.as_ref()).map(String::as_str).unwrap_or_default()
}

fn only_on(node: &Node) -> VolumeNodeAffinity {
    let requirement = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![hostname(node).to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }
}

/// A claim that asks for more than it has gets it: what a directory holds is the disk's business.
/// First the volume says so, then the claim.
fn grow(view: &ClaimView) -> Plan {
    let (claim, Some(volume)) = (&*view.claim, view.volume.as_deref()) else {
        return Plan::default();
    };
    let Some(wanted) = requested(claim) else { return Plan::default() };
    let is_own = claim_of(volume).and_then(|it| it.uid.as_ref()) == claim.metadata.uid.as_ref();
    let of_node = super::volume::is_of_node(
        volume,
        view.nodes.iter().find(|node| node.metadata.name.as_deref() == Some(&*view.node)),
    );
    let has = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let Some(has) = has.map(Quantity::of) else { return Plan::default() };
    if !(is_own && of_node && is_fully_bound(claim)) || wanted <= has {
        return Plan::default();
    }
    if capacity(volume) < wanted {
        let mut larger = volume.clone();
        let spec = larger.spec.get_or_insert_default();
        spec.capacity.get_or_insert_default().insert("storage".to_owned(), wanted.to_field());
        return Plan::of([Write::update(&larger)]);
    }
    let mut larger = claim.clone();
    let status = larger.status.get_or_insert_default();
    let amount = || ("storage".to_owned(), wanted.to_field());
    status.capacity.get_or_insert_default().extend([amount()]);
    status.allocated_resources.get_or_insert_default().extend([amount()]);
    let mut plan = Plan::default();
    plan.then([Planned {
        write: Write::update_status(&larger),
        succeeded: Some(Report::normal("VolumeResizeSuccessful", "Resize volume succeeded")),
        failed: None,
    }]);
    plan
}
