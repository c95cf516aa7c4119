//! What becomes of a claim: a volume that suits it, one that is made for it, or a word about why it
//! waits. Pure.
//!
//! Upstream `syncUnboundClaim`, `syncBoundClaim` and `bind` (v1.35). A look makes one write to each
//! object at most; the next look goes on from there.

use crate::api::volume::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, NO_PROVISIONER, capacity, claim_class, claim_of,
    find_match, is_bound_to, requested, selected_node, volume_class, volume_name,
};
use crate::client::object_reference;
use crate::control::{Plan, Planned, Report, Write};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use std::time::Duration;

/// On a claim: who is to make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same under the name that provisioners of long ago look for.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a class: claims without one get it.
const IS_DEFAULT_CLASS: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// On a volume whose size has been changed and whose file system has not yet.
const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
/// Provisioners of this prefix were part of Kubernetes: none is left.
const IN_TREE: &str = "kubernetes.io/";

/// After the API server could not be asked.
const UNSURE_RETRY: Duration = Duration::from_secs(1);

/// Everything the decision about a claim may depend on.
#[derive(Clone, Debug, Default)]
pub struct ClaimView {
    pub claim: Arc<PersistentVolumeClaim>,
    /// The one that the claim names.
    pub class: Option<Arc<StorageClass>>,
    /// What a claim that names no class gets.
    pub default_class: Option<String>,
    /// The volume that the claim names; for a claim that names none, all there are.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// Pods that use the claim and have no node.
    pub waiting_pods: Vec<String>,
    /// Whether there may be a volume that could not be seen.
    pub is_unsure: bool,
}

/// Whether the claim has had its volume.
#[must_use]
pub fn is_complete(claim: &PersistentVolumeClaim) -> bool {
    has(&claim.metadata, BIND_COMPLETED)
}

fn has(metadata: &ObjectMeta, annotation: &str) -> bool {
    metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotation))
}

fn annotate(metadata: &mut ObjectMeta, annotation: &str, value: &str) {
    let all = metadata.annotations.get_or_insert_default();
    all.insert(annotation.to_owned(), value.to_owned());
}

