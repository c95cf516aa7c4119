//! Does what was decided about a file, through the API.
//!
//! Start at [`Applier::carry_out`]. Each object has an outcome of its own: one that is refused keeps no
//! other from being applied. What is about to be made is remembered first.

use super::kind::{AddOn, OWNER_ANNOTATION, PRUNE_ANNOTATION, definition};
use super::manifest::Wanted;
use super::object::{Identity, ObjectId, ServedKinds};
use super::outcome::{Outcome, Outcomes, Problem, begun, complained, concluded, objects, unpruned};
use super::plan::{Job, Stage, Todo};
use crate::api::Reason;
use crate::client::{
    Client, ClientError, Content, DeleteOptions, EventRecorder, EventType, Propagation, key_of,
    object_reference,
};
use crate::stdx::{Clock, chain};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tracing::{info, warn};

/// The manager of the fields that manifests have.
const MANAGER: &str = "kinglet-addons";

/// So many objects are written at once: the store commits in groups, so that more would gain little.
const WRITES_AT_ONCE_MAX: usize = 32;

/// An event names so many objects that were pruned.
const PRUNED_NAMED_MAX: usize = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Applier {
    pub(super) client: Client,
    pub(super) events: EventRecorder,
    pub(super) clock: Clock,
}

/// What is to be done about the objects of a file.
#[derive(Debug)]
struct Applying<'a> {
    addon: &'a AddOn,
    wanted: Vec<Wanted>,
    disputed: &'a [(ObjectId, String)],
    stale: &'a [ObjectId],
    kinds: &'a ServedKinds,
}

impl Applier {
    /// Has the server know what an AddOn is.
    pub(super) async fn define(&self) -> Result<(), ClientError> {
        let definition = definition();
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        self.apply(&path, &definition).await
    }

    /// Does what was decided about a file. `None`: there is nothing that might have failed.
    ///
    /// # Errors
    /// Where the AddOn cannot be written: what comes of the rest would not be known.
    pub(super) async fn carry_out(
        &self,
        job: &Job,
        wanted: Vec<Wanted>,
        kinds: &ServedKinds,
    ) -> Result<Option<Outcomes>, ClientError> {
        let addon = || job.addon.clone().unwrap_or_else(|| AddOn::new(&job.name, &job.source));
        match &job.todo {
            Todo::Complain { message } => {
                let before = addon();
                let next = complained(&before, message, self.clock.now());
                let next = self.write(&before, next).await?;
                self.tell(&before, &next);
                Ok(None)
            }
            Todo::Apply { checksum, ids, disputed, stale } => {
                let before = addon();
                let addon = self.write(&before, begun(&before, ids, self.clock.now())).await?;
                let applying = Applying { addon: &addon, wanted, disputed, stale, kinds };
                let outcomes = self.apply_all(applying).await;
                let next = concluded(&addon, checksum, &outcomes, self.clock.now());
                let next = self.write(&addon, next).await?;
                self.tell(&before, &next);
                Ok(Some(outcomes))
            }
            Todo::Remove { stale } => {
                let before = addon();
                let left = self.prune(&before, stale, kinds).await;
                if left.is_empty() {
                    self.forget(&before).await?;
                    return Ok(None);
                }
                let outcomes = Outcomes { applied: Vec::new(), left: left.clone() };
                let next = self.write(&before, unpruned(&before, left, self.clock.now())).await?;
                self.tell(&before, &next);
                Ok(Some(outcomes))
            }
        }
    }

