//! Volumes, claims and their classes of attributes stay while they are in use: each new one is given
//! the finalizer that the controller takes away which watches its users (upstream
//! `StorageObjectInUseProtection`, plugin/pkg/admission/storage/storageobjectinuseprotection, v1.35).

use super::{Attributes, Facts, Mutation, Operation, Plugin};
use crate::api::status::Status;
use crate::api::volume::{PV_PROTECTION, PVC_PROTECTION, VAC_PROTECTION};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "StorageObjectInUseProtection",
    mutation: Some(Mutation { wants: |_| Vec::new(), apply }),
    judgement: None,
};

fn apply(attributes: &mut Attributes<'_>, _facts: &Facts<'_>) -> Result<(), Status> {
    let Operation::Create(object) = &mut attributes.operation else {
        return Ok(());
    };
    let finalizer = if object.as_any().is::<PersistentVolume>() {
        PV_PROTECTION
    } else if object.as_any().is::<PersistentVolumeClaim>() {
        PVC_PROTECTION
    } else if object.as_any().is::<VolumeAttributesClass>() {
        VAC_PROTECTION
    } else {
        return Ok(());
    };
    let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
    Ok(())
}
