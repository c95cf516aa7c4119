//! What whoever writes a Job is told: upstream `WarningsForJobSpec` (pkg/api/job/warnings.go, v1.35).

use crate::api::FieldPath;
use crate::registry::kinds::core::podspec;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// More completions than this, with more pods at once than the other, may be too many to track.
const COMPLETIONS_SOFT_MAX: i32 = 100_000;
const PARALLELISM_SOFT_MAX: i32 = 10_000;

/// Of the Job that is specified at `path`; the metadata is of what has the specification, now and
/// before.
pub(in super::super) fn warnings(
    (metadata, old): (&ObjectMeta, Option<&ObjectMeta>),
    spec: &JobSpec,
    path: &FieldPath,
) -> Vec<String> {
    if old.is_some_and(|old| old.generation == metadata.generation) {
        return Vec::new();
    }
    let name = podspec::workload_name_warning(metadata).filter(|_| old.is_none());
    let mut warnings: Vec<_> = name.into_iter().collect();
    if spec.completion_mode.as_deref() == Some("Indexed")
        && spec.completions.unwrap_or_default() > COMPLETIONS_SOFT_MAX
        && spec.parallelism.unwrap_or_default() > PARALLELISM_SOFT_MAX
    {
        warnings.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a \
             parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes \
             when a big number of indexes fail"
        ));
    }
    warnings.extend(podspec::template_warnings(&spec.template, &path.child("template")));
    warnings
}
