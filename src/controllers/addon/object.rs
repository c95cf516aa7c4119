//! Which object a manifest is about, and where it is served.

use crate::api::ObjectKey;
use crate::client::ResourceType;
use crate::controllers::definition::Definition;
use crate::registry::KINDS;
use crate::registry::kinds::apiextensions::conditions::ESTABLISHED;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Where objects go whose manifest does not say where, as with kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// An object as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectId {
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl ObjectId {
    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.kind)?;
        match &self.namespace {
            Some(namespace) => write!(formatter, " {namespace}/{}", self.name),
            None => write!(formatter, " {}", self.name),
        }
    }
}

/// Which object it is, in whatever version it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) key: ObjectKey,
}

/// Where the objects of a kind are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) resource: ResourceType,
    pub(super) is_namespaced: bool,
}

/// The kinds that are served now: built-in ones, and those of definitions.
#[derive(Clone, Debug, Default)]
pub(super) struct ServedKinds(Vec<Arc<Definition>>);

impl ServedKinds {
    pub(super) fn new(definitions: Vec<Arc<Definition>>) -> Self {
        Self(definitions)
    }

    /// The kind in this very version.
    pub(super) fn find(&self, api_version: &str, kind: &str) -> Option<Served> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.look_up(group, kind, |served| served == version)
    }

    /// The kind in any version.
    pub(super) fn find_any(&self, group: &str, kind: &str) -> Option<Served> {
        self.look_up(group, kind, |_| true)
    }

    fn look_up(&self, group: &str, kind: &str, is_it: impl Fn(&str) -> bool) -> Option<Served> {
        let built_in = KINDS
            .iter()
            .map(|row| &row.facts)
            .find(|facts| facts.group == group && facts.kind == kind && is_it(&facts.version));
        if let Some(facts) = built_in {
            let resource = ResourceType {
                group: facts.group.clone(),
                version: facts.version.clone(),
                kind: facts.kind.clone(),
                plural: facts.plural.clone(),
            };
            return Some(Served { resource, is_namespaced: facts.is_namespaced() });
        }
        let definition = self.0.iter().find(|definition| {
            let names = &definition.status.accepted_names;
            definition.spec.group == group
                && names.kind == kind
                && definition.is_true(ESTABLISHED)
                && !definition.is_built_in()
        })?;
        let mut versions = definition.spec.versions.iter().filter(|version| version.served);
        let version = versions.find(|version| is_it(&version.name))?;
        let resource = ResourceType {
            group: definition.spec.group.clone().into(),
            version: version.name.clone().into(),
            kind: kind.to_owned().into(),
            plural: definition.status.accepted_names.plural.clone().into(),
        };
        Some(Served { resource, is_namespaced: definition.spec.scope == "Namespaced" })
    }

    /// Which object is meant. Whether its kind is namespaced is known once it is served.
    pub(super) fn identity(&self, id: &ObjectId) -> Identity {
        let is_namespaced = self.find_any(id.group(), &id.kind).map(|kind| kind.is_namespaced);
        let key = key(id, is_namespaced);
        Identity { group: id.group().to_owned(), kind: id.kind.clone(), key }
    }

    /// The object with the namespace that it has.
    pub(super) fn placed(&self, id: &ObjectId) -> ObjectId {
        ObjectId { namespace: self.identity(id).key.namespace, ..id.clone() }
    }
}

fn key(id: &ObjectId, is_namespaced: Option<bool>) -> ObjectKey {
    let namespace = match is_namespaced {
        Some(true) => Some(id.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())),
        Some(false) => None,
        None => id.namespace.clone(),
    };
    ObjectKey { namespace, name: id.name.clone() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// `kites.example.com`, namespaced, served as v1 and v2.
    pub(in crate::controllers::addon) fn with_kites() -> ServedKinds {
        let definition = json!({
            "metadata": {"name": "kites.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "kites", "kind": "Kite"},
                "versions": [{"name": "v1", "served": true, "storage": true},
                    {"name": "v2", "served": true}, {"name": "v3", "served": false}],
            },
            "status": {
                "conditions": [{"type": "Established", "status": "True"}],
                "acceptedNames": {"plural": "kites", "kind": "Kite"},
            },
        });
        ServedKinds::new(vec![Arc::new(serde_json::from_value(definition).unwrap())])
    }

    /// Of `apiVersion kind namespace/name`.
    pub(in crate::controllers::addon) fn id(text: &str) -> ObjectId {
        let words: Vec<_> = text.split(' ').collect();
        let (namespace, name) = match words[2].split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, words[2]),
        };
        let (api_version, kind) = (words[0].to_owned(), words[1].to_owned());
        ObjectId { api_version, kind, namespace, name: name.to_owned() }
    }

    #[test]
    fn kinds_are_found_by_version() {
        let kinds = with_kites();
        for (version, kind, expected) in [
            ("v1", "ConfigMap", Some("/api/v1/configmaps")),
            ("apps/v1", "Deployment", Some("/apis/apps/v1/deployments")),
            ("apps/v1beta1", "Deployment", None),
            ("autoscaling/v1", "HorizontalPodAutoscaler", {
                Some("/apis/autoscaling/v1/horizontalpodautoscalers")
            }),
            ("example.com/v2", "Kite", Some("/apis/example.com/v2/kites")),
            ("example.com/v3", "Kite", None),
            ("example.com/v1", "Dragon", None),
        ] {
            let found = kinds.find(version, kind).map(|it| it.resource.collection_path(None));
            assert_eq!(found.as_deref(), expected, "{version} {kind}");
        }
        assert!(ServedKinds::default().find("example.com/v1", "Kite").is_none());
    }

    #[test]
    fn an_object_is_the_same_in_all_versions_and_where_no_namespace_is_said() {
        let kinds = with_kites();
        let same = |a: &str, b: &str| kinds.identity(&id(a)) == kinds.identity(&id(b));
        assert!(same("v1 ConfigMap a", "v1 ConfigMap default/a"));
        assert!(!same("v1 ConfigMap a", "v1 ConfigMap other/a"));
        assert!(same("v1 Namespace a", "v1 Namespace x/a"), "nothing of the cluster has one");
        assert!(same("example.com/v1 Kite a", "example.com/v2 Kite default/a"));
        assert!(!same("none.com/v1 Kite a", "none.com/v1 Kite default/a"), "it is not known yet");
        assert_eq!(kinds.placed(&id("v1 Secret a")), id("v1 Secret default/a"));
    }
}
