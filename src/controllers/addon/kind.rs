//! What the API shows of a file of manifests: an AddOn, and the definition of its kind.
//!
//! The shape is that of k3s's Addon (`addons.k3s.cattle.io`), with what has come of it. There is no
//! status subresource: what is wanted and what was done are written in one step, so that what is
//! remembered of a file is never half of it.

use super::object::ObjectId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where all AddOns are.
pub(super) const NAMESPACE: &str = "kube-system";
pub(super) const API_VERSION: &str = "kinglet.dev/v1";
pub(super) const KIND: &str = "AddOn";
pub(super) const DEFINITION: &str = "addons.kinglet.dev";

/// Says of an object whose it is: the name of the AddOn. What does not have it is not pruned.
pub(super) const OWNER_ANNOTATION: &str = "kinglet.dev/addon";
/// `disabled` on an object: it stays when it goes from its file.
pub(super) const PRUNE_ANNOTATION: &str = "kinglet.dev/prune";

/// The condition that says whether everything of the file is as the file has it.
pub(super) const APPLIED: &str = "Applied";

/// A file of manifests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddOn {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: ObjectMeta,
    pub(super) spec: AddOnSpec,
    #[serde(default)]
    pub(super) status: AddOnStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AddOnSpec {
    /// The file, below the directory of manifests.
    pub(super) source: String,
    /// SHA-256 of the file when all of it was applied last, in hexadecimal digits.
    #[serde(default)]
    pub(super) checksum: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AddOnStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observed_time: Option<Time>,
    pub(super) conditions: Vec<Condition>,
    /// What was made of the file, and what may have been: written before it is made.
    pub(super) objects: Vec<Listed>,
}

/// An object of an AddOn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    pub(super) id: ObjectId,
    /// Why it is not as the file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

impl AddOn {
    pub(super) fn new(name: &str, source: &str) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            spec: AddOnSpec { source: source.to_owned(), checksum: String::new() },
            status: AddOnStatus::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// What was made of the file.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        self.status.objects.iter().map(|listed| &listed.id)
    }

    pub(super) fn applied(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == APPLIED)
    }

    /// Says whether the file is applied. When that has become so is kept while it stays so.
    pub(super) fn set_applied(
        &mut self,
        (status, reason): (&str, &str),
        message: String,
        now: Timestamp,
    ) {
        let since = self.applied().filter(|known| known.status == status);
        let since = since.map_or(Time(now), |known| known.last_transition_time.clone());
        self.status.conditions = vec![Condition {
            type_: APPLIED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: None,
        }];
    }
}

impl k8s_openapi::Resource for AddOn {
    const API_VERSION: &'static str = API_VERSION;
    const GROUP: &'static str = "kinglet.dev";
    const KIND: &'static str = KIND;
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "addons";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for AddOn {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition of the kind, as it is applied.
pub(super) fn definition() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    let condition = |field: &str| format!(".status.conditions[?(@.type==\"{APPLIED}\")].{field}");
    let mut message = column("Message", &condition("message"));
    message["priority"] = json!(1);
    let mut age = column("Age", ".metadata.creationTimestamp");
    age["type"] = json!("date");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": DEFINITION},
        "spec": {
            "group": "kinglet.dev",
            "scope": "Namespaced",
            "names": {"plural": "addons", "singular": "addon", "kind": KIND, "listKind": "AddOnList"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "additionalPrinterColumns": [
                    column("Source", ".spec.source"),
                    column("Applied", &condition("status")),
                    column("Reason", &condition("reason")),
                    message,
                    age,
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": "A file of manifests that the server applies.",
                    "required": ["spec"],
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["source"],
                            "properties": {
                                "source": text("The file, below the directory of manifests."),
                                "checksum": text("SHA-256 of the file when all of it was applied last."),
                            },
                        },
                        "status": status_schema(),
                    },
                }},
            }],
        },
    })
}

fn status_schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let time = |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    json!({
        "type": "object",
        "properties": {
            "observedTime": time("When what is said here was found out."),
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": text("What is true or not: Applied."),
                        "status": text("True, False or Unknown."),
                        "reason": text("Why, in a word."),
                        "message": text("Why, in full."),
                        "lastTransitionTime": time("When the status last became another."),
                        "observedGeneration": {"type": "integer", "format": "int64"},
                    },
                },
            },
            "objects": {
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "description": "What was made of the file.",
                "items": {
                    "type": "object",
                    "required": ["apiVersion", "kind", "name"],
                    "properties": {
                        "apiVersion": text("Group and version as the file has them."),
                        "kind": text("The kind."),
                        "namespace": text("The namespace, where it has one."),
                        "name": text("The name."),
                        "message": text("Why it is not as the file has it."),
                    },
                },
            },
        },
    })
}
