//! A claim grows only where its class says that volumes can (upstream `PersistentVolumeClaimResize`,
//! plugin/pkg/admission/storage/persistentvolume/resize, v1.35).

use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Plugin, Want, Warnings};
use crate::api::ObjectKey;
use crate::api::status::Status;
use crate::api::volume::{claim_class, requested};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PersistentVolumeClaimResize",
    mutation: None,
    judgement: Some(Judgement { wants, judge }),
};

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    let growing = growing(attributes).map(|(new, _old)| claim_class(new));
    let want = |name| Want::one("storage.k8s.io", "storageclasses", ObjectKey::cluster(name));
    growing.filter(|class| !class.is_empty()).map(want).into_iter().collect()
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let Some((new, old)) = growing(attributes) else {
        return Ok(());
    };
    let phase = old.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") {
        return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let storage_class: Option<&StorageClass> = facts.all().next();
    let can_grow = storage_class.is_some_and(|it| it.allow_volume_expansion == Some(true));
    if can_grow && claim_class(new) == claim_class(old) {
        return Ok(());
    }
    Err(attributes.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the \
         pvc must support resize",
    ))
}

/// The new and the old claim, where the new one asks for more.
fn growing<'a>(
    attributes: &'a Attributes<'_>,
) -> Option<(&'a PersistentVolumeClaim, &'a PersistentVolumeClaim)> {
    let (new, old) = attributes.updating::<PersistentVolumeClaim>(Part::Object)?;
    (requested(new) > requested(old)).then_some((new, old))
}