/// The default class: the newest of those that say so (upstream `GetDefaultClass`).
#[must_use]
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<String> {
    let says_so = |class: &&Arc<StorageClass>| {
        let all = class.metadata.annotations.as_ref();
        let value = |name: &&str| all.and_then(|all| all.get(*name)).map(String::as_str);
        IS_DEFAULT_CLASS.iter().any(|name| value(name) == Some("true"))
    };
    let mut defaults: Vec<_> = classes.iter().filter(says_so).collect();
    defaults.sort_by(|a, b| {
        let created = |class: &StorageClass| class.metadata.creation_timestamp.clone();
        created(b).cmp(&created(a)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    defaults.first()?.metadata.name.clone()
}

/// See the module.
pub fn plan(view: &ClaimView) -> Plan {
    let claim = &*view.claim;
    let mut plan = if view.is_unsure {
        Plan { recheck_after: Some(UNSURE_RETRY), ..Plan::default() }
    } else if is_complete(claim) {
        keep(claim, view.volumes.first().map(|volume| &**volume))
    } else if volume_name(claim).is_some() {
        bind_to_named(claim, view.volumes.first().map(|volume| &**volume))
    } else {
        match choose(view) {
            Some(volume) => bind(claim, volume),
            None => wait(view),
        }
    };
    plan.regarding = object_reference(claim);
    plan
}

/// A claim that had its volume: it still has, or has lost it.
fn keep(claim: &PersistentVolumeClaim, volume: Option<&PersistentVolume>) -> Plan {
    let Some(volume) = volume else {
        let what = match volume_name(claim) {
            Some(_) => "its PersistentVolume",
            None => "reference to PersistentVolume",
        };
        let message = format!("Bound claim has lost {what}. Data on the volume is lost!");
        return lose(claim, "ClaimLost", message);
    };
    let taken = claim_of(volume).and_then(|reference| reference.uid.as_ref());
    if claim_of(volume).is_none() || taken == claim.metadata.uid.as_ref() {
        return bind(claim, volume);
    }
    let message = "Two claims are bound to the same volume, this one is bound incorrectly";
    lose(claim, "ClaimMisbound", message.to_owned())
}

fn lose(claim: &PersistentVolumeClaim, reason: &'static str, message: String) -> Plan {
    let mut plan = Plan::default();
    if phase(claim) != "Lost" {
        plan.then(with_status(claim, "Lost", None).map(|write| Planned {
            write,
            succeeded: Some(Report::warning(reason, message)),
            failed: None,
        }));
    }
    plan
}

/// The user has chosen the volume.
fn bind_to_named(claim: &PersistentVolumeClaim, volume: Option<&PersistentVolume>) -> Plan {
    let Some(volume) = volume else {
        return pending(claim);
    };
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    if is_bound_to(volume, claim) {
        return bind(claim, volume);
    }
    let report = if claim_of(volume).is_some() {
        let message = format!("volume {name:?} already bound to a different claim.");
        Report::warning("FailedBinding", message)
    } else {
        match mismatch(claim, volume) {
            None => return bind(claim, volume),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                Report::warning("VolumeMismatch", message)
            }
        }
    };
    Plan { reports: vec![report], ..pending(claim) }
}

/// Why the volume does not do for the claim (upstream `checkVolumeSatisfyClaim`).
fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<String> {
    let (Some(wanted), Some(given)) = (&claim.spec, &volume.spec) else { return None };
    if volume.metadata.deletion_timestamp.is_some() {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        return Some(format!("the volume is marked for deletion {name:?}"));
    }
    if capacity(volume) < requested(claim).unwrap_or_default() {
        return Some("requested PV is too small".to_owned());
    }
    if volume_class(volume) != claim_class(claim) {
        return Some("storageClassName does not match".to_owned());
    }
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    if attributes(&wanted.volume_attributes_class_name)
        != attributes(&given.volume_attributes_class_name)
    {
        return Some("volumeAttributesClassName does not match".to_owned());
    }
    if mode(wanted.volume_mode.as_deref()) != mode(given.volume_mode.as_deref()) {
        return Some("incompatible volumeMode".to_owned());
    }
    (!offers_modes(claim, volume)).then(|| "incompatible accessMode".to_owned())
}

fn mode(mode: Option<&str>) -> &str {
    mode.unwrap_or("Filesystem")
}

fn offers_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let offered = modes(volume);
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    wanted.unwrap_or_default().iter().all(|mode| offered.contains(mode))
}

fn modes(volume: &PersistentVolume) -> &[String] {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    modes.unwrap_or_default()
}

/// The volume that is promised to the claim, else the smallest of those that can do the least
/// beyond what is asked (upstream `findByClaim`, which takes no notice of a promise there).
fn choose(view: &ClaimView) -> Option<&PersistentVolume> {
    let claim = &*view.claim;
    let offering = view.volumes.iter().map(|volume| &**volume);
    let offering: Vec<_> = offering.filter(|volume| offers_modes(claim, volume)).collect();
    let promised = offering.iter().copied().filter(|volume| is_bound_to(volume, claim));
    if let Some(volume) = find_match(claim, promised, None, is_delayed(view)) {
        return Some(volume);
    }
    let mut sizes: Vec<usize> = offering.iter().map(|volume| modes(volume).len()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.into_iter().find_map(|size| {
        let of_size = offering.iter().copied().filter(|volume| modes(volume).len() == size);
        find_match(claim, of_size, None, is_delayed(view))
    })
}

fn is_delayed(view: &ClaimView) -> bool {
    let mode = view.class.as_ref().and_then(|class| class.volume_binding_mode.as_deref());
    mode == Some("WaitForFirstConsumer")
}

/// No volume suits: one is made, or will come.
fn wait(view: &ClaimView) -> Plan {
    let claim = &*view.claim;
    let names_none = claim.spec.as_ref().is_none_or(|spec| spec.storage_class_name.is_none())
        && claim_class(claim).is_empty();
    if names_none && let Some(class) = &view.default_class {
        let mut classed = claim.clone();
        classed.spec.get_or_insert_default().storage_class_name = Some(class.clone());
        return Plan::of([Write::update(&classed)]);
    }
    if is_delayed(view) && selected_node(claim).is_none() {
        return Plan { reports: vec![waiting_report(&view.waiting_pods)], ..pending(claim) };
    }
    if claim_class(claim).is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return Plan { reports: vec![Report::normal("FailedBinding", message)], ..pending(claim) };
    }
    provision(view)
}

fn waiting_report(pods: &[String]) -> Report {
    match pods {
        [] => {
            let message = "waiting for first consumer to be created before binding";
            Report::normal("WaitForFirstConsumer", message)
        }
        pods => {
            let word = if pods.len() == 1 { "pod" } else { "pods" };
            let message = format!("waiting for {word} {} to be scheduled", pods.join(","));
            Report::normal("WaitForPodScheduled", message)
        }
    }
}

/// Names who is to make the volume (upstream `provisionClaimOperationExternal`).
fn provision(view: &ClaimView) -> Plan {
    let claim = &*view.claim;
    let failed = |message: String| Plan {
        reports: vec![Report::warning("ProvisioningFailed", message)],
        ..pending(claim)
    };
    let Some(class) = &view.class else {
        let name = claim_class(claim);
        return failed(format!("storageclass.storage.k8s.io {name:?} not found"));
    };
    let provisioner = &class.provisioner;
    if provisioner == NO_PROVISIONER || provisioner.starts_with(IN_TREE) {
        return failed(format!("no volume plugin matched name: {provisioner}"));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or \
         manually by the system administrator. If volume creation is delayed, please verify that \
         the provisioner is running and correctly registered."
    );
    let mut named = claim.clone();
    annotate(&mut named.metadata, STORAGE_PROVISIONER, provisioner);
    annotate(&mut named.metadata, BETA_STORAGE_PROVISIONER, provisioner);
    if named.metadata.annotations != claim.metadata.annotations {
        return Plan::of([Write::update(&named)]);
    }
    Plan { reports: vec![Report::normal("ExternalProvisioning", message)], ..pending(claim) }
}

/// Each knows the other in the end: the volume first, which only one claim can get.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    if let Some(write) = promise(volume, claim) {
        return Plan::of([write]);
    }
    let of_volume = super::volume::with_phase(volume, "Bound");
    let of_claim = match accepted(claim, volume) {
        Some(write) => Some(write),
        None => with_status(claim, "Bound", Some(volume)),
    };
    Plan::of(of_volume.into_iter().chain(of_claim))
}

