//! The objects that a pod needs, ConfigMaps, Secrets and its RuntimeClass: which they are, and what is
//! known of each. Pure.

use crate::kubelet::claims::Found;
use crate::kubelet::pod::BoundPod;
use crate::kubelet::tokens::{KnownToken, TokenAsk};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of an object that a pod needs.
#[derive(Debug)]
pub enum Lookup<K> {
    Found(Arc<K>),
    /// The API server says that there is none.
    Missing,
    /// Not asked yet, or no answer yet.
    Unknown,
}

impl<K> Clone for Lookup<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(object) => Self::Found(Arc::clone(object)),
            Self::Missing => Self::Missing,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// Names in the pod's own namespace, but for classes, which are in none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    /// One at most.
    pub runtime_classes: BTreeSet<String>,
}

/// What is known of everything that a pod needs.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub config_maps: BTreeMap<String, Lookup<ConfigMap>>,
    pub secrets: BTreeMap<String, Lookup<Secret>>,
    pub runtime_classes: BTreeMap<String, Lookup<RuntimeClass>>,
    pub tokens: BTreeMap<TokenAsk, KnownToken>,
    /// By the names of the pod's volumes.
    pub claims: BTreeMap<String, Found>,
}

impl References {
    #[must_use]
    pub fn config_map(&self, name: &str) -> Lookup<ConfigMap> {
        self.config_maps.get(name).cloned().unwrap_or(Lookup::Unknown)
    }

    #[must_use]
    pub fn secret(&self, name: &str) -> Lookup<Secret> {
        self.secrets.get(name).cloned().unwrap_or(Lookup::Unknown)
    }

    #[must_use]
    pub fn runtime_class(&self, name: &str) -> Lookup<RuntimeClass> {
        self.runtime_classes.get(name).cloned().unwrap_or(Lookup::Unknown)
    }

    #[must_use]
    pub fn token(&self, ask: &TokenAsk) -> KnownToken {
        self.tokens.get(ask).cloned().unwrap_or(KnownToken::Unknown)
    }
}

/// The RuntimeClass that a pod names, where it names one.
#[must_use]
pub fn runtime_class_name(pod: &BoundPod) -> Option<&str> {
    pod.spec().runtime_class_name.as_deref().filter(|name| !name.is_empty())
}

/// Everything that a pod's containers, volumes, image pulls and sandbox name.
#[must_use]
pub fn referenced(pod: &BoundPod) -> Names {
    let mut names = Names::default();
    for container in pod.all_containers() {
        add_environment(container, &mut names);
    }
    for volume in pod.spec().volumes.iter().flatten() {
        names.config_maps.extend(volume.config_map.iter().map(|it| it.name.clone()));
        names.secrets.extend(volume.secret.iter().filter_map(|it| it.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
        for source in projected {
            names.config_maps.extend(source.config_map.iter().map(|it| it.name.clone()));
            names.secrets.extend(source.secret.iter().map(|it| it.name.clone()));
        }
    }
    let pulls = pod.spec().image_pull_secrets.iter().flatten();
    names.secrets.extend(pulls.map(|it| it.name.clone()));
    names.runtime_classes.extend(runtime_class_name(pod).map(str::to_owned));
    names.config_maps.remove("");
    names.secrets.remove("");
    names
}

fn add_environment(container: &Container, names: &mut Names) {
    for source in container.env_from.iter().flatten() {
        names.config_maps.extend(source.config_map_ref.iter().map(|it| it.name.clone()));
        names.secrets.extend(source.secret_ref.iter().map(|it| it.name.clone()));
    }
    let sources = container.env.iter().flatten().filter_map(|it| it.value_from.as_ref());
    for source in sources {
        names.config_maps.extend(source.config_map_key_ref.iter().map(|it| it.name.clone()));
        names.secrets.extend(source.secret_key_ref.iter().map(|it| it.name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_that_can_name_an_object_is_looked_at() {
        let pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u1" },
            "spec": {
                "imagePullSecrets": [{ "name": "s-pull" }, {}],
                "runtimeClassName": "r-class",
                "initContainers": [{ "name": "i", "envFrom": [
                    { "configMapRef": { "name": "c-from" } }, { "secretRef": { "name": "s-from" } },
                ] }],
                "containers": [{ "name": "a", "env": [
                    { "name": "A", "value": "1" },
                    { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "c-key", "key": "k" } } },
                    { "name": "C", "valueFrom": { "secretKeyRef": { "name": "s-key", "key": "k" } } },
                ] }],
                "volumes": [
                    { "name": "v1", "configMap": { "name": "c-volume" } },
                    { "name": "v2", "secret": { "secretName": "s-volume" } },
                    { "name": "v3", "projected": { "sources": [
                        { "configMap": { "name": "c-projected" } },
                        { "secret": { "name": "s-projected" } },
                    ] } },
                ],
            },
        }))
        .unwrap();
        let names = referenced(&BoundPod::read(Arc::new(pod)).unwrap());
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(list(&names.config_maps), "c-from c-key c-projected c-volume");
        assert_eq!(list(&names.secrets), "s-from s-key s-projected s-pull s-volume");
        assert_eq!(list(&names.runtime_classes), "r-class");
    }
}
