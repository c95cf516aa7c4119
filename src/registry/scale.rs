//! How the scale of a workload is printed, whatever the workload (upstream `printScale`,
//! pkg/printers/internalversion/printers.go, v1.35).

use super::Column;
use super::cells;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::{Value, json};

/// The columns of a table of scales.
pub const SCALE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "How many are wanted."),
    Column::integer("Available", "How many there are."),
    Column::AGE,
];

/// The cells of its row.
#[must_use]
pub fn scale_row(scale: &Scale, now: Timestamp) -> Vec<Value> {
    let desired = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let available = scale.status.as_ref().map_or(0, |status| status.replicas);
    let metadata = &scale.metadata;
    vec![cells::name(metadata), json!(desired), json!(available), cells::age(metadata, now)]
}
