//! Scale: the number of replicas of a workload, as an object of its own (upstream `ScaleREST`,
//! pkg/registry/apps/*/storage, v1.35).

use super::super::config::WRITE_ATTEMPTS_MAX;
use super::super::encoding::{self, Form, TableWriter, splice};
use super::super::query::{FieldValidation, Patching, WriteOptions};
use super::super::request::Verb;
use super::decode::{self, Submitted};
use super::ownership::{self, Claim};
use super::store::{self, Current, Outcome};
use super::update::{Part, modified, revise};
use super::{Call, apply, patch};
use crate::api::labels::Selector;
use crate::api::status::{Reason, Status};
use crate::api::{FieldError, FieldPath, ObjectKey, Revision};
use crate::registry::custom::{ScalePaths, Scaled};
use crate::registry::managed::{
    self, Application, Frame, Known, Place, Resets, SCALE_VERSION, Versions,
};
use crate::registry::schema::{self, BUILT_IN, Shape, types};
use crate::registry::{Kind, SCALE_COLUMNS, scale_row};
use crate::stdx::http::Response;
use crate::stdx::json;
use http::StatusCode;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where built-in workloads have their number of replicas.
const REPLICAS: &[&str] = &["spec", "replicas"];

pub(super) async fn answer(call: &Call<'_>) -> Result<Response, Status> {
    let key = call.key()?;
    match call.verb {
        Verb::Get => {
            let current = call.server.current(call.kind, &key).await?;
            check_replicas(call.kind, &current.entry.value)?;
            respond(call, &current.entry.value, current.entry.revision)
        }
        _ => write(call, &key).await,
    }
}

/// Writes `spec.replicas` of the workload, and nothing else, as an update of it.
async fn write(call: &Call<'_>, key: &ObjectKey) -> Result<Response, Status> {
    let options = match call.verb {
        Verb::Patch if patch::is_apply(call) => apply::configuration(call)?.options,
        Verb::Patch => WriteOptions::of_patch(call.query, Patching::Other)?,
        _ => WriteOptions::parse(call.query, "UpdateOptions")?,
    };
    for _ in 0..WRITE_ATTEMPTS_MAX {
        let current = call.server.current(call.kind, key).await?;
        let shown = scale_of(call.kind, &current.bare, current.entry.revision)?;
        let (wanted, managed) = wanted(call, &current, shown, options.field_validation)?;
        check(&wanted, key)?;
        let pinned = pinned_revision(&wanted)?;
        if pinned.is_some_and(|at| at != current.entry.revision) {
            return Err(modified(call, key));
        }
        let replicas = wanted.spec.and_then(|spec| spec.replicas).unwrap_or_default();
        let submitted = with_replicas(call, &current, replicas, managed)?;
        let next = revise(call, &current, submitted, Part::Object).await?;
        match store::settle(call, &current, next, options.dry_run).await? {
            Outcome::Stored { value, revision } | Outcome::Removed { value, revision } => {
                return respond(call, &value, revision);
            }
            Outcome::Raced => {}
        }
    }
    Err(modified(call, key))
}

/// The scale that the client wants, and who manages the fields of the workload then.
fn wanted(
    call: &Call<'_>,
    current: &Current,
    shown: Scale,
    validation: FieldValidation,
) -> Result<(Scale, Option<String>), Status> {
    let shown = json::to_value(&shown);
    let version = call.kind.facts.api_version();
    let path = scale_paths(call.kind).map(|paths| paths.spec_replicas.trim_start_matches('.'));
    let path: Option<Vec<_>> = path.map(|path| path.split('.').collect());
    let replicas = path.as_deref().unwrap_or(REPLICAS);
    let scaled = managed::Scaled { version: &version, replicas };
    let known = managed::of_scale(current.managed.as_deref(), scaled);
    let (document, managed) = if call.verb == Verb::Patch && patch::is_apply(call) {
        applied(call, &shown, known.as_deref())?
    } else {
        let mut document = match call.verb {
            Verb::Patch => patch::patched_document(call, types::SCALE, &shown, validation)?,
            _ => decode::document(call, types::SCALE, validation)?,
        };
        document["apiVersion"] = json!(SCALE_VERSION);
        document["kind"] = json!("Scale");
        let managed = noted(call, &shown, &document, known.as_deref());
        (document, managed)
    };
    let scale = json::from_value(&document)
        .map_err(|error| Status::bad_request(format!("cannot be handled as a Scale: {error}")))?;
    let managed = managed::of_workload(current.managed.as_deref(), managed.as_deref(), scaled);
    Ok((scale, managed))
}

