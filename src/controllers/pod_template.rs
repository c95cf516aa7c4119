//! Pods from templates, as all controllers of workloads make them.

use crate::api::owner::controller_reference;
use crate::client::ApiObject;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Pod names are at most this long, in bytes.
const POD_NAME_BYTES_MAX: usize = 253;

/// A pod as the template has it, controlled by `owner`, whose name it gets with something random
/// behind it: upstream `GetPodFromTemplate` (pkg/controller/controller_utils.go, v1.35).
pub(super) fn pod_of<O: ApiObject>(template: Option<&PodTemplateSpec>, owner: &O) -> Pod {
    let PodTemplateSpec { metadata, spec } = template.cloned().unwrap_or_default();
    let metadata = metadata.unwrap_or_default();
    let name = owner.metadata().name.as_deref().unwrap_or_default();
    let dash = if name.len() < POD_NAME_BYTES_MAX { "-" } else { "" };
    Pod {
        metadata: ObjectMeta {
            namespace: owner.metadata().namespace.clone(),
            generate_name: Some(format!("{name}{dash}")),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}
