//! The templates that a StatefulSet or a DaemonSet has had, kept as ControllerRevisions.
//!
//! Start at [`History::find`]. Names, labels and the form of the data are upstream's, since `kubectl
//! rollout` reads and applies them (pkg/controller/history, v1.35).

use super::hash::template_hash;
use super::ownership::{concerned, matches};
use crate::api::ObjectKey;
use crate::api::labels::Selector;
use crate::api::owner::{controller_of, controller_reference, is_controlled_by};
use crate::client::{ApiObject, Cache, Change};
use crate::control::{Plan, Queue, Write};
use crate::stdx::json;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};
use std::sync::Arc;

/// The label of a pod that says of which revision it is.
pub(super) const REVISION_LABEL: &str = "controller-revision-hash";

/// The part of a revision's name that is its owner's is cut to this many bytes.
const OWNER_NAME_BYTES_MAX: usize = 223;

/// What `kubectl apply` remembers says nothing about a template.
const NOT_COPIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The revisions of an owner, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct History<'a>(Vec<&'a ControllerRevision>);

/// Where a template is in a history.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// It is the newest.
    Newest(&'a ControllerRevision),
    /// It was the newest once, and shall be again.
    Older(&'a ControllerRevision),
    Nowhere,
}

impl<'a> History<'a> {
    /// Ties are broken as upstream's `byRevision` does.
    pub(super) fn of(revisions: impl IntoIterator<Item = &'a ControllerRevision>) -> Self {
        let mut revisions: Vec<_> = revisions.into_iter().collect();
        revisions.sort_by_key(|revision| {
            let metadata = &revision.metadata;
            let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
            (revision.revision, created, metadata.name.clone())
        });
        Self(revisions)
    }

    /// Where a template is: upstream `getStatefulSetRevisions`. Of several that are equal, the newest.
    pub(super) fn find(&self, template: &PodTemplateSpec) -> Found<'a> {
        let data = data_of(template);
        let is_equal = |revision: &&&ControllerRevision| {
            revision.data.as_ref().is_some_and(|raw| raw.0 == data)
        };
        let newest = self.0.last();
        match self.0.iter().rev().find(is_equal) {
            Some(found) if newest.is_some_and(|newest| std::ptr::eq(*newest, *found)) => {
                Found::Newest(found)
            }
            Some(found) => Found::Older(found),
            None => Found::Nowhere,
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&'a ControllerRevision> {
        self.0.iter().find(|revision| name_of(revision) == name).copied()
    }

    /// The number after all others.
    pub(super) fn next_number(&self) -> i64 {
        self.0.last().map_or(1, |newest| newest.revision.saturating_add(1))
    }

    /// Records a template as the newest revision, or, where its name is taken, that its hash has two
    /// meanings: with another count it will be another one. Upstream `CreateControllerRevision` and
    /// the DaemonSet's `snapshot`.
    pub(super) fn record<O: Revised>(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        is_taken: bool,
    ) -> Plan {
        if is_taken {
            let mut owner = owner.clone();
            let count = owner.collisions_mut().get_or_insert_default();
            *count = count.saturating_add(1);
            return Plan::of([Write::update_status(&owner)]);
        }
        let entry = Entry {
            number: self.next_number(),
            collisions: owner.collisions(),
            hash_label: O::HASH_LABEL,
        };
        Plan::of([Write::create(&render(owner, template, entry))])
    }

    /// Makes an older revision the newest.
    pub(super) fn raise(&self, revision: &ControllerRevision) -> Write {
        Write::update(&ControllerRevision { revision: self.next_number(), ..revision.clone() })
    }

    /// The others that keep the same template.
    pub(super) fn equal_to(
        &self,
        revision: &'a ControllerRevision,
    ) -> impl Iterator<Item = &'a ControllerRevision> {
        let is_equal = |other: &&ControllerRevision| {
            !std::ptr::eq(*other, revision)
                && other.data.as_ref().map(|data| &data.0)
                    == revision.data.as_ref().map(|data| &data.0)
        };
        self.0.iter().copied().filter(is_equal)
    }

    /// Deletes the oldest of those that `counts`, beyond `limit` of them, where they `may_go`:
    /// upstream `truncateHistory` and `cleanupHistory`.
    pub(super) fn truncate(
        &self,
        counts: impl Fn(&ControllerRevision) -> bool,
        may_go: impl Fn(&ControllerRevision) -> bool,
        limit: Option<i32>,
    ) -> Vec<Write> {
        let Ok(limit) = usize::try_from(limit.unwrap_or(i32::MAX)) else { return Vec::new() };
        let stay = self.0.iter().filter(|it| it.metadata.deletion_timestamp.is_none());
        let counted: Vec<_> = stay.filter(|revision| counts(revision)).collect();
        let excess = counted.len().saturating_sub(limit);
        let oldest = counted.into_iter().filter(|revision| may_go(revision)).take(excess);
        oldest.map(|revision| Write::delete(*revision)).collect()
    }
}

