//! Only in namespaces that say so does anybody get at devices as their administrator (upstream
//! `AuthorizedForAdmin` and `AuthorizedForAdminStatus`, pkg/registry/resource, v1.35, where this is
//! part of the kinds' validation).

use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Operation, Plugin, Want, Warnings};
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath, ObjectKey};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "DeviceAdminAccess",
    mutation: None,
    judgement: Some(Judgement { wants, judge }),
};

const LABEL: &str = "resource.kubernetes.io/admin-access";

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    let namespace = attributes.namespace.filter(|_| asked_at(attributes).is_some());
    let want = |name| Want::one("", "namespaces", ObjectKey::cluster(name));
    namespace.map(want).into_iter().collect()
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let Some((name, path)) = asked_at(attributes) else { return Ok(()) };
    let namespace: Option<&Namespace> = facts.all().next();
    let labels = namespace.and_then(|namespace| namespace.metadata.labels.as_ref());
    if labels.and_then(|labels| labels.get(LABEL)).is_some_and(|value| value == "true") {
        return Ok(());
    }
    let detail = format!(
        "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
    );
    let facts = &attributes.kind.facts;
    Err(Status::invalid(&facts.group, &facts.kind, &name, &[FieldError::forbidden(&path, detail)]))
}

/// The object that asks for such access, and where in it. What was stored is not judged again.
fn asked_at(attributes: &Attributes<'_>) -> Option<(String, FieldPath)> {
    if let Operation::Create(object) = &attributes.operation {
        let name = object.metadata().name.clone().unwrap_or_default();
        let object = object.as_any();
        let claim = object.downcast_ref::<ResourceClaim>().map(|claim| &claim.spec);
        let template = object.downcast_ref::<ResourceClaimTemplate>();
        let spec = claim.or_else(|| template.map(|template| &template.spec.spec))?;
        let path = FieldPath::new("spec").child("devices").child("requests");
        return Some((name, path.index(asks(spec)?).child("adminAccess")));
    }
    let (new, old) = attributes.updating::<ResourceClaim>(Part::Status)?;
    if given(old).is_some() {
        return None;
    }
    let path = FieldPath::new("status").child("allocation").child("devices").child("results");
    let name = new.metadata.name.clone().unwrap_or_default();
    Some((name, path.index(given(new)?).child("adminAccess")))
}

fn asks(spec: &ResourceClaimSpec) -> Option<usize> {
    let mut requests = spec.devices.as_ref()?.requests.iter().flatten();
    requests.position(|request| {
        request.exactly.as_ref().is_some_and(|exactly| exactly.admin_access == Some(true))
    })
}

fn given(claim: &ResourceClaim) -> Option<usize> {
    let devices = claim.status.as_ref()?.allocation.as_ref()?.devices.as_ref()?;
    devices.results.iter().flatten().position(|result| result.admin_access == Some(true))
}