/// Who manages the scale when this is written in its place.
fn noted(call: &Call<'_>, old: &Value, new: &Value, known: Option<&str>) -> Option<String> {
    let (old, new) = (old.to_string(), new.to_string());
    let manager = ownership::manager(call);
    let writer = ownership::writer(call, &manager, "scale");
    let known = Known { stored: known, submitted: None };
    let documents = (Some(old.as_bytes()), new.as_bytes());
    // What cannot be reckoned is forgotten.
    managed::after_write(&frame(), documents, known, &writer).ok().flatten()
}

/// The scale that the call's configuration makes of this one.
fn applied(
    call: &Call<'_>,
    shown: &Value,
    known: Option<&str>,
) -> Result<(Value, Option<String>), Status> {
    let wanted = apply::configuration(call)?;
    let live = shown.to_string();
    let manager = ownership::manager(call);
    let writer = ownership::writer(call, &manager, "scale");
    let application = Application {
        live: Some(live.as_bytes()),
        managed: known,
        config: &wanted.document,
        kind: "Scale",
        force: wanted.force,
    };
    let applied = managed::apply(&frame(), &application, &writer)
        .map_err(|refused| ownership::refusal(&refused))?;
    let mut document = applied.object;
    // Null is absence.
    let checked = schema::check(types::SCALE, &mut document);
    match checked.mistyped.first() {
        Some(mistyped) => Err(Status::new(Reason::Unknown, &*mistyped.message)),
        None => Ok((document, applied.managed)),
    }
}

/// A scale, which has one version and no halves that reset each other.
fn frame() -> Frame<'static> {
    let place = Place::root(&BUILT_IN, types::SCALE);
    Frame { place, version: SCALE_VERSION, resets: Resets::NONE, versions: &NoOthers }
}

#[derive(Debug)]
struct NoOthers;

impl Versions for NoOthers {
    fn place(&self, _: &str) -> Option<Place<'_>> {
        None
    }

    fn convert(&self, _: Value, version: &str) -> Result<Value, String> {
        Err(format!("there is no version {version}"))
    }
}

fn check(scale: &Scale, key: &ObjectKey) -> Result<(), Status> {
    let name = scale.metadata.name.as_deref().unwrap_or_default();
    if !name.is_empty() && name != key.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    if replicas >= 0 {
        return Ok(());
    }
    let path = FieldPath::new("spec").child("replicas");
    let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
    Err(Status::invalid("autoscaling", "Scale", &key.name, &[error]))
}

fn pinned_revision(scale: &Scale) -> Result<Option<Revision>, Status> {
    let text = scale.metadata.resource_version.as_deref().filter(|text| !text.is_empty());
    text.map(|text| {
        text.parse().map_err(|error| {
            Status::bad_request(format!("metadata.resourceVersion {text:?}: {error}"))
        })
    })
    .transpose()
}

fn with_replicas(
    call: &Call<'_>,
    current: &Current,
    replicas: i32,
    managed: Option<String>,
) -> Result<Submitted, Status> {
    let mut workload: Value = serde_json::from_slice(&current.bare).map_err(Status::internal)?;
    match scale_paths(call.kind) {
        None => workload["spec"]["replicas"] = json!(replicas),
        Some(paths) => paths.write(&mut workload, replicas).map_err(Status::internal)?,
    }
    let object = call.kind.decode(workload).map_err(Status::internal)?;
    let revision = Some(current.entry.revision);
    Ok(Submitted { object, revision, managed: Claim::Settled(managed) })
}

