//! What a namespace that is going says about its content, in upstream's words
//! (pkg/controller/namespace/deletion/status_condition_utils.go, v1.35).

use super::plan::{Content, Left};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// A condition as it is when all is well.
struct Well {
    kind: &'static str,
    reason: &'static str,
    message: &'static str,
}

const DISCOVERY: Well = Well {
    kind: "NamespaceDeletionDiscoveryFailure",
    reason: "ResourcesDiscovered",
    message: "All resources successfully discovered",
};
const PARSING: Well = Well {
    kind: "NamespaceDeletionGroupVersionParsingFailure",
    reason: "ParsedGroupVersions",
    message: "All legacy kube types successfully parsed",
};
const DELETION: Well = Well {
    kind: "NamespaceDeletionContentFailure",
    reason: "ContentDeleted",
    message: "All content successfully deleted, may be waiting on finalization",
};
const CONTENT: Well = Well {
    kind: "NamespaceContentRemaining",
    reason: "ContentRemoved",
    message: "All content successfully removed",
};
const FINALIZERS: Well = Well {
    kind: "NamespaceFinalizersRemaining",
    reason: "ContentHasNoFinalizers",
    message: "All content-preserving finalizers finished",
};

/// What is wrong: a reason and a message.
type Wrong = Option<(&'static str, String)>;

pub(super) fn conditions(
    before: Option<&Vec<NamespaceCondition>>,
    content: &[&Content],
    failed_write: Option<&str>,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let mut conditions = before.cloned().unwrap_or_default();
    let found: [(Well, Wrong); 5] = [
        (DISCOVERY, None),
        (PARSING, None),
        (DELETION, failures(content, failed_write)),
        (CONTENT, content_left(content)),
        (FINALIZERS, finalizers_left(content)),
    ];
    for (well, wrong) in found {
        let status = if wrong.is_some() { "True" } else { "False" };
        let (reason, message) = wrong.unwrap_or((well.reason, well.message.to_owned()));
        let existing = conditions.iter().position(|condition| condition.type_ == well.kind);
        let since = existing
            .map(|index| &conditions[index])
            .filter(|condition| condition.status == status)
            .and_then(|condition| condition.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: well.kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(now))),
        };
        match existing {
            Some(index) => conditions[index] = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

fn failures(content: &[&Content], failed_write: Option<&str>) -> Wrong {
    let unknown = content.iter().filter_map(|content| content.left.as_ref().err());
    let mut messages: Vec<_> = unknown.map(String::as_str).chain(failed_write).collect();
    messages.sort_unstable();
    messages.dedup();
    let message = format!(
        "Failed to delete all resource types, {} remaining: {}",
        messages.len(),
        messages.join(", ")
    );
    (!messages.is_empty()).then_some(("ContentDeletionFailed", message))
}

fn content_left(content: &[&Content]) -> Wrong {
    let mut kinds: Vec<_> = content
        .iter()
        .filter_map(|content| Some((&content.resource, content.left.as_ref().ok()?)))
        .filter(|(_, left)| left.objects > 0)
        .map(|(resource, left)| {
            let (plural, group) = (&resource.plural, &resource.group);
            format!("{plural}.{group} has {} resource instances", left.objects)
        })
        .collect();
    kinds.sort_unstable();
    let message = format!("Some resources are remaining: {}", kinds.join(", "));
    (!kinds.is_empty()).then_some(("SomeResourcesRemain", message))
}

fn finalizers_left(content: &[&Content]) -> Wrong {
    let mut total: BTreeMap<&str, usize> = BTreeMap::new();
    for Left { finalizers, .. } in content.iter().filter_map(|content| content.left.as_ref().ok()) {
        for (finalizer, objects) in finalizers {
            *total.entry(finalizer).or_default() += objects;
        }
    }
    let listed: Vec<_> = total
        .iter()
        .map(|(finalizer, objects)| format!("{finalizer} in {objects} resource instances"))
        .collect();
    let message =
        format!("Some content in the namespace has finalizers remaining: {}", listed.join(", "));
    (!listed.is_empty()).then_some(("SomeFinalizersRemain", message))
}
