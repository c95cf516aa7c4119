//! A claim that names no class gets the default one (upstream `DefaultStorageClass`,
//! plugin/pkg/admission/storage/storageclass/setdefault, v1.35).

use super::default_class::default_class;
use super::{Attributes, Facts, Mutation, Plugin, Want};
use crate::api::status::Status;
use crate::api::volume::BETA_CLASS;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "DefaultStorageClass",
    mutation: Some(Mutation { wants, apply }),
    judgement: None,
};

const DEFAULT_ANNOTATIONS: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    match attributes.creating::<PersistentVolumeClaim>() {
        Some(claim) if !has_class(claim) => vec![Want::all("storage.k8s.io", "storageclasses")],
        _ => Vec::new(),
    }
}

fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    if let Some(claim) = attributes.created::<PersistentVolumeClaim>()
        && !has_class(claim)
        && let Some(class) = default_class(facts.all::<StorageClass>(), DEFAULT_ANNOTATIONS)
    {
        claim.spec.get_or_insert_default().storage_class_name = Some(class.to_owned());
    }
    Ok(())
}

/// An empty name is one too: it asks for a volume without a class.
fn has_class(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(BETA_CLASS))
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}
