//! Who manages which fields: the seam between the verbs and `registry::managed`.
//!
//! Verbs know objects without their managers. These are bytes, which are put into an object when it
//! is stored, and taken out when it is read (`registry::managed::{join, split}`). So nothing that
//! admission does changes them, as upstream's `NewManagedFieldsValidatingAdmissionController` has it.

use super::Call;
use super::store::Current;
use crate::api::status::{Cause, Reason, Status};
use crate::registry::custom::{Conversion, Reading};
use crate::registry::managed::{self, Frame, Known, Place, Refused, Versions, Writer};
use crate::registry::{KindRef, Object};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};
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

/// So often is a webhook asked for one write, so that the managers of its fields can be reckoned. With
/// more, they cannot be.
const CONVERSIONS_MAX: usize = 64;

/// The other versions of a kind.
///
/// Reckoning does not wait. What a webhook has to convert is noted where it is wanted, asked for by
/// [`settle`](Self::settle), and known when everything is reckoned anew.
#[derive(Debug)]
pub(super) struct OtherVersions<'a, 'c> {
    call: &'a Call<'c>,
    /// All versions that show the same objects, found when somebody asks.
    all: OnceLock<Vec<KindRef>>,
    by_hooks: Mutex<ByHooks>,
}

#[derive(Debug, Default)]
struct ByHooks {
    /// By the object and the version that is wanted of it.
    known: HashMap<(String, String), Result<Value, String>>,
    missing: Option<(Value, String)>,
}

impl<'a, 'c> OtherVersions<'a, 'c> {
    pub(super) fn of(call: &'a Call<'c>) -> Self {
        Self { call, all: OnceLock::new(), by_hooks: Mutex::default() }
    }

    /// Reckons until nothing is missing that a webhook has to convert.
    pub(super) async fn settle<T>(&self, reckon: impl Fn() -> T) -> T {
        for _ in 0..CONVERSIONS_MAX {
            let reckoned = reckon();
            let missing = self.by_hooks.lock().expect("no panics under this lock").missing.take();
            let Some((object, version)) = missing else { return reckoned };
            let key = (object.to_string(), version);
            let converted = self.ask(object, &key.1).await;
            self.by_hooks.lock().expect("no panics under this lock").known.insert(key, converted);
        }
        reckon()
    }

    async fn ask(&self, object: Value, version: &str) -> Result<Value, String> {
        let kind = self.find(version).and_then(|kind| kind.custom_version());
        let kind = kind.ok_or_else(|| format!("there is no version {version}"))?;
        let converted = self.call.server.convert_to(kind, vec![object]).await;
        let converted = converted.map_err(|status| status.message)?;
        serde_json::from_slice(converted.first().map_or(b"", |bytes| &bytes[..]))
            .map_err(|error| error.to_string())
    }

    fn by_hook(&self, object: Value, version: &str) -> Result<Value, String> {
        let mut by_hooks = self.by_hooks.lock().expect("no panics under this lock");
        let key = (object.to_string(), version.to_owned());
        if let Some(known) = by_hooks.known.get(&key) {
            return known.clone();
        }
        by_hooks.missing = Some((object, key.1));
        Err("a webhook has to convert it first".to_owned())
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
        let conversion = to.custom_version().map(|version| version.conversion());
        if matches!(conversion, Some(Conversion::Webhook(_))) {
            return self.by_hook(object, version);
        }
        let done = |reading: Result<Reading, serde_json::Error>| match reading {
            Ok(Reading::Done(bytes)) => Ok(bytes),
            Ok(Reading::Convert(_)) => Err("no function converts it".to_owned()),
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
pub(super) async fn of_new(call: &Call<'_>, object: &dyn Object, claim: Claim) -> Option<String> {
    after(call, (None, None), object, claim, "").await
}

/// The managers of an object that takes the place of the current one.
pub(super) async fn of_update(
    call: &Call<'_>,
    current: &Current,
    object: &dyn Object,
    claim: Claim,
    subresource: &str,
) -> Option<String> {
    let live = (Some(&*current.bare), current.managed.as_deref());
    after(call, live, object, claim, subresource).await
}

async fn after(
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
    let reckon = || managed::after_write(&frame, (live, &new), known, &writer);
    versions.settle(reckon).await.unwrap_or_else(|why| {
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
