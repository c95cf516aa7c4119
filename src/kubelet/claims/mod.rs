//! The PersistentVolumes behind the claims that a pod names: found once, and the pod's for as long as
//! it is on this node.
//!
//! Start at [`Claims`], which says what to look for and when; [`find`] looks. A node may only ask
//! for the claims and volumes that its pods name, one by one (upstream's Node authorizer), so a
//! claim that is not bound yet is asked for again, ever more seldom. That is rare: the scheduler
//! sends no pod to a node before its claims are bound. Upstream `getPVCExtractPV`
//! (pkg/kubelet/volumemanager/populator/desired_state_of_world_populator.go, v1.35).

mod plan;

pub use plan::{Claims, Found};

use super::pod::BoundPod;
use crate::api::ObjectKey;
use crate::api::volume::{ClaimKind, claim_used};
use crate::client::{Client, key_of};
use crate::stdx::chain;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use plan::{check_claim, check_volume};
use std::sync::Arc;

/// Finds the volume behind the pod's volume of this name.
///
/// # Errors
/// Why it cannot be used, in upstream's words.
pub(super) async fn find(
    client: Client,
    pod: BoundPod,
    name: String,
    node: Arc<Node>,
) -> Result<Arc<PersistentVolume>, String> {
    let mut volumes = pod.spec().volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == name);
    let used = volume.and_then(|volume| claim_used(pod.object(), volume));
    let Some((key, kind)) = used else {
        return Err(format!("the pod has no claim for volume {name:?}"));
    };
    let told = |why: String| format!("error processing PVC {key}: {why}");
    let claim: PersistentVolumeClaim = client
        .get(&key)
        .await
        .map_err(|error| told(format!("failed to fetch PVC from API server: {}", chain(&error))))?;
    let owner = match kind {
        ClaimKind::Named => None,
        ClaimKind::Ephemeral => Some((pod.uid(), key_of(&pod.object().metadata))),
    };
    let name = check_claim(&claim, owner).map_err(told)?;
    let volume: PersistentVolume =
        client.get(&ObjectKey::cluster(&name)).await.map_err(|error| {
            let why = chain(&error);
            told(format!("failed to fetch PV {name} from API server: {why}"))
        })?;
    check_volume(&claim, &volume, &node).map_err(told)?;
    Ok(Arc::new(volume))
}
