//! The answer that says no: upstream's `Status` object, with the reasons and codes of
//! apimachinery pkg/api/errors/errors.go (v1.35).

use super::field::FieldError;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// An answer tells so much of what is wrong with an object: whoever sends a hundred thousand elements
/// that are all wrong is not told so a hundred thousand times.
pub const CAUSES_BYTES_MAX: usize = 1 << 20;

/// Why a request failed, in a word that clients act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    #[serde(rename = "")]
    #[serde(other)]
    Unknown,
}

impl Reason {
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::BadRequest => 400,
            Self::InternalError | Self::Unknown | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// A `Status` object that says no. Its JSON form is what goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(default)]
    pub metadata: StatusMeta,
    #[serde(default)]
    pub message: String,
    #[serde(default = "Status::unknown")]
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    /// Boxed, because every fallible function of the API server returns one of these.
    pub details: Box<Details>,
    #[serde(default)]
    pub code: u16,
}

/// The `ListMeta` of a [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusMeta {
    /// Where an expired list can be taken up again, inconsistently.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Details {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which object a [`Status`] is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub group: &'a str,
    /// The plural, lower case: `pods`.
    pub resource: &'a str,
    pub name: &'a str,
}

impl Subject<'_> {
    /// `pods "web"`, `deployments.apps "web"`.
    fn quoted(self) -> String {
        if self.group.is_empty() {
            format!("{} {:?}", self.resource, self.name)
        } else {
            format!("{}.{} {:?}", self.resource, self.group, self.name)
        }
    }

    fn details(self) -> Details {
        Details {
            name: self.name.to_owned(),
            group: self.group.to_owned(),
            kind: self.resource.to_owned(),
            ..Details::default()
        }
    }
}

/// Several messages as one: alone as it is, more in brackets, none twice (upstream `NewAggregate`,
/// apimachinery pkg/util/errors, v1.35).
#[must_use]
pub fn aggregate(messages: &[String]) -> String {
    let mut seen = HashSet::with_capacity(messages.len());
    let told = messages.iter().map(String::as_str).filter(|message| seen.insert(*message));
    let told: Vec<_> = told.collect();
    match told[..] {
        [one] => one.to_owned(),
        _ => format!("[{}]", told.join(", ")),
    }
}

impl Status {
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let code = reason.code();
        Self {
            metadata: StatusMeta::default(),
            message: message.into(),
            reason,
            details: Box::default(),
            code,
        }
    }

    fn about(reason: Reason, subject: Subject<'_>, message: String) -> Self {
        Self { details: Box::new(subject.details()), ..Self::new(reason, message) }
    }

    fn unknown() -> Reason {
        Reason::Unknown
    }

    #[must_use]
    pub fn not_found(subject: Subject<'_>) -> Self {
        Self::about(Reason::NotFound, subject, format!("{} not found", subject.quoted()))
    }

    #[must_use]
    pub fn already_exists(subject: Subject<'_>) -> Self {
        Self::about(Reason::AlreadyExists, subject, format!("{} already exists", subject.quoted()))
    }

    #[must_use]
    pub fn conflict(subject: Subject<'_>, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", subject.quoted());
        Self::about(Reason::Conflict, subject, message)
    }

    #[must_use]
    pub fn forbidden(subject: Subject<'_>, why: &str) -> Self {
        let message = format!("{} is forbidden: {why}", subject.quoted());
        Self::about(Reason::Forbidden, subject, message)
    }

    /// `kind` is the kind itself (`Pod`); upstream's message and details name it, not the plural.
    /// After [`CAUSES_BYTES_MAX`] the other errors are counted and not told, as upstream would.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let subject = Subject { group, resource: kind, name };
        let causes = causes(errors);
        let told = |cause: &Cause| format!("{}: {}", cause.field, cause.message);
        let mut texts: Vec<_> = causes.iter().map(told).collect();
        if causes.len() < errors.len() {
            texts.push(format!("and {} more", errors.len() - causes.len()));
        }
        let listed = match &texts[..] {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} is invalid: {listed}", subject.quoted());
        let mut status = Self::about(Reason::Invalid, subject, message);
        status.details.causes = causes;
        status
    }

    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {message}"))
    }

    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// The object as it goes over the wire.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            kind: &'static str,
            api_version: &'static str,
            status: &'static str,
            #[serde(flatten)]
            body: &'a Status,
        }
        let wire = Wire { kind: "Status", api_version: "v1", status: "Failure", body: self };
        serde_json::to_vec(&wire).expect("strings and numbers always serialize")
    }
}

/// The first error, and all others that fit.
fn causes(errors: &[FieldError]) -> Vec<Cause> {
    let mut bytes = 0;
    let mut causes = Vec::new();
    for error in errors {
        let cause = Cause {
            reason: error.problem.reason().to_owned(),
            message: error.body(),
            field: error.path.to_string(),
        };
        causes.push(cause);
        bytes += causes.last().map_or(0, |cause| cause.message.len() + cause.field.len());
        if bytes > CAUSES_BYTES_MAX {
            break;
        }
    }
    causes
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FieldPath;

    #[test]
    fn messages_are_upstreams() {
        let pod = Subject { group: "", resource: "pods", name: "web" };
        assert_eq!(Status::not_found(pod).message, "pods \"web\" not found");
        let deployment = Subject { group: "apps", resource: "deployments", name: "web" };
        assert_eq!(
            Status::already_exists(deployment).message,
            "deployments.apps \"web\" already exists"
        );
    }

    #[test]
    fn of_very_many_errors_the_first_are_told_and_the_others_counted() {
        let path = FieldPath::new("data");
        let long = "v".repeat(1 << 18);
        let error = |index| FieldError::invalid(&path.index(index), long.as_str(), "");
        let errors: Vec<_> = (0..1_000).map(error).collect();
        let status = Status::invalid("", "ConfigMap", "a", &errors);
        assert_eq!(status.details.causes.len(), 4);
        assert!(status.message.ends_with(", and 996 more]"));
        let one = Status::invalid("", "ConfigMap", "a", &errors[..1]);
        assert!(one.message.ends_with("vvv\""));
    }

    #[test]
    fn survives_the_wire() {
        let status = Status::not_found(Subject { group: "", resource: "pods", name: "web" });
        let parsed: Status = serde_json::from_slice(&status.to_json()).unwrap();
        assert_eq!(parsed, status);
    }
}
