//! Eviction: a delete that asks the pod's disruption budget first.
//!
//! Start at [`create`]; what is asked for is decided in [`plan`]. Follows upstream `EvictionREST`
//! (pkg/registry/core/pod/storage/eviction.go, v1.35).

mod plan;

use self::plan::{Permission, permission, spend, unprocessed};
use super::super::admission::check_eviction;
use super::super::config::WRITE_ATTEMPTS_MAX;
use super::super::metadata::whole_second;
use super::super::query::WriteOptions;
use super::super::{errors, keys};
use super::delete::{DeleteOptions, check_preconditions, delete_object};
use super::store::{Current, Outcome};
use super::update::{amend, modified};
use super::{Call, condition, decode};
use crate::api::ObjectKey;
use crate::api::status::{Reason, Status};
use crate::registry::schema::types;
use crate::registry::{self, Kind, Object};
use crate::stdx::http::Response;
use crate::stdx::json;
use crate::storage::{Commit, CommitError, Durability, Entry, ListRequest, Op};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, json};

pub(super) async fn create(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut document = decode::document(call, types::EVICTION, options.field_validation)?;
    document["apiVersion"] = json!("policy/v1");
    document["kind"] = json!("Eviction");
    let eviction: Eviction = json::from_value(&document).map_err(|error| {
        Status::bad_request(format!("cannot be handled as an Eviction: {error}"))
    })?;
    let key = call.key()?;
    if eviction.metadata.name.as_deref() != Some(&key.name) {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut delete = DeleteOptions::of_wire(eviction.delete_options.unwrap_or_default())?;
    delete.dry_run |= options.dry_run;
    evict(call, &key, &delete).await?;
    call.respond_success(StatusCode::CREATED, Map::new())
}

/// Asks, pays, and deletes. A pod that has changed meanwhile is asked about again.
async fn evict(call: &Call<'_>, key: &ObjectKey, wanted: &DeleteOptions) -> Result<(), Status> {
    for _ in 0..WRITE_ATTEMPTS_MAX {
        let current = call.server.current(call.kind, key).await?;
        check_preconditions(call, &current, wanted)?;
        let Some(pod) = current.object.as_any().downcast_ref::<Pod>() else {
            return Err(Status::internal("only pods can be evicted"));
        };
        check_eviction(call, pod)?;
        let budgets = Budgets::of(call).await?;
        let permission = permission(pod, &budgets.decoded)?;
        let mut delete = wanted.clone();
        let is_pinned = wanted.revision.is_some();
        match permission {
            Permission::Free => {}
            Permission::WhileUnchanged | Permission::WhileUnhealthy(_) => {
                delete.revision = Some(current.entry.revision.to_string());
            }
            Permission::Budget(number) => {
                if !budgets.spend(call, number, &key.name, wanted.dry_run).await? {
                    continue;
                }
            }
        }
        return match (mark_and_delete(call, key, delete).await, permission) {
            (Err(error), Permission::WhileUnchanged)
                if error.reason == Reason::Conflict && !is_pinned =>
            {
                continue;
            }
            // It may be healthy now.
            (Err(error), Permission::WhileUnhealthy(number))
                if error.reason == Reason::Conflict && !is_pinned =>
            {
                Err(unprocessed(budgets.name(number)))
            }
            (done, _) => done,
        };
    }
    let why = "couldn't update PodDisruptionBudget due to conflicts";
    Err(Status::new(Reason::Timeout, why))
}

/// The budgets of the pod's namespace, as they are stored.
struct Budgets {
    kind: &'static Kind,
    entries: Vec<Entry>,
    decoded: Vec<PodDisruptionBudget>,
}

impl Budgets {
    async fn of(call: &Call<'_>) -> Result<Self, Status> {
        let kind = registry::find("policy", "v1", "poddisruptionbudgets")
            .ok_or_else(|| Status::internal("there are no disruption budgets"))?;
        let prefix = keys::prefix(kind, call.namespace);
        let request = ListRequest { prefix, after: None, limit: None, at: None };
        let page = call.server.store.list(request).await;
        let entries = page.map_err(|error| errors::of_read(&error))?.entries;
        let decode = |entry: &Entry| -> Result<PodDisruptionBudget, Status> {
            serde_json::from_slice(&entry.value).map_err(Status::internal)
        };
        let decoded = entries.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Self { kind, entries, decoded })
    }

    fn name(&self, number: usize) -> &str {
        self.decoded[number].metadata.name.as_deref().unwrap_or_default()
    }

    /// Spends one disruption for the pod. `false` where the budget has changed: it must be asked
    /// again.
    async fn spend(
        &self,
        call: &Call<'_>,
        number: usize,
        pod: &str,
        dry_run: bool,
    ) -> Result<bool, Status> {
        let now = whole_second(call.server.config.clock.now());
        let spent = spend(&self.decoded[number], pod, now)?;
        if dry_run {
            return Ok(true);
        }
        let entry = &self.entries[number];
        let stored =
            self.kind.decode_stored(&serde_json::to_vec(&spent).map_err(Status::internal)?);
        let value = stored.map_err(Status::internal)?.encode();
        let update = Op::Update { key: entry.key.clone(), value, expected: entry.revision };
        let commit = Commit { ops: vec![update], durability: Durability::Durable };
        match call.server.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitError::Exists { .. } | CommitError::Conflict { .. }) => Ok(false),
            Err(error) => Err(errors::of_commit(&error)),
        }
    }
}

/// Tells why the pod goes, and deletes it.
async fn mark_and_delete(
    call: &Call<'_>,
    key: &ObjectKey,
    mut delete: DeleteOptions,
) -> Result<(), Status> {
    let now = whole_second(call.server.config.clock.now());
    let tell_why = |current: &Current, object: &mut dyn Object| {
        check_preconditions(call, current, &delete)?;
        if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
            mark(pod, Time(now));
        }
        Ok(())
    };
    let told = amend(call, key, delete.dry_run, tell_why).await?;
    // A delete that was pinned to a revision goes on from the one with the condition (upstream
    // `addConditionAndDeletePod`).
    if let (Some(pinned), Outcome::Stored { revision, .. }) = (&mut delete.revision, &told) {
        *pinned = revision.to_string();
    }
    match delete_object(call, key, &delete).await? {
        Outcome::Raced => Err(modified(call, key)),
        Outcome::Stored { .. } | Outcome::Removed { .. } => Ok(()),
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
