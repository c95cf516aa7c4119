//! Server-side apply (apimachinery pkg/util/managedfields/internal: fieldmanager.go,
//! structuredmerge.go, lastappliedmanager.go, v1.35).

use super::conflict::Conflicts;
use super::document::Node;
use super::entries::{self, Entry, Operation};
use super::last_applied;
use super::place::fill;
use super::set::FieldSet;
use super::updater::{Failure, Frame};
use super::validate::validate;
use super::write::{Writer, note};
use serde_json::Value;

/// Who had fields before the first apply, as far as nobody knows.
const BEFORE: &str = "before-first-apply";

/// What is applied to what.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// The stored object without its managers, with its defaults; `None` where there is none.
    pub live: Option<&'a [u8]>,
    /// The live object's `managedFields`.
    pub managed: Option<&'a str>,
    /// What the client sends.
    pub config: &'a Value,
    /// The kind of the request's path.
    pub kind: &'a str,
    /// Takes fields that others manage.
    pub force: bool,
}

/// What becomes of the object.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Without its managers. Its defaults are still to be filled in.
    pub object: Value,
    pub managed: Option<String>,
}

/// Why nothing is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<'a> {
    BadRequest(String),
    Conflicts(Conflicts<'a>),
    /// Upstream answers these with 500.
    Failed(String),
}

impl<'a> From<Failure<'a>> for Refused<'a> {
    fn from(failure: Failure<'a>) -> Self {
        match failure {
            Failure::Conflicts(conflicts) => Self::Conflicts(conflicts),
            Failure::Broken(why) => Self::Failed(why),
        }
    }
}

/// Applies a configuration.
///
/// # Errors
/// Where the configuration is not of the kind, or takes what others manage.
pub fn apply<'a>(
    frame: &Frame<'a>,
    application: &Application<'a>,
    writer: &Writer<'a>,
) -> Result<Applied, Refused<'a>> {
    let Application { config, force, .. } = *application;
    check_kind(frame, application)?;
    let mut entries = entries::parse(application.managed.unwrap_or("[]"))
        .map_err(|why| Refused::Failed(format!("failed to decode managed fields: {why}")))?;
    let empty = || {
        let mut empty = Node::Map(Vec::new());
        fill(frame.place, &mut empty);
        empty
    };
    let mut live = application
        .live
        .map_or_else(|| Ok(Node::Map(Vec::new())), Node::parse)
        .map_err(|error| Refused::Failed(error.to_string()))?;
    fill(frame.place, &mut live);
    if entries.is_empty() {
        let before = Writer { manager: BEFORE, ..*writer };
        note(frame, (&empty(), &live), &mut entries, &before)?;
    }
    let node = Node::of(config);
    let subject = subject(config);
    validate(frame.place, &node).map_err(|problems| {
        Refused::Failed(format!("failed to create typed patch object ({subject}): {problems}"))
    })?;
    let owner = writer.owner(Operation::Apply, frame.version);
    let known = entries.clone();
    let mut merged = frame.apply(&live, &node, &mut entries, (&owner, force));
    if let Err(Failure::Conflicts(conflicts)) = merged {
        let allowed = match writer.manager {
            last_applied::MANAGER => last_applied::unchanged(frame, &live),
            _ => FieldSet::default(),
        };
        if let Some(left) = conflicts.without(&allowed) {
            return Err(Refused::Conflicts(left));
        }
        entries = known;
        merged = frame.apply(&live, &node, &mut entries, (&owner, true));
    }
    let merged = merged?;
    if merged.is_some() {
        let own = entries.iter_mut().filter(|entry| entry.owner.is(&owner));
        own.for_each(|entry: &mut Entry<'_>| entry.time = Some(writer.now));
    }
    let mut object = merged.unwrap_or(live).into_value();
    if writer.manager == last_applied::MANAGER {
        last_applied::renew(&mut object, config);
    }
    Ok(Applied { object, managed: entries::write(entries) })
}

/// The type of the configuration must be the one of the path.
fn check_kind<'a>(frame: &Frame<'a>, application: &Application<'a>) -> Result<(), Refused<'a>> {
    let text = |name| application.config.get(name).and_then(Value::as_str).unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (frame.version, application.kind) {
        let kind = kind_of(application.config);
        return Err(Refused::BadRequest(format!("invalid object type: {kind}")));
    }
    if application.config.pointer("/metadata/managedFields").is_some_and(Value::is_array) {
        let message = "metadata.managedFields must be nil";
        return Err(Refused::BadRequest(message.to_owned()));
    }
    Ok(())
}

/// `apps/v1, Kind=Deployment`, as Go prints a `GroupVersionKind`.
fn kind_of(object: &Value) -> String {
    let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let version = text("apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={}", text("kind"))
}

/// Upstream `objectGVKNN`.
pub fn subject(object: &Value) -> String {
    let text = |path| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    format!("{namespace}/{name}; {}", kind_of(object))
}
