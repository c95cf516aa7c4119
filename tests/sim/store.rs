//! The API server of a small world: objects, revisions, preconditions, and a log of changes.

use kinglet::client::Patch;
use kinglet::control::Write;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Deployment,
    Set,
    ReplicationController,
    StatefulSet,
    DaemonSet,
    Revision,
    Claim,
    Node,
    Pod,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Deployment,
        Self::Set,
        Self::ReplicationController,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Revision,
        Self::Claim,
        Self::Node,
        Self::Pod,
    ];

    pub(crate) fn of(write: &Write) -> Self {
        match &*write.resource().kind {
            "Deployment" => Self::Deployment,
            "ReplicaSet" => Self::Set,
            "ReplicationController" => Self::ReplicationController,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "ControllerRevision" => Self::Revision,
            "PersistentVolumeClaim" => Self::Claim,
            "Pod" => Self::Pod,
            other => panic!("{other}"),
        }
    }
}

/// What a watch would say.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) name: String,
    /// `None`: deleted.
    pub(crate) object: Option<Value>,
    pub(crate) revision: u64,
}

/// The object is not as the write expects it.
#[derive(Debug)]
pub(crate) struct Conflict;

#[derive(Default)]
pub(crate) struct Store {
    objects: BTreeMap<(Kind, String), Value>,
    log: BTreeMap<Kind, Vec<Change>>,
    revision: u64,
    created: u64,
}

impl Store {
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned()))
    }

    pub(crate) fn list(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, _), _)| *of == kind).map(|(_, object)| object)
    }

    pub(crate) fn log(&self, kind: Kind) -> &[Change] {
        self.log.get(&kind).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    fn note(&mut self, kind: Kind, name: String, object: Option<Value>) {
        let change = Change { name, object, revision: self.revision };
        self.log.entry(kind).or_default().push(change);
    }

    /// Stores an object as it is.
    pub(crate) fn put(&mut self, kind: Kind, mut object: Value) -> u64 {
        let name = name(&object);
        if self.get(kind, &name) == Some(&object) {
            return self.revision;
        }
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.objects.insert((kind, name.clone()), object.clone());
        self.note(kind, name, Some(object));
        self.revision
    }

    /// Changes an object if it is there.
    pub(crate) fn edit(&mut self, kind: Kind, name: &str, edit: impl FnOnce(&mut Value)) {
        if let Some(object) = self.get(kind, name) {
            let mut object = object.clone();
            let spec = object["spec"].clone();
            edit(&mut object);
            if object["spec"] != spec {
                next_generation(&mut object);
            }
            self.put(kind, object);
        }
    }

    pub(crate) fn remove(&mut self, kind: Kind, name: &str) -> u64 {
        if self.objects.remove(&(kind, name.to_owned())).is_some() {
            self.revision += 1;
            self.note(kind, name.to_owned(), None);
        }
        self.revision
    }

    /// A delete as users and controllers ask for it: pods that run go when the kubelet says so.
    pub(crate) fn delete(&mut self, kind: Kind, name: &str) -> u64 {
        let runs =
            self.get(kind, name).is_some_and(|object| object["spec"]["nodeName"].is_string());
        if !runs {
            return self.remove(kind, name);
        }
        self.edit(kind, name, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z");
        });
        self.revision
    }

    /// What is owned only by objects that are gone.
    pub(crate) fn garbage(&self) -> Vec<(Kind, String)> {
        let uids: BTreeSet<&str> =
            self.objects.values().filter_map(|it| it["metadata"]["uid"].as_str()).collect();
        let is_garbage = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            let is_gone = |owner: &Value| !uids.contains(owner["uid"].as_str().unwrap());
            object["metadata"]["deletionTimestamp"].is_null()
                && owners.is_some_and(|owners| !owners.is_empty() && owners.iter().all(is_gone))
        };
        let garbage = self.objects.iter().filter(|(_, object)| is_garbage(object));
        garbage.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn create(
        &mut self,
        kind: Kind,
        mut object: Value,
        now: &str,
    ) -> Result<u64, Conflict> {
        self.created += 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap();
            metadata["name"] = json!(format!("{prefix}{:05}", self.created));
        }
        metadata["uid"] = json!(format!("uid-{}", self.created));
        metadata["creationTimestamp"] = json!(now);
        metadata["generation"] = json!(1);
        if kind != Kind::Revision {
            object["status"] = match kind {
                Kind::StatefulSet | Kind::ReplicationController => json!({"replicas": 0}),
                _ => json!({}),
            };
        }
        if self.get(kind, &name(&object)).is_some() {
            return Err(Conflict);
        }
        Ok(self.put(kind, object))
    }

    pub(crate) fn execute(&mut self, write: &Write, now: &str) -> Result<u64, Conflict> {
        let kind = Kind::of(write);
        let body = write.body();
        let Some(key) = write.key() else { return self.create(kind, body, now) };
        let current = self.get(kind, &key.name).cloned().ok_or(Conflict)?;
        let is_same = |field: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| current["metadata"][field] == wanted)
        };
        match write {
            Write::Update { subresource, .. } => {
                if !is_same("resourceVersion", body["metadata"]["resourceVersion"].as_str()) {
                    return Err(Conflict);
                }
                Ok(self.put(kind, updated(&current, body, subresource.is_some())))
            }
            Write::Patch { patch: Patch::Strategic(patch), .. } => {
                let metadata = &patch["metadata"];
                if !is_same("resourceVersion", metadata["resourceVersion"].as_str())
                    || !is_same("uid", metadata["uid"].as_str())
                {
                    return Err(Conflict);
                }
                let mut patched = current.clone();
                patch_owners(&mut patched["metadata"], &metadata["ownerReferences"][0]);
                for (label, value) in metadata["labels"].as_object().into_iter().flatten() {
                    patched["metadata"]["labels"][label] = value.clone();
                }
                Ok(self.put(kind, patched))
            }
            Write::Delete { options, .. } => {
                if !is_same("uid", options.uid.as_deref()) {
                    return Err(Conflict);
                }
                Ok(self.delete(kind, &key.name))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What an update makes of an object: all but what is the API server's alone.
fn updated(current: &Value, mut body: Value, is_status: bool) -> Value {
    if is_status {
        let mut updated = current.clone();
        updated["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
        updated["status"] = body["status"].clone();
        return updated;
    }
    for kept in ["uid", "creationTimestamp", "generation", "deletionTimestamp"] {
        body["metadata"][kept] = current["metadata"][kept].clone();
    }
    if !current["status"].is_null() {
        body["status"] = current["status"].clone();
    }
    if body["spec"] != current["spec"] {
        next_generation(&mut body);
    }
    body
}

fn next_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    object["metadata"]["generation"] = json!(generation + 1);
}

fn patch_owners(metadata: &mut Value, owner: &Value) {
    if owner.is_null() {
        return;
    }
    let mut owners = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.retain(|existing| existing["uid"] != owner["uid"]);
    if owner["$patch"] != "delete" {
        owners.push(owner.clone());
    }
    metadata["ownerReferences"] = json!(owners);
}

pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}