/// Upstream `GetBindVolumeToClaim`.
fn promise(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Write> {
    let known = claim_of(volume);
    let is_promised = known.is_some_and(|known| {
        known.name == claim.metadata.name
            && known.namespace == claim.metadata.namespace
            && known.uid == claim.metadata.uid
    });
    if is_promised {
        return None;
    }
    let mut promised = volume.clone();
    promised.spec.get_or_insert_default().claim_ref = Some(object_reference(claim));
    if !is_bound_to(volume, claim) {
        annotate(&mut promised.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    Some(Write::update(&promised))
}

/// Upstream `bindClaimToVolume`.
fn accepted(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Write> {
    let mut accepted = claim.clone();
    let spec: &mut PersistentVolumeClaimSpec = accepted.spec.get_or_insert_default();
    if spec.volume_name != volume.metadata.name {
        spec.volume_name.clone_from(&volume.metadata.name);
        annotate(&mut accepted.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    if !is_complete(claim) {
        annotate(&mut accepted.metadata, BIND_COMPLETED, "yes");
    }
    (accepted != *claim).then(|| Write::update(&accepted))
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn pending(claim: &PersistentVolumeClaim) -> Plan {
    Plan::of(with_status(claim, "Pending", None))
}

/// Upstream `updateClaimStatus`; `None` where the claim says so already.
fn with_status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<Write> {
    let mut told = claim.clone();
    let status = told.status.get_or_insert_default();
    let was = status.phase.replace(phase.to_owned()).unwrap_or_default();
    match volume.and_then(|volume| Some((volume, volume.spec.as_ref()?))) {
        None => {
            status.access_modes = None;
            status.capacity = None;
            status.current_volume_attributes_class_name = None;
        }
        Some((volume, spec)) => {
            status.access_modes.clone_from(&spec.access_modes);
            if was != phase {
                status.capacity.clone_from(&spec.capacity);
                let annotations = volume.metadata.annotations.as_ref();
                if let Some(before) = annotations.and_then(|all| all.get(PRE_RESIZE_CAPACITY)) {
                    let capacity = status.capacity.get_or_insert_default();
                    let before = Quantity(before.clone());
                    capacity.insert("storage".to_owned(), before);
                }
            }
            if was == "Pending" {
                let class = &spec.volume_attributes_class_name;
                status.current_volume_attributes_class_name.clone_from(class);
            }
        }
    }
    (told.status != claim.status).then(|| Write::update_status(&told))
}
