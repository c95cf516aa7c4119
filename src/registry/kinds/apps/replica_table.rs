//! How those are printed that keep so many pods of one template: ReplicaSets and
//! ReplicationControllers.

use super::container_cells;
use crate::registry::{Column, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

pub(in crate::registry::kinds) const REPLICA_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "Number of pods wanted."),
    Column::integer("Current", "Number of pods there are."),
    Column::integer("Ready", "Number of pods that are ready."),
    Column::AGE,
    Column::wide("Containers", "Names of the template's containers."),
    Column::wide("Images", "Images of the template's containers."),
    Column::wide("Selector", "Labels of the pods that count."),
];

/// What [`REPLICA_COLUMNS`] show beside name and age.
#[derive(Debug)]
pub(in crate::registry::kinds) struct ReplicaRow<'a> {
    pub(in crate::registry::kinds) wanted: Option<i32>,
    pub(in crate::registry::kinds) there: i32,
    pub(in crate::registry::kinds) ready: Option<i32>,
    pub(in crate::registry::kinds) template: Option<&'a PodTemplateSpec>,
    pub(in crate::registry::kinds) selector: String,
}

impl ReplicaRow<'_> {
    pub(in crate::registry::kinds) fn cells(
        self,
        metadata: &ObjectMeta,
        now: Timestamp,
    ) -> Vec<Value> {
        let (names, images) = container_cells(self.template);
        vec![
            cells::name(metadata),
            self.wanted.unwrap_or_default().into(),
            self.there.into(),
            self.ready.unwrap_or_default().into(),
            cells::age(metadata, now),
            names.into(),
            images.into(),
            self.selector.into(),
        ]
    }
}