    /// Applies what is in the file, and prunes what is no more, if all of that went well.
    async fn apply_all(&self, applying: Applying<'_>) -> Outcomes {
        let Applying { addon, mut wanted, disputed, stale, kinds } = applying;
        let owners: BTreeMap<Identity, &String> =
            disputed.iter().map(|(id, owner)| (kinds.identity(id), owner)).collect();
        let mut outcomes = Outcomes::default();
        wanted.sort_by_key(|wanted| Stage::of(&wanted.id));
        for stage in Stage::ALL {
            let rest = wanted.partition_point(|wanted| Stage::of(&wanted.id) <= stage);
            let of_stage: Vec<_> = wanted.drain(..rest).collect();
            let owners = &owners;
            let writes = of_stage.into_iter().map(|wanted| async move {
                let id = kinds.placed(&wanted.id);
                let problem = match owners.get(&kinds.identity(&wanted.id)) {
                    Some(owner) => Some(Problem::Disputed { owner: (*owner).clone() }),
                    None => self.apply_one(addon, (&id, wanted.document), kinds).await.err(),
                };
                Outcome { id, problem }
            });
            let done = stream::iter(writes).buffered(WRITES_AT_ONCE_MAX);
            outcomes.applied.extend(done.collect::<Vec<_>>().await);
        }
        outcomes.left = match outcomes.is_all_applied() {
            true => self.prune(addon, stale, kinds).await,
            false => stale.iter().map(|id| Outcome { id: id.clone(), problem: None }).collect(),
        };
        outcomes
    }

    async fn apply_one(
        &self,
        addon: &AddOn,
        (id, mut document): (&ObjectId, Value),
        kinds: &ServedKinds,
    ) -> Result<(), Problem> {
        let served = kinds.find(&id.api_version, &id.kind).ok_or(Problem::NoKind)?;
        let key = kinds.identity(id).key;
        let metadata = &mut document["metadata"];
        if let (Some(fields), None) = (metadata.as_object_mut(), &key.namespace) {
            fields.remove("namespace");
        }
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"][OWNER_ANNOTATION] = json!(addon.name());
        let path = served.resource.object_path(&key, None);
        self.apply(&path, &document).await.map_err(|error| match key.namespace {
            Some(namespace) if lacks_namespace(&error) => {
                Problem::NoNamespace { namespace, message: chain(&error) }
            }
            _ => Problem::Failed { message: chain(&error) },
        })
    }

    /// Has the object be as the document says, whoever has said otherwise.
    async fn apply(&self, path: &str, document: &Value) -> Result<(), ClientError> {
        let path = format!("{path}?fieldManager={MANAGER}&force=true&fieldValidation=Strict");
        let bytes = Bytes::from(document.to_string());
        let content = Content { media_type: "application/apply-patch+yaml", bytes };
        self.client.request(Method::PATCH, &path, Some(content)).await?;
        Ok(())
    }

    /// Deletes what is the AddOn's. Returns what could not be deleted.
    async fn prune(&self, addon: &AddOn, stale: &[ObjectId], kinds: &ServedKinds) -> Vec<Outcome> {
        let mut stale: Vec<_> = stale.to_vec();
        stale.sort_by_key(|id| std::cmp::Reverse(Stage::of(id)));
        let (mut left, mut pruned) = (Vec::new(), Vec::new());
        for id in stale {
            match self.prune_one(addon, &id, kinds).await {
                Ok(true) => pruned.push(id),
                Ok(false) => {}
                Err(error) => {
                    let message = format!("it could not be pruned: {}", chain(&error));
                    left.push(Outcome { id, problem: Some(Problem::Failed { message }) });
                }
            }
        }
        if !pruned.is_empty() {
            let named: Vec<_> =
                pruned.iter().take(PRUNED_NAMED_MAX).map(ToString::to_string).collect();
            let more = if pruned.len() > PRUNED_NAMED_MAX { ", ..." } else { "" };
            let (count, named) = (pruned.len(), named.join(", "));
            let message = format!("pruned {count} {}: {named}{more}", objects(count));
            info!(addon = addon.name(), "{message}");
            self.events.record(object_reference(addon), EventType::Normal, "Pruned", message);
        }
        left
    }

