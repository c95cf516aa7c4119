//! A CustomResourceDefinition without its schemas, which are most of it and of no use to controllers.

use super::kinds::KindEntry;
use crate::api::Maturity;
use crate::client::ResourceType;
use crate::registry::kinds::apiextensions::conditions::ESTABLISHED;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionNames,
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
pub struct DefinitionSpec {
    pub group: String,
    pub scope: String,
    pub names: CustomResourceDefinitionNames,
    pub versions: Vec<DefinitionVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionVersion {
    pub name: String,
    #[serde(default)]
    pub served: bool,
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

    /// The kind that it adds, where it is served: in its preferred version.
    #[must_use]
    pub fn entry(&self) -> Option<KindEntry> {
        let served = self.spec.versions.iter().filter(|version| version.served);
        let preferred = served.max_by_key(|version| Maturity::of(&version.name))?;
        let names = &self.status.accepted_names;
        self.is_true(ESTABLISHED).then(|| KindEntry {
            resource: ResourceType {
                group: self.spec.group.clone().into(),
                version: preferred.name.clone().into(),
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
    fn a_definition_adds_its_preferred_version_once_it_is_established() {
        let definition = |conditions: Value| -> Definition {
            serde_json::from_value(json!({
                "metadata": {"name": "kites.example.com", "resourceVersion": "5"},
                "spec": {
                    "group": "example.com", "scope": "Namespaced",
                    "names": {"plural": "kites", "kind": "Kite"},
                    "versions": [
                        {"name": "v1beta1", "served": true, "storage": true, "schema": {"x": []}},
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
        assert_eq!(definition(json!([])).entry(), None);
        let condition = |status: &str| json!([{"type": "Established", "status": status}]);
        assert_eq!(definition(condition("False")).entry(), None);
        let entry = definition(condition("True")).entry().unwrap();
        let resource = &entry.resource;
        assert_eq!((&*resource.version, &*resource.plural), ("v1", "kites"));
        assert!(entry.is_namespaced);
    }
}
