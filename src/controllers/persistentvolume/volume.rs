//! What becomes of a volume: free, bound, and what its policy says once its claim is gone. Pure.
//!
//! Upstream `syncVolume` and `reclaimVolume` (v1.35).

use crate::api::volume::{BOUND_BY_CONTROLLER, claim_of, volume_name};
use crate::client::object_reference;
use crate::control::{Plan, Planned, Report, Write};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use std::sync::Arc;
use std::time::Duration;

/// On a volume: who made it and will delete it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// After the API server could not be asked.
const UNSURE_RETRY: Duration = Duration::from_secs(1);

/// What is known of the claim that a volume is bound to.
#[derive(Clone, Debug)]
pub enum Sight {
    Found(Arc<PersistentVolumeClaim>),
    /// There is none, or another of its name.
    Gone,
    /// Nobody could be asked.
    Unknown,
}

/// Everything the decision about a volume may depend on.
#[derive(Clone, Debug)]
pub struct VolumeView {
    pub volume: Arc<PersistentVolume>,
    /// That of its `claimRef`.
    pub claim: Sight,
}

/// See the module.
pub fn plan(view: &VolumeView) -> Plan {
    let volume = &*view.volume;
    let is_bound = claim_of(volume).and_then(|it| it.uid.as_ref()).is_some_and(|it| !it.is_empty());
    let mut plan = match &view.claim {
        _ if !is_bound => Plan::of(with_phase(volume, "Available")),
        Sight::Unknown => Plan { recheck_after: Some(UNSURE_RETRY), ..Plan::default() },
        Sight::Gone => release(volume),
        Sight::Found(claim) => match volume_name(claim) {
            // It is looked at, too, and takes the volume.
            None => Plan { reports: mode_mismatch(volume, claim), ..Plan::default() },
            Some(name) if volume.metadata.name.as_deref() == Some(name) => {
                Plan::of(with_phase(volume, "Bound"))
            }
            // The claim has another volume. One that was made for it is of no use to others.
            Some(_) if provisioner(volume).is_some() && policy(volume) == "Delete" => {
                release(volume)
            }
            Some(_) => unbind(volume),
        },
    };
    plan.regarding = object_reference(volume);
    plan
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = |volume: &'_ PersistentVolume| {
        volume.spec.as_ref()?.persistent_volume_reclaim_policy.clone()
    };
    match policy(volume).as_deref() {
        None | Some("Retain") => "Retain",
        Some("Delete") => "Delete",
        Some("Recycle") => "Recycle",
        Some(_) => "",
    }
}

fn provisioner(volume: &PersistentVolume) -> Option<&str> {
    let annotations = volume.metadata.annotations.as_ref()?;
    annotations.get(PROVISIONED_BY).map(String::as_str).filter(|name| !name.is_empty())
}

/// `None` where the volume says so already.
pub(super) fn with_phase(volume: &PersistentVolume, phase: &str) -> Option<Write> {
    if self::phase(volume) == phase {
        return None;
    }
    let mut told = volume.clone();
    let status = told.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = None;
    Some(Write::update_status(&told))
}

fn mode_mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Report> {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    let of_volume = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    if mode(of_volume) == mode(of_claim) {
        return Vec::new();
    }
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {name:?} due to \
         incompatible volumeMode."
    );
    vec![Report::warning("VolumeMismatch", message)]
}

/// The claim is gone, and with it the right to the volume.
fn release(volume: &PersistentVolume) -> Plan {
    if !["Released", "Failed"].contains(&phase(volume)) {
        return Plan::of(with_phase(volume, "Released"));
    }
    match policy(volume) {
        "Retain" => Plan::default(),
        "Delete" => delete(volume),
        "Recycle" => {
            fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
        }
        _ => {
            let message = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            fail(volume, "VolumeUnknownReclaimPolicy", message)
        }
    }
}

/// Whoever made the volume deletes it; nobody else knows how.
fn delete(volume: &PersistentVolume) -> Plan {
    let is_csi = volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some());
    match provisioner(volume) {
        Some(name) if !name.starts_with("kubernetes.io/") => Plan::default(),
        None if is_csi => Plan::default(),
        _ => {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let message = format!(
                "error getting deleter volume plugin for volume {name:?}: no deletable volume \
                 plugin matched"
            );
            fail(volume, "VolumeFailedDelete", &message)
        }
    }
}

fn fail(volume: &PersistentVolume, reason: &'static str, message: &str) -> Plan {
    let mut plan = Plan::default();
    if phase(volume) != "Failed" {
        let mut told = volume.clone();
        let status = told.status.get_or_insert_default();
        status.phase = Some("Failed".to_owned());
        status.message = Some(message.to_owned());
        plan.then([Planned {
            write: Write::update_status(&told),
            succeeded: Some(Report::warning(reason, message)),
            failed: None,
        }]);
    }
    plan
}

/// Takes the promise back: all of it where the controller made it, else only the uid, so that the
/// claim that the user named can have it.
fn unbind(volume: &PersistentVolume) -> Plan {
    let mut free = volume.clone();
    let annotations = free.metadata.annotations.get_or_insert_default();
    let by_controller = annotations.remove(BOUND_BY_CONTROLLER).is_some();
    if let Some(spec) = &mut free.spec {
        match &mut spec.claim_ref {
            Some(reference) if !by_controller => reference.uid = None,
            reference => *reference = None,
        }
    }
    Plan::of([Write::update(&free)])
}
