//! Binding: a pod is given to a node (upstream `BindingREST`, pkg/registry/core/pod/storage, v1.35).

use super::super::errors;
use super::super::metadata::whole_second;
use super::super::query::WriteOptions;
use super::store::Current;
use super::update::amend;
use super::{Call, condition, decode};
use crate::api::status::{Status, Subject};
use crate::api::{FieldError, FieldPath, ObjectKey};
use crate::registry::Object;
use crate::registry::schema::types;
use crate::stdx::http::Response;
use crate::stdx::json;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Map, json};

pub(super) async fn create(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut document = decode::document(call, types::BINDING, options.field_validation)?;
    document["apiVersion"] = json!("v1");
    document["kind"] = json!("Binding");
    let binding: Binding = json::from_value(&document)
        .map_err(|error| Status::bad_request(format!("cannot be handled as a Binding: {error}")))?;
    let name = binding.metadata.name.clone().unwrap_or_default();
    if call.name.is_some_and(|path| path != name) {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let namespace = binding.metadata.namespace.as_deref().filter(|own| !own.is_empty());
    if namespace.is_some_and(|own| Some(own) != call.namespace) {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let problems = validate(&binding);
    if !problems.is_empty() {
        return Err(Status::invalid("", "Binding", &name, &problems));
    }
    let key = ObjectKey { namespace: call.namespace.map(str::to_owned), name };
    let now = call.server.config.clock.now();
    let change = |current: &Current, object: &mut dyn Object| {
        let pod = object.as_any_mut().downcast_mut::<Pod>();
        let pod = pod.ok_or_else(|| Status::internal("only pods are bound"))?;
        let revision = current.entry.revision.to_string();
        let conflict = |resource: &str, why: &str| {
            let subject = Subject { resource, ..errors::subject(call.kind, &key.name) };
            Status::conflict(subject, why)
        };
        check_preconditions(&binding, &pod.metadata, &revision)
            .map_err(|why| conflict("pods", &why))?;
        bind(pod, &binding, now).map_err(|why| conflict("pods/binding", &why))?;
        if binding.target.kind.as_deref() == Some("Node") {
            let node = binding.target.name.as_deref().unwrap_or_default();
            call.server.topology.label(&mut pod.metadata, node);
        }
        Ok(())
    };
    amend(call, &key, options.dry_run, change).await?;
    call.respond_success(StatusCode::CREATED, Map::new())
}

/// Upstream `ValidatePodBinding`.
fn validate(binding: &Binding) -> Vec<FieldError> {
    let path = FieldPath::new("target");
    let mut errors = Vec::new();
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let supported = ["Node", "<empty>"];
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &supported));
    }
    if binding.target.name.as_ref().is_none_or(String::is_empty) {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    errors
}

/// A binding may be meant for one pod, or for it as it was at one moment.
fn check_preconditions(binding: &Binding, pod: &ObjectMeta, revision: &str) -> Result<(), String> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let uid = pod.uid.as_deref().unwrap_or_default();
    for (name, wanted, is) in [
        ("UID", text(&binding.metadata.uid), uid),
        ("ResourceVersion", text(&binding.metadata.resource_version), revision),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| wanted != is) {
            return Err(format!(
                "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {is}"
            ));
        }
    }
    Ok(())
}

fn bind(pod: &mut Pod, binding: &Binding, now: Timestamp) -> Result<(), String> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.as_ref().filter(|node| !node.is_empty()) {
        return Err(format!("pod {name} is already assigned to node {node:?}"));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name.clone_from(&binding.target.name);
    for (key, value) in binding.metadata.annotations.iter().flatten() {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(key.clone(), value.clone());
    }
    for (key, value) in binding.metadata.labels.iter().flatten() {
        pod.metadata.labels.get_or_insert_default().insert(key.clone(), value.clone());
    }
    let status = pod.status.get_or_insert_default();
    status.nominated_node_name = None;
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(whole_second(now))),
        ..PodCondition::default()
    };
    condition::set(status.conditions.get_or_insert_default(), scheduled);
    Ok(())
}