    /// Says whether it was there, and the AddOn's.
    async fn prune_one(
        &self,
        addon: &AddOn,
        id: &ObjectId,
        kinds: &ServedKinds,
    ) -> Result<bool, ClientError> {
        let exact = kinds.find(&id.api_version, &id.kind);
        // Objects go with their kind.
        let Some(served) = exact.or_else(|| kinds.find_any(id.group(), &id.kind)) else {
            return Ok(false);
        };
        let path = served.resource.object_path(&kinds.identity(id).key, None);
        let live = match self.client.request(Method::GET, &path, None).await {
            Err(error) if error.is_not_found() => return Ok(false),
            live => live?,
        };
        let live: Live = serde_json::from_slice(&live).map_err(ClientError::Malformed)?;
        if !is_to_go(&live.metadata, addon.name()) {
            return Ok(false);
        }
        let options = DeleteOptions {
            uid: live.metadata.uid,
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        match self.client.request(Method::DELETE, &path, Some(options.content())).await {
            Err(error) if error.is_not_found() => Ok(false),
            deleted => deleted.map(|_| true),
        }
    }

    /// Nothing is left of the file.
    async fn forget(&self, addon: &AddOn) -> Result<(), ClientError> {
        let options = DeleteOptions::of_uid(addon.metadata.uid.clone().unwrap_or_default());
        match self.client.delete::<AddOn>(&key_of(&addon.metadata), &options).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => {
                info!(addon = addon.name(), "the file {} is gone", addon.spec.source);
                Ok(())
            }
        }
    }

    /// Writes the AddOn where it says something new, and returns it as it is stored.
    async fn write(&self, before: &AddOn, next: AddOn) -> Result<AddOn, ClientError> {
        let is_new = next.metadata.uid.is_none();
        match is_new {
            true => self.client.create(&next).await,
            false if next != *before => self.client.update(&next).await,
            false => Ok(next),
        }
    }

    /// Tells users once what an AddOn says.
    fn tell(&self, before: &AddOn, next: &AddOn) {
        let Some(condition) = next.applied() else { return };
        let is_same = before.applied().is_some_and(|known| {
            (&known.reason, &known.message) == (&condition.reason, &condition.message)
        });
        if is_same && before.spec.checksum == next.spec.checksum {
            return;
        }
        let (addon, source) = (next.name(), &next.spec.source);
        let message = format!("{source}: {}", condition.message);
        let kind = match condition.status.as_str() {
            "True" => {
                info!(addon, "{message}");
                EventType::Normal
            }
            // What it waits for may be about to come.
            _ if condition.reason == "Waiting" => {
                info!(addon, "{message}");
                EventType::Normal
            }
            _ => {
                warn!(addon, "{message}");
                EventType::Warning
            }
        };
        self.events.record(object_reference(next), kind, &condition.reason, message);
    }
}

#[derive(Deserialize)]
struct Live {
    metadata: ObjectMeta,
}

/// Whether an object that went from its file is deleted: it says that it is this AddOn's, and nobody
/// has said that it is to stay.
fn is_to_go(metadata: &ObjectMeta, addon: &str) -> bool {
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).map(String::as_str);
    annotation(OWNER_ANNOTATION) == Some(addon) && annotation(PRUNE_ANNOTATION) != Some("disabled")
}

/// Whether there is nothing that the object could be in.
fn lacks_namespace(error: &ClientError) -> bool {
    let ClientError::Status(status) = error else { return false };
    let is_missing = status.reason == Reason::NotFound && status.details.kind == "namespaces";
    is_missing || error.is_namespace_terminating()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_addon_s_goes() {
        let with = |annotations: &[(&str, &str)]| ObjectMeta {
            annotations: Some(
                annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            ),
            ..ObjectMeta::default()
        };
        assert!(is_to_go(&with(&[(OWNER_ANNOTATION, "web")]), "web"));
        assert!(!is_to_go(&with(&[(OWNER_ANNOTATION, "other")]), "web"));
        assert!(!is_to_go(&with(&[]), "web"), "somebody has taken it over");
        assert!(!is_to_go(&ObjectMeta::default(), "web"));
        let kept = with(&[(OWNER_ANNOTATION, "web"), (PRUNE_ANNOTATION, "disabled")]);
        assert!(!is_to_go(&kept, "web"));
    }
}
