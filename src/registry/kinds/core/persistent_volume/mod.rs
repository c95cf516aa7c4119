//! PersistentVolumes: storage that outlives the pods that use it.
//!
//! Start at [`validate::validate`]. Follows upstream pkg/registry/core/persistentvolume and
//! `ValidatePersistentVolume` (pkg/apis/core/validation, v1.35). The finalizer that keeps a used
//! volume is admission's.

mod changes;
mod sources;
mod validate;
mod warnings;

pub(in crate::registry::kinds) use validate::validate_inline;

use super::{podspec, volume_cells};
use crate::api::FieldError;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use std::borrow::Cow;

const PENDING: &str = "Pending";

impl Resource for PersistentVolume {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "persistentvolume",
        short_names: &[Cow::Borrowed("pv")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::PERSISTENT_VOLUME;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Capacity", "How much the volume holds."),
        Column::text("Access Modes", "How the volume can be mounted."),
        Column::text("Reclaim Policy", "What becomes of the volume when its claim goes."),
        Column::text("Status", "Available, Bound, Released or Failed."),
        Column::text("Claim", "The claim that has the volume."),
        Column::text("StorageClass", "The class of the volume."),
        Column::text("VolumeAttributesClass", "The class of the volume's attributes."),
        Column::text("Reason", "Why the volume is in its state."),
        Column::AGE,
        Column::wide("VolumeMode", "Filesystem, or Block."),
    ];
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_fields(spec);
        sources::apply_defaults(spec);
        podspec::round_up(spec.capacity.as_mut());
        let phase = &mut self.status.get_or_insert_default().phase;
        phase.take_if(|phase| phase.is_empty());
        phase.get_or_insert_with(|| PENDING.to_owned());
    }

    fn prepare_create(&mut self) {
        self.status = Some(PersistentVolumeStatus {
            phase: Some(PENDING.to_owned()),
            last_phase_transition_time: self.metadata.creation_timestamp.clone(),
            ..Default::default()
        });
    }

    fn stamp_status(&mut self, old: &Self, now: Timestamp) {
        let old = old.status.clone().unwrap_or_default();
        let status = self.status.get_or_insert_default();
        let since = &mut status.last_phase_transition_time;
        if status.phase == old.phase {
            *since = since.take().or(old.last_phase_transition_time);
        } else if since.is_none() || *since == old.last_phase_transition_time {
            *since = Some(Time(now));
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let (new, old) =
            (self.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        changes::validate(new, &old)
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        warnings::warnings(self)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let claim = spec.claim_ref.as_ref().map(|claim| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{}", text(&claim.namespace), text(&claim.name))
        });
        let class = spec.storage_class_name.as_deref();
        vec![
            cells::name(&self.metadata),
            volume_cells::storage(spec.capacity.as_ref()).into(),
            volume_cells::modes(spec.access_modes.as_deref()).into(),
            spec.persistent_volume_reclaim_policy.unwrap_or_default().into(),
            volume_cells::phase(&self.metadata, status.phase.as_deref()).into(),
            claim.unwrap_or_default().into(),
            volume_cells::class(&self.metadata, class).into(),
            volume_cells::or_unset(spec.volume_attributes_class_name.as_deref()).into(),
            status.reason.unwrap_or_default().into(),
            cells::age(&self.metadata, now),
            volume_cells::or_unset(spec.volume_mode.as_deref()).into(),
        ]
    }
}

fn default_fields(spec: &mut PersistentVolumeSpec) {
    for (field, default) in [
        (&mut spec.persistent_volume_reclaim_policy, "Retain"),
        (&mut spec.volume_mode, "Filesystem"),
    ] {
        field.get_or_insert_with(|| default.to_owned());
    }
    let policy = &mut spec.persistent_volume_reclaim_policy;
    if policy.as_ref().is_some_and(String::is_empty) {
        *policy = Some("Retain".to_owned());
    }
    // What is empty and what is absent are the same to upstream's types.
    spec.storage_class_name.take_if(|class| class.is_empty());
    spec.access_modes.take_if(|modes| modes.is_empty());
    spec.mount_options.take_if(|options| options.is_empty());
    spec.capacity.take_if(|capacity| capacity.is_empty());
}

#[cfg(test)]
mod tests;
