//! PersistentVolumeClaims: what somebody asks of a volume, and which one they got.
//!
//! Follows upstream pkg/registry/core/persistentvolumeclaim (v1.35). The class that a claim without
//! one gets, and the finalizer that keeps a used claim, are admission's.

mod changes;
mod status;

use super::{claim_spec, podspec, volume_cells};
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
    TypedLocalObjectReference, TypedObjectReference,
};
use serde_json::Value;
use std::borrow::Cow;

const PENDING: &str = "Pending";
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";

impl Resource for PersistentVolumeClaim {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "persistentvolumeclaim",
        short_names: &[Cow::Borrowed("pvc")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::PERSISTENT_VOLUME_CLAIM;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Status", "Pending, Bound or Lost."),
        Column::text("Volume", "The volume that the claim has."),
        Column::text("Capacity", "How much the volume holds."),
        Column::text("Access Modes", "How the volume can be mounted."),
        Column::text("StorageClass", "The class of the claim."),
        Column::text("VolumeAttributesClass", "The class of the volume's attributes."),
        Column::AGE,
        Column::wide("VolumeMode", "Filesystem, or Block."),
    ];
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        claim_spec::apply_defaults(spec);
        spec.volume_name.take_if(|name| name.is_empty());
        spec.access_modes.take_if(|modes| modes.is_empty());
        let resources = spec.resources.get_or_insert_default();
        for amounts in [&mut resources.limits, &mut resources.requests] {
            amounts.take_if(|amounts| amounts.is_empty());
        }
        let status = self.status.get_or_insert_default();
        podspec::round_up(status.capacity.as_mut());
        podspec::round_up(status.allocated_resources.as_mut());
        status.phase.take_if(|phase| phase.is_empty());
        status.phase.get_or_insert_with(|| PENDING.to_owned());
    }

    fn prepare_create(&mut self) {
        let phase = Some(PENDING.to_owned());
        self.status = Some(PersistentVolumeClaimStatus { phase, ..Default::default() });
        settle_data_sources(self.spec.get_or_insert_default(), None);
    }

    fn prepare_update(&mut self, old: &Self) {
        settle_data_sources(self.spec.get_or_insert_default(), old.spec.as_ref());
    }

    fn validate(&self) -> Vec<FieldError> {
        claim_spec::validate(&self.spec.clone().unwrap_or_default(), &FieldPath::new("spec"))
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        changes::validate(self, old)
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        status::validate(&self.status.clone().unwrap_or_default())
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let path = FieldPath::new("metadata").child("annotations");
        let class = "volume.beta.kubernetes.io/storage-class";
        let annotated = self.metadata.annotations.iter().flatten().any(|(key, _)| key == class);
        let old_way = "deprecated since v1.8; use \"storageClassName\" attribute instead";
        let told = annotated.then(|| format!("{}: {old_way}", path.key(class)));
        let spec = self.spec.as_ref();
        let of_spec = spec.map(|spec| claim_spec::warnings(spec, &FieldPath::new("spec")));
        told.into_iter().chain(of_spec.unwrap_or_default()).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let volume = spec.volume_name.unwrap_or_default();
        let (capacity, modes) = match volume.as_str() {
            "" => (String::new(), String::new()),
            _ => (
                volume_cells::storage(status.capacity.as_ref()),
                volume_cells::modes(status.access_modes.as_deref()),
            ),
        };
        vec![
            cells::name(&self.metadata),
            volume_cells::phase(&self.metadata, status.phase.as_deref()).into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            volume_cells::class(&self.metadata, spec.storage_class_name.as_deref()).into(),
            volume_cells::or_unset(spec.volume_attributes_class_name.as_deref()).into(),
            cells::age(&self.metadata, now),
            volume_cells::or_unset(spec.volume_mode.as_deref()).into(),
        ]
    }
}

/// A claim has two fields for where its data comes from, an older and a newer one: each fills the
/// other (upstream `DropDisabledFields`, `EnforceDataSourceBackwardsCompatibility` and
/// `NormalizeDataSources`, pkg/api/persistentvolumeclaim, v1.35).
fn settle_data_sources(
    spec: &mut PersistentVolumeClaimSpec,
    old: Option<&PersistentVolumeClaimSpec>,
) {
    let has_namespace = |source: &TypedObjectReference| {
        source.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty())
    };
    // Data of other namespaces is behind a gate that is closed by default.
    if old.is_none_or(|old| old.data_source_ref.is_none()) {
        spec.data_source_ref.take_if(|source| has_namespace(source));
    }
    let was_used =
        old.is_some_and(|old| old.data_source.is_some() || old.data_source_ref.is_some());
    if !was_used && spec.data_source_ref.is_none() {
        spec.data_source.take_if(|source| !is_classic(source));
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) if !has_namespace(source) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

/// What the older field was made for; anything else in it was always ignored.
fn is_classic(source: &TypedLocalObjectReference) -> bool {
    match (source.kind.as_str(), source.api_group.as_deref().unwrap_or_default()) {
        ("PersistentVolumeClaim", group) => group.is_empty(),
        ("VolumeSnapshot", group) => group == SNAPSHOTS,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
