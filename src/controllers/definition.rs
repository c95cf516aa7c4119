//! A CustomResourceDefinition without its schemas, which are most of it and of no use to controllers.

use super::kinds::KindEntry;
use crate::api::Maturity;
use crate::client::ResourceType;
use crate::registry::KINDS;
use crate::registry::kinds::apiextensions::conditions::{ESTABLISHED, is_bad_bundle};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionCondition,
    CustomResourceDefinitionNames,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    pub metadata: ObjectMeta,
    pub spec: DefinitionSpec,
    #[serde(default)]
    pub status: DefinitionStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionSpec {
    pub group: String,
    pub scope: String,
    pub names: CustomResourceDefinitionNames,
    pub versions: Vec<DefinitionVersion>,
    /// Only of such definitions the schemas need not be structural.
    #[serde(default)]
    pub preserve_unknown_fields: bool,
    #[serde(default)]
    pub conversion: DefinitionConversion,
}

/// What is known of how objects are converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CustomResourceConversion")]
pub struct DefinitionConversion {
    /// Whether nobody can be believed by the authorities that are named for the webhook.
    pub has_bad_authorities: bool,
}

impl From<CustomResourceConversion> for DefinitionConversion {
    fn from(conversion: CustomResourceConversion) -> Self {
        let client = conversion.webhook.and_then(|webhook| webhook.client_config);
        let bundle = client.and_then(|client| client.ca_bundle);
        Self { has_bad_authorities: bundle.is_some_and(|bundle| is_bad_bundle(&bundle.0)) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionVersion {
    pub name: String,
    #[serde(default)]
    pub served: bool,
    #[serde(default)]
    pub storage: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionStatus {
    #[serde(default)]
    pub conditions: Vec<CustomResourceDefinitionCondition>,
    #[serde(default)]
    pub accepted_names: CustomResourceDefinitionNames,
}

impl k8s_openapi::Resource for Definition {
    const API_VERSION: &'static str =
        <CustomResourceDefinition as k8s_openapi::Resource>::API_VERSION;
    const GROUP: &'static str = <CustomResourceDefinition as k8s_openapi::Resource>::GROUP;
    const KIND: &'static str = <CustomResourceDefinition as k8s_openapi::Resource>::KIND;
    const VERSION: &'static str = <CustomResourceDefinition as k8s_openapi::Resource>::VERSION;
    const URL_PATH_SEGMENT: &'static str =
        <CustomResourceDefinition as k8s_openapi::Resource>::URL_PATH_SEGMENT;
    type Scope = k8s_openapi::ClusterResourceScope;
}

impl k8s_openapi::Metadata for Definition {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Definition {
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&CustomResourceDefinitionCondition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind)
    }

    #[must_use]
    pub fn is_true(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True")
    }

    /// Whether its kind is a built-in one, which is what is served then.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        let (group, plural) = (&self.spec.group, &self.spec.names.plural);
        KINDS.iter().any(|kind| kind.facts.group == *group && kind.facts.plural == *plural)
    }

    /// The kind that it adds, where it is served: in the version that objects are stored in, so that
    /// no webhook is needed to see them, else in its preferred one.
    #[must_use]
    pub fn entry(&self) -> Option<KindEntry> {
        let served = self.spec.versions.iter().filter(|version| version.served);
        let best = served.max_by_key(|version| (version.storage, Maturity::of(&version.name)))?;
        if self.is_built_in() {
            return None;
        }
        let names = &self.status.accepted_names;
        self.is_true(ESTABLISHED).then(|| KindEntry {
            resource: ResourceType {
                group: self.spec.group.clone().into(),
                version: best.name.clone().into(),
                kind: names.kind.clone().into(),
                plural: names.plural.clone().into(),
            },
            is_namespaced: self.spec.scope == "Namespaced",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_definition_adds_a_kind_once_it_is_established() {
        let with = |conditions: Value, is_served: bool| -> Definition {
            serde_json::from_value(json!({
                "metadata": {"name": "kites.example.com", "resourceVersion": "5"},
                "spec": {
                    "group": "example.com", "scope": "Namespaced",
                    "names": {"plural": "kites", "kind": "Kite"},
                    "versions": [
                        {"name": "v1beta1", "served": is_served, "storage": true, "schema": {"x": []}},
                        {"name": "v1", "served": true}, {"name": "v2", "served": false},
                    ],
                },
                "status": {
                    "conditions": conditions,
                    "acceptedNames": {"plural": "kites", "kind": "Kite"},
                },
            }))
            .unwrap()
        };
        let definition = |conditions: Value| with(conditions, true);
        assert_eq!(definition(json!([])).entry(), None);
        let condition = |status: &str| json!([{"type": "Established", "status": status}]);
        assert_eq!(definition(condition("False")).entry(), None);
        let entry = definition(condition("True")).entry().unwrap();
        let resource = &entry.resource;
        assert_eq!(
            (&*resource.version, &*resource.plural),
            ("v1beta1", "kites"),
            "as it is stored"
        );
        assert!(entry.is_namespaced);
        let unserved = with(condition("True"), false).entry().unwrap();
        assert_eq!(unserved.resource.version, "v1", "the preferred one of those that are served");
        let mut built_in = definition(condition("True"));
        built_in.spec.group = "networking.k8s.io".to_owned();
        built_in.spec.names.plural = "ingresses".to_owned();
        assert_eq!(built_in.entry(), None, "the built-in kind is not its to add");
    }
}
