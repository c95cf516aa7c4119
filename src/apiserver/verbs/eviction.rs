//! Eviction: a delete that asks first. There are no disruption budgets yet that could refuse
//! (upstream `EvictionREST`, pkg/registry/core/pod/storage/eviction.go, v1.35).

use super::super::admission::check_eviction;
use super::super::metadata::whole_second;
use super::super::query::WriteOptions;
use super::delete::{DeleteOptions, check_preconditions, delete_object};
use super::store::{Current, Outcome};
use super::update::{amend, modified};
use super::{Call, condition, decode};
use crate::api::status::Status;
use crate::registry::Object;
use crate::registry::schema::types;
use crate::stdx::http::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, json};

pub(super) async fn create(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut document = decode::document(call, types::EVICTION)?;
    document["apiVersion"] = json!("policy/v1");
    document["kind"] = json!("Eviction");
    let eviction: Eviction = serde_json::from_value(document).map_err(|error| {
        Status::bad_request(format!("cannot be handled as an Eviction: {error}"))
    })?;
    let key = call.key()?;
    if eviction.metadata.name.as_deref() != Some(&key.name) {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut delete = DeleteOptions::of_wire(eviction.delete_options.unwrap_or_default())?;
    delete.dry_run |= options.dry_run;
    let now = whole_second(call.server.config.clock.now());
    let tell_why = |current: &Current, object: &mut dyn Object| {
        check_preconditions(call, current, &delete)?;
        if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
            check_eviction(call, pod)?;
            mark(pod, Time(now));
        }
        Ok(())
    };
    let told = amend(call, &key, delete.dry_run, tell_why).await?;
    // A delete that was pinned to a revision goes on from the one with the condition (upstream
    // `addConditionAndDeletePod`).
    if let (Some(pinned), Outcome::Stored { revision, .. }) = (&mut delete.revision, &told) {
        *pinned = revision.to_string();
    }
    match delete_object(call, &key, &delete).await? {
        Outcome::Raced => Err(modified(call, &key)),
        Outcome::Stored { .. } | Outcome::Removed { .. } => {
            call.respond_success(StatusCode::CREATED, Map::new())
        }
    }
}

/// The reason why the pod goes, for whoever looks at it afterwards.
fn mark(pod: &mut Pod, now: Time) {
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: Some(now),
        ..PodCondition::default()
    };
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    condition::set(conditions, condition);
}