/// What a new revision is beside its template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) number: i64,
    /// How often its hash has meant something else.
    pub(super) collisions: Option<i32>,
    /// The label that has its hash.
    pub(super) hash_label: &'static str,
}

/// Whose templates are kept.
pub(super) trait Revised: ApiObject {
    /// The label of its revisions that has their hash.
    const HASH_LABEL: &'static str;

    /// How often a hash has meant something else.
    fn collisions(&self) -> Option<i32>;

    fn collisions_mut(&mut self) -> &mut Option<i32>;
}

/// The revision of an owner's template: upstream `NewControllerRevision`.
pub(super) fn render<O: ApiObject>(
    owner: &O,
    template: &PodTemplateSpec,
    entry: Entry,
) -> ControllerRevision {
    let hash = template_hash(template, entry.collisions);
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert(entry.hash_label.to_owned(), hash.clone());
    let mut annotations = owner.metadata().annotations.clone();
    if let Some(annotations) = &mut annotations {
        annotations.remove(NOT_COPIED);
    }
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name_with(owner, &hash)),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data_of(template))),
        revision: entry.number,
    }
}

/// What the revision of an owner's template is called when it is created.
pub(super) fn revision_name<O: ApiObject>(
    owner: &O,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
) -> String {
    name_with(owner, &template_hash(template, collisions))
}

fn name_with<O: ApiObject>(owner: &O, hash: &str) -> String {
    let name = owner.metadata().name.as_deref().unwrap_or_default();
    let kept = name.get(..OWNER_NAME_BYTES_MAX).unwrap_or(name);
    format!("{kept}-{hash}")
}

pub(super) fn name_of(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// The template that a revision keeps, where it keeps one.
pub(super) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    json::from_value(&template).ok()
}

/// A strategic merge patch that gives an object this template: upstream `getPatch`.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = json::to_value(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// Whether an owner is to have a revision. Unlike a pod, a revision is never released: it says
/// nothing but what its owner was.
pub(super) fn belongs(revision: &ObjectMeta, owner_uid: &str, selector: &Selector) -> bool {
    is_controlled_by(revision, owner_uid) || matches(selector, revision)
}

/// Queues those whose revisions change.
pub(super) fn queue_owners<O: ApiObject>(
    queue: &Queue<ObjectKey>,
    revisions: &Cache<ControllerRevision>,
    owners: &Arc<Cache<O>>,
    selector: fn(&O) -> Option<Selector>,
) {
    let selects = move |owner: &O, revision: &ObjectMeta| {
        let uid = owner.metadata().uid.as_deref().unwrap_or_default();
        selector(owner).is_some_and(|selector| belongs(revision, uid, &selector))
    };
    let (changed, owners) = (queue.clone(), Arc::clone(owners));
    revisions.on_change(move |change| {
        if !is_new_to_its_owner(change) {
            concerned(change, &owners, selects).iter().for_each(|key| changed.add(key));
        }
    });
}