/// Where a custom resource has what its scale shows.
fn scale_paths(kind: &Kind) -> Option<&ScalePaths> {
    kind.custom_version()?.compiled().scale.as_ref()
}

/// There is no scale of a custom resource that does not say how many there are to be, until
/// somebody sets it (upstream `ScaleREST.Get`, apiextensions pkg/registry/customresource/etcd.go,
/// v1.35).
fn check_replicas(kind: &Kind, stored: &[u8]) -> Result<(), Status> {
    let Some(paths) = scale_paths(kind) else { return Ok(()) };
    let workload = serde_json::from_slice(stored).map_err(Status::internal)?;
    if paths.read(&workload).map_err(Status::internal)?.replicas.is_some() {
        return Ok(());
    }
    let path = &paths.spec_replicas;
    Err(Status::internal(format_args!("the spec replicas field {path:?} does not exist")))
}

/// What a scale shows of a workload.
fn scaled(kind: &Kind, workload: &Value) -> Result<Scaled, Status> {
    if let Some(paths) = scale_paths(kind) {
        return paths.read(workload).map_err(Status::internal);
    }
    let selector = selector_of(kind, &workload["spec"]["selector"])?;
    Ok(Scaled {
        replicas: workload["spec"]["replicas"].as_i64(),
        status_replicas: workload["status"]["replicas"].as_i64().unwrap_or_default(),
        selector: selector.to_string(),
    })
}

/// Older workloads select by labels alone; which do is written in the schema.
fn selector_of(kind: &Kind, selector: &Value) -> Result<Selector, Status> {
    let schema = kind.built_in_schema().map(|schema| BUILT_IN.get(schema));
    let spec = schema.and_then(|schema| schema.field("spec")).map(|field| field.shape());
    let field = match spec {
        Some(Shape::Struct(spec)) => BUILT_IN.get(spec).field("selector"),
        _ => None,
    };
    if matches!(field.map(|field| field.shape()), Some(Shape::Map(_))) {
        let labels: Option<BTreeMap<String, String>> =
            json::from_value(selector).map_err(Status::internal)?;
        return Ok(Selector::of_labels(&labels.unwrap_or_default()));
    }
    let selector: Option<LabelSelector> = json::from_value(selector).map_err(Status::internal)?;
    Selector::of_object(selector.as_ref()).map_err(Status::internal)
}

/// A workload, seen as its scale.
fn scale_of(kind: &Kind, stored: &[u8], revision: Revision) -> Result<Scale, Status> {
    let workload: Value = serde_json::from_slice(&splice::with_revision(stored, revision))
        .map_err(Status::internal)?;
    let Scaled { replicas, status_replicas, selector } = scaled(kind, &workload)?;
    let metadata = &workload["metadata"];
    json::from_value(&json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": replicas.filter(|count| *count != 0)},
        "status": {"replicas": status_replicas, "selector": selector},
    }))
    .map_err(Status::internal)
}

/// The scale in the form that is asked for. It says its revision itself.
fn respond(call: &Call<'_>, stored: &[u8], revision: Revision) -> Result<Response, Status> {
    let scale = scale_of(call.kind, stored, revision)?;
    let body = json::to_vec(&scale);
    let (form, unspliced) = (call.accepted.form, Revision::default());
    let document = match form {
        Form::Object => return call.respond_with(StatusCode::OK, types::SCALE, body),
        Form::Partial(version) => encoding::partial_object(&body, unspliced, version)?,
        Form::Table(table) => {
            let now = call.server.config.clock.now();
            let mut writer = TableWriter::new(call.kind, table, now).of_part(SCALE_COLUMNS);
            writer.push_row(&scale_row(&scale, now), Some((&body, unspliced)))?;
            writer.finish_at(revision)
        }
    };
    let shown = encoding::shown_as(call.kind, form);
    let shown = shown.as_ref().map(|(of, type_meta)| (*of, type_meta));
    encoding::document_response(StatusCode::OK, call.accepted, shown, document)
}
