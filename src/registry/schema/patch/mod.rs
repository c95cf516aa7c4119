//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7396) and strategic merge patch.
//!
//! Start at [`json_patch()`], [`merge_patch`] and [`strategic_merge_patch`]. Each takes the document
//! and gives back the patched one; neither checks it, that is for
//! [`check`](super::check()). A failed patch loses the document, so a caller that needs it keeps it.

mod json;
mod strategic;
#[cfg(test)]
mod strategic_properties;
#[cfg(test)]
mod strategic_tests;

pub use json::{
    JSON_PATCH_COPIED_BYTES_MAX, JSON_PATCH_OPERATIONS_MAX, JSON_PATCH_WORK_MAX, json_patch,
};
pub use strategic::{STRATEGIC_WORK_MAX, go_text, strategic_merge_patch, strategic_merge_patch_in};

use crate::api::Status;
use crate::api::status::Reason;
use serde_json::Value;

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is no patch of its kind.
    #[error("{problem}")]
    Malformed { problem: String },
    #[error(
        "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {operations}"
    )]
    TooManyOperations { operations: usize },
    /// It is a patch, but not one for this document.
    #[error("{problem}")]
    DoesNotApply { problem: String },
}

impl PatchError {
    fn malformed(problem: impl Into<String>) -> Self {
        Self::Malformed { problem: problem.into() }
    }

    fn does_not_apply(problem: impl Into<String>) -> Self {
        Self::DoesNotApply { problem: problem.into() }
    }

    /// What the client is answered, as upstream answers (`applyJSPatch` and
    /// `interpretStrategicMergePatchError`, apiserver pkg/endpoints/handlers/patch.go, v1.35).
    /// Where upstream says only that something is wrong, this says what.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Self::Malformed { .. } => Status::new(Reason::BadRequest, self.to_string()),
            Self::TooManyOperations { .. } => Status::new(
                Reason::RequestEntityTooLarge,
                format!("Request entity too large: {self}"),
            ),
            Self::DoesNotApply { .. } => Status::new(
                Reason::Invalid,
                format!("the server rejected our request due to an error in our request: {self}"),
            ),
        }
    }
}

/// Applies a JSON merge patch: fields replace fields, null removes, lists are replaced.
///
/// # Errors
/// If the patch is no object.
pub fn merge_patch(mut document: Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::malformed("Invalid JSON Patch"));
    }
    json_patch::merge(&mut document, patch);
    Ok(document)
}
