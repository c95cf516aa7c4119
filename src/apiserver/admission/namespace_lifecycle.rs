//! Nothing is created in a namespace that is not there or on its way out, and the namespaces that a
//! cluster cannot do without stay (upstream `NamespaceLifecycle`, apiserver
//! pkg/admission/plugin/namespace/lifecycle, v1.35).
//!
//! Upstream looks at the namespace some time before it stores the object, and waits a little where
//! the two are close. Here the object is stored only if its namespace is still as it was judged, so
//! that whoever empties a namespace that is going has seen all there will ever be in it.

use super::{Attributes, Facts, Mutation, Operation, Plugin, Want};
use crate::api::ObjectKey;
use crate::api::status::{Cause, Status, Subject};
use k8s_openapi::api::core::v1::Namespace;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "NamespaceLifecycle",
    // Upstream's too asks before anything is filled in: nothing else can be found without it.
    mutation: Some(Mutation { wants, apply }),
    judgement: None,
};

const IMMORTAL: &[&str] = &["default", "kube-public", "kube-system"];

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    match (&attributes.operation, attributes.namespace) {
        (Operation::Create(_), Some(namespace)) => {
            let key = ObjectKey::cluster(namespace);
            vec![Want::ground("", "namespaces", key)]
        }
        _ => Vec::new(),
    }
}

fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    match (&attributes.operation, attributes.namespace) {
        (Operation::Create(_), Some(name)) => {
            let subject = Subject { group: "", resource: "namespaces", name };
            let namespace: &Namespace =
                facts.all().next().ok_or_else(|| Status::not_found(subject))?;
            if is_terminating(namespace) { Err(terminating(attributes, name)) } else { Ok(()) }
        }
        (Operation::Delete(object), _) => match object.as_any().downcast_ref::<Namespace>() {
            Some(namespace) if is_immortal(namespace) => {
                Err(attributes.forbidden("this namespace may not be deleted"))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn is_terminating(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Terminating")
}

fn is_immortal(namespace: &Namespace) -> bool {
    namespace.metadata.name.as_deref().is_some_and(|name| IMMORTAL.contains(&name))
}

fn terminating(attributes: &Attributes<'_>, namespace: &str) -> Status {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = attributes.forbidden(&why);
    status.details.causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    });
    status
}
