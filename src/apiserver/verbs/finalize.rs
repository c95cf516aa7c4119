//! Finalize: takes finalizers out of a namespace's spec; with the last of them gone, a namespace
//! whose deletion was asked for goes (upstream `FinalizeREST`, pkg/registry/core/namespace, v1.35).

use super::super::query::WriteOptions;
use super::store::{Current, Outcome};
use super::update::{amend_by, check_revision, check_uid};
use super::{Call, decode};
use crate::api::status::Status;
use crate::registry::Object;
use crate::stdx::http::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;

pub(super) async fn update(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let submitted = decode::object(call, options.field_validation)?;
    let key = call.key()?;
    let not_a_namespace = || Status::internal("only namespaces are finalized");
    let namespace: &Namespace =
        submitted.object.as_any().downcast_ref().ok_or_else(not_a_namespace)?;
    if namespace.metadata.name.as_ref().is_some_and(|name| *name != key.name) {
        return Err(Status::bad_request(
            "the name of the object does not match the name on the URL",
        ));
    }
    let revision = submitted.revision;
    let wanted = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone());
    let change = |current: &Current, object: &mut dyn Object| {
        check_revision(call, current, revision)?;
        let stored = object.as_any_mut().downcast_mut::<Namespace>().ok_or_else(not_a_namespace)?;
        let uid = stored.metadata.uid.as_deref().unwrap_or_default();
        check_uid(call, submitted.object.as_ref(), uid)?;
        stored.spec.get_or_insert_default().finalizers.clone_from(&wanted);
        let problems = object.validate();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("", "Namespace", &key.name, &problems))
    };
    match amend_by(call, &key, (Some("finalize"), options.dry_run), change).await? {
        Outcome::Stored { value, revision } | Outcome::Removed { value, revision } => {
            call.respond(StatusCode::OK, &value, revision)
        }
        Outcome::Raced => Err(super::update::modified(call, &key)),
    }
}
