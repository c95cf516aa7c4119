//! Admission: what may be written, and what is filled in that depends on other objects.
//!
//! Start at [`PLUGINS`]. A plugin says which facts it wants, is given them, and decides; it never
//! reads the store itself. Built-in kinds have been defaulted before, as upstream's decoder does.

mod namespace_lifecycle;
mod priority;
mod runtime_class;
mod service_account;
mod tolerations;

use super::errors;
use super::keys;
use super::verbs::{Call, Part};
use crate::api::ObjectKey;
use crate::api::status::{Status, Subject};
use crate::registry::{self, Kind, Object};
use crate::storage::{ListRequest, Op};
use std::fmt;

/// What is about to happen to an object.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    Create(&'a mut dyn Object),
    Update { object: &'a mut dyn Object, old: &'a dyn Object, part: Part },
    Delete(&'a dyn Object),
}

/// What a plugin judges.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    kind: &'static Kind,
    namespace: Option<&'a str>,
    operation: Operation<'a>,
}

/// Objects that a plugin wants to see.
#[derive(Debug)]
enum Want {
    One {
        group: &'static str,
        plural: &'static str,
        key: ObjectKey,
    },
    /// One that the decision rests on: nothing is stored if it changes before that.
    Ground {
        group: &'static str,
        plural: &'static str,
        key: ObjectKey,
    },
    All {
        group: &'static str,
        plural: &'static str,
    },
}

/// The objects that a plugin wanted, as far as they exist.
#[derive(Debug, Default)]
struct Facts(Vec<Box<dyn Object>>);

/// What must still be so when the object is stored: operations for the same commit.
#[derive(Debug, Default)]
pub(super) struct Grounds(pub(super) Vec<Op>);

/// One step of admission.
struct Plugin {
    name: &'static str,
    wants: fn(&Attributes<'_>) -> Vec<Want>,
    admit: fn(&mut Attributes<'_>, &Facts) -> Result<(), Status>,
}

/// In upstream's order (kubeapiserver pkg/kubeapiserver/options/plugins.go, v1.35).
const PLUGINS: &[Plugin] = &[
    namespace_lifecycle::PLUGIN,
    service_account::PLUGIN,
    priority::PLUGIN,
    tolerations::PLUGIN,
    runtime_class::PLUGIN,
];

impl fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Runs every plugin over what is about to happen. What it rests on is of use to a create; an update
/// and a delete name the revision of the object itself.
pub(super) async fn admit<'a>(
    call: &'a Call<'_>,
    operation: Operation<'a>,
) -> Result<Grounds, Status> {
    let mut attributes = Attributes { kind: call.kind, namespace: call.namespace, operation };
    let mut grounds = Grounds::default();
    for plugin in PLUGINS {
        let facts = gather(call, (plugin.wants)(&attributes), &mut grounds).await?;
        (plugin.admit)(&mut attributes, &facts)?;
    }
    Ok(grounds)
}

async fn gather(call: &Call<'_>, wants: Vec<Want>, grounds: &mut Grounds) -> Result<Facts, Status> {
    let mut facts = Facts::default();
    for want in wants {
        match want {
            Want::One { group, plural, key } => {
                gather_one(call, (group, plural), &key, &mut facts).await?;
            }
            Want::Ground { group, plural, key } => {
                let found = gather_one(call, (group, plural), &key, &mut facts).await?;
                grounds.0.extend(found);
            }
            Want::All { group, plural } => {
                if let Some(kind) = registry::find(group, "v1", plural) {
                    gather_all(call, kind, &mut facts).await?;
                }
            }
        }
    }
    Ok(facts)
}

/// Says what keeps the object as it is, where there is one.
async fn gather_one(
    call: &Call<'_>,
    (group, plural): (&str, &str),
    key: &ObjectKey,
    facts: &mut Facts,
) -> Result<Option<Op>, Status> {
    let Some(kind) = registry::find(group, "v1", plural) else {
        return Ok(None);
    };
    let Some(entry) = call.server.find(kind, key).await? else {
        return Ok(None);
    };
    facts.0.push((kind.decode_stored)(&entry.value).map_err(Status::internal)?);
    Ok(Some(Op::Require { key: entry.key, expected: entry.revision }))
}

async fn gather_all(call: &Call<'_>, kind: &'static Kind, facts: &mut Facts) -> Result<(), Status> {
    let prefix = keys::prefix(kind, None);
    let request = ListRequest { prefix, after: None, limit: None, at: None };
    let page = call.server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
    for entry in page.entries {
        facts.0.push((kind.decode_stored)(&entry.value).map_err(Status::internal)?);
    }
    Ok(())
}

impl Facts {
    fn all<T: 'static>(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|object| object.as_any().downcast_ref())
    }
}

impl Attributes<'_> {
    /// The object to be created, where it is a `T`.
    fn created<T: 'static>(&mut self) -> Option<&mut T> {
        match &mut self.operation {
            Operation::Create(object) => object.as_any_mut().downcast_mut(),
            _ => None,
        }
    }

    /// As [`Attributes::created`], to look at.
    fn creating<T: 'static>(&self) -> Option<&T> {
        match &self.operation {
            Operation::Create(object) => object.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The new and the old object of an update of the object itself, where they are a `T`.
    fn updated<T: 'static>(&mut self) -> Option<(&mut T, &T)> {
        match &mut self.operation {
            Operation::Update { object, old, part: Part::Object } => {
                Some((object.as_any_mut().downcast_mut()?, old.as_any().downcast_ref()?))
            }
            _ => None,
        }
    }

    /// Upstream `admission.NewForbidden`.
    fn forbidden(&self, why: &str) -> Status {
        let metadata = match &self.operation {
            Operation::Create(object) | Operation::Update { object, .. } => object.metadata(),
            Operation::Delete(object) => object.metadata(),
        };
        let name = metadata.name.as_ref().or(metadata.generate_name.as_ref());
        let facts = &self.kind.facts;
        let name = name.map(String::as_str).unwrap_or_default();
        Status::forbidden(Subject { group: &facts.group, resource: &facts.plural, name }, why)
    }
}
