//! Who manages which fields: the seam between the verbs and `registry::managed`.
//!
//! Verbs know objects without their managers. These are bytes, which are put into an object when it
//! is stored, and taken out when it is read (`registry::managed::{join, split}`). So nothing that
//! admission does changes them, as upstream's `NewManagedFieldsValidatingAdmissionController` has it.

use super::Call;
use super::store::Current;
use crate::api::status::{Cause, Reason, Status};
use crate::registry::custom::Reading;
use crate::registry::managed::{self, Frame, Known, Place, Refused, Versions, Writer};
use crate::registry::{KindRef, Object};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;
use std::sync::OnceLock;
use tracing::error;

/// Longer names of managers are refused, or cut where they come of a client's name (upstream
/// `FieldManagerMaxLength`).
pub(in super::super) const MANAGER_BYTES_MAX: usize = 128;

/// What a write says of the managers of its object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing.
    #[default]
    None,
    /// The client has sent this list along.
    Sent(String),
    /// This is what they are afterwards.
    Settled(Option<String>),
}

impl Claim {
    /// What the client has sent, which is taken out of the object.
    pub(super) fn take(object: &mut dyn Object) -> Self {
        object
            .metadata_mut()
            .managed_fields
            .take()
            .map_or(Self::None, |list| Self::Sent(json(&list)))
    }
}

pub(super) fn json(list: &[ManagedFieldsEntry]) -> String {
    serde_json::to_string(list).expect("generated types always serialize")
}

/// Whether Go would print the letter (`unicode.IsPrint`).
pub(in super::super) fn is_printable(letter: char) -> bool {
    matches!(letter, ' ' | '"' | '\'' | '\\') || letter.escape_debug().eq([letter])
}

/// The name of the manager: the one that was given, else what stands before the first slash of the
/// client's own name (upstream `managerOrUserAgent`).
pub(super) fn manager(call: &Call<'_>) -> String {
    if let Some(given) = call.query.text("fieldManager") {
        return given.to_owned();
    }
    let agent = call.headers.get(http::header::USER_AGENT);
    let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes())).unwrap_or_default();
    let mut name = String::new();
    for letter in agent.split('/').next().unwrap_or_default().chars().filter(|l| is_printable(*l)) {
        if name.len() + letter.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        name.push(letter);
    }
    name
}

/// The other versions of a kind.
#[derive(Debug)]
pub(super) struct OtherVersions<'a, 'c> {
    call: &'a Call<'c>,
    /// All versions that show the same objects, found when somebody asks.
    all: OnceLock<Vec<KindRef>>,
}

impl<'a, 'c> OtherVersions<'a, 'c> {
    pub(super) fn of(call: &'a Call<'c>) -> Self {
        Self { call, all: OnceLock::new() }
    }

    fn find(&self, version: &str) -> Option<&KindRef> {
        let all = self.all.get_or_init(|| {
            let home = self.call.kind.home();
            self.call.rows.iter().filter(|kind| kind.home() == home).collect()
        });
        all.iter().find(|kind| kind.facts.api_version() == version)
    }
}

impl Versions for OtherVersions<'_, '_> {
    fn place(&self, version: &str) -> Option<Place<'_>> {
        self.find(version).map(|kind| kind.place())
    }

    fn convert(&self, object: Value, version: &str) -> Result<Value, String> {
        let from = object["apiVersion"].as_str().unwrap_or_default();
        let known = |version: &str| {
            self.find(version).ok_or_else(|| format!("there is no version {version}"))
        };
        let (from, to) = (known(from)?, known(version)?);
        let done = |reading: Result<Reading, serde_json::Error>| match reading {
            Ok(Reading::Done(bytes)) => Ok(bytes),
            Ok(Reading::Convert(_)) => Err("a webhook would have to convert it".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let shown = done(to.shown(done(from.stored(object.to_string().into()))?))?;
        serde_json::from_slice(&shown).map_err(|error| error.to_string())
    }
}

/// The call's object, as a write of this part of it sees it.
pub(super) fn frame<'a>(
    call: &'a Call<'_>,
    (version, subresource): (&'a str, &str),
    versions: &'a dyn Versions,
) -> Frame<'a> {
    let resets = (call.kind.resets)(subresource);
    Frame { place: call.kind.place(), version, resets, versions }
}

/// The call's manager who writes a part of an object now.
pub(super) fn writer<'a>(call: &Call<'_>, manager: &'a str, subresource: &'a str) -> Writer<'a> {
    let now = call.server.config.clock.now();
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Writer { manager, subresource, now }
}

/// The managers of an object that is new, with its defaults and nothing else.
pub(super) fn of_new(call: &Call<'_>, object: &dyn Object, claim: Claim) -> Option<String> {
    after(call, (None, None), object, claim, "")
}

/// The managers of an object that takes the place of the current one.
pub(super) fn of_update(
    call: &Call<'_>,
    current: &Current,
    object: &dyn Object,
    claim: Claim,
    subresource: &str,
) -> Option<String> {
    let live = (Some(&*current.bare), current.managed.as_deref());
    after(call, live, object, claim, subresource)
}

fn after(
    call: &Call<'_>,
    (live, stored): (Option<&[u8]>, Option<&str>),
    object: &dyn Object,
    claim: Claim,
    subresource: &str,
) -> Option<String> {
    let submitted = match claim {
        Claim::Settled(managed) => return managed,
        Claim::Sent(list) => Some(list),
        Claim::None => None,
    };
    let (version, manager) = (call.kind.facts.api_version(), manager(call));
    let new = object.encode();
    let versions = OtherVersions::of(call);
    let frame = frame(call, (&version, subresource), &versions);
    let known = Known { stored, submitted: submitted.as_deref() };
    let writer = writer(call, &manager, subresource);
    managed::after_write(&frame, (live, &new), known, &writer).unwrap_or_else(|why| {
        // Upstream `UpdateNoErrors`: better no managers than no write.
        error!(kind = %call.kind.facts.kind, why, "the managers of an object cannot be reckoned");
        None
    })
}

/// Why nothing was applied, as a client is told.
pub(super) fn refusal(refused: &Refused<'_>) -> Status {
    match refused {
        Refused::BadRequest(why) => Status::bad_request(why),
        Refused::Failed(why) => Status::new(Reason::Unknown, why),
        Refused::Conflicts(conflicts) => {
            let mut status = Status::new(Reason::Conflict, conflicts.to_string());
            let cause = |conflict: managed::Conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: conflict.message,
                field: conflict.field,
            };
            status.details.causes = conflicts.each().into_iter().map(cause).collect();
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_printed_as_go_prints_them() {
        for (letter, expected) in [
            ('a', true),
            (' ', true),
            ('"', true),
            ('é', true),
            ('鸟', true),
            ('\n', false),
            ('\u{7f}', false),
            ('\u{a0}', false),
            ('\u{200b}', false),
        ] {
            assert_eq!(is_printable(letter), expected, "{letter:?}");
        }
    }
}
