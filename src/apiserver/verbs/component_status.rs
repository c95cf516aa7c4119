//! ComponentStatuses: worked out from what the server knows of itself when somebody asks.
//!
//! Follows upstream pkg/registry/core/componentstatus/rest.go (v1.35). There every component is asked
//! over the network; here they run in this process, and it ends where one of them does.

use super::super::request::Verb;
use super::super::selection::Selection;
use super::super::{errors, health, keys};
use super::list::{SelectedPage, respond};
use super::{Call, not_allowed};
use crate::api::ObjectKey;
use crate::api::status::Status;
use crate::registry::Object as _;
use crate::stdx::http::Response;
use crate::storage::Entry;
use http::StatusCode;
use k8s_openapi::api::core::v1::{ComponentCondition, ComponentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) async fn answer(call: &Call<'_>) -> Result<Response, Status> {
    let entries = health::components(call.server).into_iter().map(|(name, health)| {
        let key = keys::of(call.kind, &ObjectKey::cluster(name));
        let value = status(name, health).encode();
        Entry { key, value, revision: call.server.store.revision() }
    });
    match (call.verb, call.name) {
        (Verb::List, _) => {
            let selection = Selection::parse(call.kind, (None, call.name), call.query)?;
            let is_selected = |entry: &Entry| {
                selection.covers(&entry.key) && selection.matches(&entry.key, &entry.value)
            };
            let entries = entries.filter(is_selected).collect();
            let revision = call.server.store.revision();
            let page = SelectedPage { entries, next: None, revision, remaining: 0 };
            respond(call, &selection, page).await
        }
        (Verb::Get, Some(_)) => {
            let key = call.key()?;
            let wanted = keys::of(call.kind, &key);
            let found = entries.into_iter().find(|entry| entry.key == wanted);
            let entry = found.ok_or_else(|| errors::not_found(call.kind, &key))?;
            call.respond(StatusCode::OK, &entry.value, entry.revision)
        }
        _ => Err(not_allowed()),
    }
}

fn status(name: &str, health: Result<(), String>) -> ComponentStatus {
    let (is_well, message, error) = match health {
        Ok(()) => ("True", Some("ok".to_owned()), None),
        Err(why) => ("False", None, Some(why)),
    };
    let condition = ComponentCondition {
        type_: "Healthy".to_owned(),
        status: is_well.to_owned(),
        message,
        error,
    };
    ComponentStatus {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        conditions: Some(vec![condition]),
    }
}
