//! The `authorizer` of admission policies: what somebody may do, asked step by step.
//!
//! Follows apiserver pkg/cel/library/authz.go, v1.35. Who knows the answer is behind
//! [`Authorize`].

use super::value::{Fault, Outcome, Value};
use std::fmt;
use std::sync::Arc;

/// Answers whether something may be done.
pub trait Authorize: Send + Sync + fmt::Debug {
    fn authorize(&self, question: &Question) -> Decision;
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub is_allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// How far a question has been put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Authorizer,
    Path,
    Group,
    Resource,
}

/// Whether somebody may do something, as far as it has been put.
#[derive(Clone, Debug)]
pub struct Question {
    authorizer: Arc<dyn Authorize>,
    pub stage: Stage,
    /// Namespace and name, where it is not about the user of the request.
    pub service_account: Option<(String, String)>,
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
    pub verb: String,
}

impl Question {
    /// The variable `authorizer`.
    #[must_use]
    pub fn of(authorizer: Arc<dyn Authorize>) -> Self {
        Self {
            authorizer,
            stage: Stage::Authorizer,
            service_account: None,
            path: String::new(),
            group: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            field_selector: None,
            label_selector: None,
            verb: String::new(),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

/// A function of this library.
pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Question(question), Value::Text(text)] => further(function, question, text),
        [Value::Question(question), Value::Text(namespace), Value::Text(name)]
            if function == "serviceAccount" && question.stage == Stage::Authorizer =>
        {
            let account = (namespace.to_string(), name.to_string());
            let next = Question { service_account: Some(account), ..(**question).clone() };
            Ok(Value::Question(Arc::new(next)))
        }
        [Value::Decision(decision)] => Ok(match function {
            "allowed" => Value::Bool(decision.is_allowed),
            "reason" => Value::text(decision.reason.as_str()),
            "errored" => Value::Bool(decision.error.is_some()),
            "error" => Value::text(decision.error.as_deref().unwrap_or_default()),
            _ => return Err(Fault::NO_OVERLOAD),
        }),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn further<'a>(function: &str, question: &Question, text: &str) -> Outcome<'a> {
    let mut next = question.clone();
    let text = text.to_owned();
    match (function, question.stage) {
        ("path", Stage::Authorizer) => (next.stage, next.path) = (Stage::Path, text),
        ("group", Stage::Authorizer) => (next.stage, next.group) = (Stage::Group, text),
        ("resource", Stage::Group) => (next.stage, next.resource) = (Stage::Resource, text),
        ("subresource", Stage::Resource) => next.subresource = text,
        ("namespace", Stage::Resource) => next.namespace = text,
        ("name", Stage::Resource) => next.name = text,
        ("fieldSelector", Stage::Resource) => next.field_selector = Some(text),
        ("labelSelector", Stage::Resource) => next.label_selector = Some(text),
        ("check", Stage::Path | Stage::Resource) => {
            next.verb = text;
            let decision = next.authorizer.authorize(&next);
            return Ok(Value::Decision(Arc::new(decision)));
        }
        _ => return Err(Fault::NO_OVERLOAD),
    }
    Ok(Value::Question(Arc::new(next)))
}
