//! A pod runs as a service account, `default` where it names none (upstream `ServiceAccount`,
//! plugin/pkg/admission/serviceaccount, v1.35). Tokens are not mounted yet.

use super::{Attributes, Facts, Plugin};
use crate::api::status::Status;
use k8s_openapi::api::core::v1::Pod;

pub(super) const PLUGIN: Plugin = Plugin { name: "ServiceAccount", wants: |_| Vec::new(), admit };

/// Marks a pod that a node shows for one it runs by itself.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

const DEFAULT_SERVICE_ACCOUNT: &str = "default";

fn admit(attributes: &mut Attributes<'_>, _facts: &Facts) -> Result<(), Status> {
    let Some(pod) = attributes.created::<Pod>() else {
        return Ok(());
    };
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(MIRROR_ANNOTATION)) {
        return Ok(());
    }
    let Some(spec) = &mut pod.spec else {
        return Ok(());
    };
    if spec.service_account_name.as_ref().is_none_or(String::is_empty) {
        spec.service_account_name = Some(DEFAULT_SERVICE_ACCOUNT.to_owned());
        // The old name of the same field, which the API keeps showing.
        spec.service_account.clone_from(&spec.service_account_name);
    }
    Ok(())
}