/// Whether the change is only that a revision has come which has a controller already. It has made
/// the revision itself, and knows; or somebody else has, which can wait for the next look: upstream
/// `addHistory` (pkg/controller/daemon, v1.35).
fn is_new_to_its_owner(change: &Change<ControllerRevision>) -> bool {
    let new = change.new.as_ref();
    change.old.is_none() && new.is_some_and(|new| controller_of(&new.metadata).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSet;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({
            "metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        }))
        .unwrap()
    }

    fn owner() -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "set", "annotations": {
                "kubernetes.io/change-cause": "because", NOT_COPIED: "{}"}},
            "spec": {"selector": {}, "serviceName": "", "template": {}},
        }))
        .unwrap()
    }

    fn revision(image: &str, number: i64) -> ControllerRevision {
        render(&owner(), &template(image), Entry { number, collisions: None, hash_label: "hash" })
    }

    #[track_caller]
    fn check(history: &[&str], image: &str, expected: &str) {
        let revisions: Vec<_> =
            history.iter().zip(1..).map(|(image, number)| revision(image, number)).collect();
        let found = match History::of(revisions.iter().rev()).find(&template(image)) {
            Found::Newest(revision) => format!("newest {}", revision.revision),
            Found::Older(revision) => format!("older {}", revision.revision),
            Found::Nowhere => "nowhere".to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn templates_are_found_in_history() {
        check(&[], "a", "nowhere");
        check(&["a"], "a", "newest 1");
        check(&["a", "b"], "a", "older 1");
        check(&["a", "b", "a"], "a", "newest 3");
        check(&["a", "a", "b"], "a", "older 2");
        check(&["a", "b"], "c", "nowhere");
    }

    #[test]
    fn a_revision_keeps_its_template() {
        let revision = revision("a", 7);
        assert_eq!(template_of(&revision), Some(template("a")));
        let name = revision_name(&owner(), &template("a"), None);
        let hash = name.strip_prefix("db-").unwrap();
        let metadata = serde_json::to_value(&revision.metadata).unwrap();
        assert_eq!(metadata["name"], name);
        assert_eq!(metadata["labels"], json!({"app": "db", "hash": hash}));
        assert_eq!(metadata["annotations"], json!({"kubernetes.io/change-cause": "because"}));
        assert_eq!(revision.data.unwrap().0["spec"]["template"]["$patch"], "replace");
        assert_ne!(revision_name(&owner(), &template("a"), Some(1)), name);
        let mut long = owner();
        long.metadata.name = Some("x".repeat(253));
        assert!(revision_name(&long, &template("a"), None).len() <= 253);
    }

    #[test]
    fn only_the_oldest_that_are_not_live_go() {
        let revisions: Vec<_> =
            ["a", "b", "c", "d"].iter().zip(1..).map(|(image, n)| revision(image, n)).collect();
        let history = History::of(&revisions);
        let deleted = |live: &[usize], limit: Option<i32>| {
            let live: Vec<_> = live.iter().map(|index| name_of(&revisions[*index])).collect();
            let names: Vec<_> = revisions.iter().map(name_of).collect();
            let is_old = |revision: &ControllerRevision| !live.contains(&name_of(revision));
            let deletes = history.truncate(is_old, |_| true, limit);
            let index = |write: &Write| {
                names.iter().position(|name| *name == write.key().unwrap().name).unwrap()
            };
            deletes.iter().map(index).collect::<Vec<_>>()
        };
        assert_eq!(deleted(&[3], Some(2)), [0]);
        assert_eq!(deleted(&[0, 3], Some(1)), [1]);
        assert_eq!(deleted(&[3], Some(0)), [0, 1, 2]);
        assert_eq!(deleted(&[3], Some(-1)), [0; 0]);
        assert_eq!(deleted(&[3], None), [0; 0]);
    }
}
