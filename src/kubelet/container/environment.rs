//! The variables of a container: upstream `makeEnvironmentVariables`
//! (pkg/kubelet/kubelet_pods.go, v1.35). Pure.
//!
//! They stand in the order in which they are declared: those of Services, then `envFrom`, then
//! `env`; a later one of the same name replaces the earlier.

use super::ConfigError;
use super::expansion::expand;
use super::fields::{Surroundings, field, resource};
use super::references::{Lookup, References};
use crate::kubelet::pod::BoundPod;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, Container, EnvFromSource, EnvVarSource, Secret,
    SecretKeySelector,
};
use std::sync::Arc;

/// Variables in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.0.push((name, value)),
        }
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The text with its `$(NAME)` replaced.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name))
    }

    #[must_use]
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }
}

/// What the variables of a container are made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub pod: &'a BoundPod,
    pub container: &'a Container,
    pub around: &'a Surroundings<'a>,
    pub references: &'a References,
    /// The variables of Services: see [`services`](super::services).
    pub services: &'a [(String, String)],
}

/// # Errors
/// Where something that is named is not there, and is not optional.
pub fn environment(sources: &Sources<'_>) -> Result<Environment, ConfigError> {
    let mut environment = Environment::default();
    for (name, value) in sources.services {
        environment.set(name.clone(), value.clone());
    }
    for source in sources.container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in all_of(sources, source)? {
            environment.set(format!("{prefix}{key}"), value);
        }
    }
    for variable in sources.container.env.iter().flatten() {
        let literal = variable.value.as_deref().unwrap_or_default();
        let value = match &variable.value_from {
            Some(source) if literal.is_empty() => value_from(sources, source)?,
            _ => Some(environment.expand(literal)),
        };
        if let Some(value) = value {
            environment.set(variable.name.clone(), value);
        }
    }
    Ok(environment)
}

/// All keys of the object that an `envFrom` names.
fn all_of(
    sources: &Sources<'_>,
    source: &EnvFromSource,
) -> Result<Vec<(String, String)>, ConfigError> {
    if let Some(named) = &source.config_map_ref {
        let optional = named.optional == Some(true);
        let Some(object) = config_map(sources.references, &named.name, optional)? else {
            return Ok(Vec::new());
        };
        return Ok(object.data.clone().into_iter().flatten().collect());
    }
    if let Some(named) = &source.secret_ref {
        let optional = named.optional == Some(true);
        let Some(object) = secret(sources.references, &named.name, optional)? else {
            return Ok(Vec::new());
        };
        let data = object.data.iter().flatten();
        return Ok(data.map(|(key, value)| (key.clone(), text(&value.0))).collect());
    }
    Ok(Vec::new())
}

/// `None` where the variable is left out because what it names is optional and not there.
fn value_from(sources: &Sources<'_>, source: &EnvVarSource) -> Result<Option<String>, ConfigError> {
    if let Some(selector) = &source.field_ref {
        return field(sources.pod, sources.around, &selector.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(sources.pod, sources.container, sources.around, selector).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        return config_map_value(sources, selector);
    }
    if let Some(selector) = &source.secret_key_ref {
        return secret_value(sources, selector);
    }
    match &source.file_key_ref {
        Some(_) => Err(ConfigError::Unsupported { what: "fileKeyRef".to_owned() }),
        None => Ok(Some(String::new())),
    }
}

fn config_map_value(
    sources: &Sources<'_>,
    selector: &ConfigMapKeySelector,
) -> Result<Option<String>, ConfigError> {
    let optional = selector.optional == Some(true);
    let object = config_map(sources.references, &selector.name, optional)?;
    let value = object.and_then(|object| object.data.as_ref()?.get(&selector.key).cloned());
    if value.is_some() || optional {
        return Ok(value);
    }
    let object = format!("ConfigMap {}/{}", sources.pod.namespace(), selector.name);
    Err(ConfigError::NoKey { key: selector.key.clone(), object })
}

fn secret_value(
    sources: &Sources<'_>,
    selector: &SecretKeySelector,
) -> Result<Option<String>, ConfigError> {
    let optional = selector.optional == Some(true);
    let object = secret(sources.references, &selector.name, optional)?;
    let value = object.and_then(|object| Some(text(&object.data.as_ref()?.get(&selector.key)?.0)));
    if value.is_some() || optional {
        return Ok(value);
    }
    let object = format!("Secret {}/{}", sources.pod.namespace(), selector.name);
    Err(ConfigError::NoKey { key: selector.key.clone(), object })
}

/// A variable holds text; bytes that are none are replaced. (Upstream passes them on and the
/// runtime's protobuf refuses them.)
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn config_map(
    references: &References,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<ConfigMap>>, ConfigError> {
    match references.config_map(name) {
        Lookup::Found(object) => Ok(Some(object)),
        Lookup::Missing if optional => Ok(None),
        Lookup::Missing => Err(ConfigError::NotFound { kind: "configmap", name: name.to_owned() }),
        Lookup::Unknown => Err(ConfigError::Unknown { kind: "configmap", name: name.to_owned() }),
    }
}

fn secret(
    references: &References,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<Secret>>, ConfigError> {
    match references.secret(name) {
        Lookup::Found(object) => Ok(Some(object)),
        Lookup::Missing if optional => Ok(None),
        Lookup::Missing => Err(ConfigError::NotFound { kind: "secret", name: name.to_owned() }),
        Lookup::Unknown => Err(ConfigError::Unknown { kind: "secret", name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn references() -> References {
        let config_map = serde_json::from_value(json!({
            "metadata": { "name": "c" }, "data": { "a": "1", "b": "two" },
        }));
        let secret = serde_json::from_value(json!({
            "metadata": { "name": "s" }, "data": { "pass": "aHVzaA==" },
        }));
        References {
            config_maps: [
                ("c".to_owned(), Lookup::Found(Arc::new(config_map.unwrap()))),
                ("gone".to_owned(), Lookup::Missing),
            ]
            .into(),
            secrets: [
                ("s".to_owned(), Lookup::Found(Arc::new(secret.unwrap()))),
                ("gone".to_owned(), Lookup::Missing),
            ]
            .into(),
            ..References::default()
        }
    }

    /// `container` has `env` and `envFrom`; the result is `A=1 B=2`, or the error.
    #[track_caller]
    fn check(container: Value, expected: &str) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u1" },
            "spec": { "containers": [container] },
        }))
        .unwrap();
        let pod = BoundPod::read(Arc::new(pod)).unwrap();
        let allocatable = BTreeMap::new();
        let around =
            Surroundings { pod_addresses: &[], node_addresses: &[], allocatable: &allocatable };
        let services = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.43.0.1".to_owned())];
        let made = environment(&Sources {
            pod: &pod,
            container: &pod.containers()[0],
            around: &around,
            references: &references(),
            services: &services,
        });
        let text = match made {
            Ok(made) => {
                let own = made.into_pairs().into_iter().skip(1);
                own.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn later_declarations_win_and_see_earlier_ones() {
        check(
            json!({ "name": "a", "env": [
                { "name": "A", "value": "1" }, { "name": "B", "value": "$(A)-$(C)-$$(A)" },
                { "name": "C", "value": "3" }, { "name": "A", "value": "$(A)1" },
                { "name": "H", "value": "$(KUBERNETES_SERVICE_HOST)" }, { "name": "E" },
            ] }),
            "A=11 B=1-$(C)-$(A) C=3 H=10.43.0.1 E=",
        );
    }

    #[test]
    fn whole_objects_come_first_and_with_a_prefix() {
        check(
            json!({ "name": "a",
                "envFrom": [
                    { "configMapRef": { "name": "c" } },
                    { "prefix": "S_", "secretRef": { "name": "s" } },
                    { "configMapRef": { "name": "gone", "optional": true } },
                    { "secretRef": { "name": "gone", "optional": true } },
                ],
                "env": [{ "name": "b", "value": "$(a)" }],
            }),
            "a=1 b=1 S_pass=hush",
        );
    }

    fn config_map_ref(name: &str, key: &str, optional: bool) -> Value {
        json!({ "name": "a", "env": [{ "name": "A", "valueFrom": {
            "configMapKeyRef": { "name": name, "key": key, "optional": optional },
        } }] })
    }

    fn secret_ref(name: &str, key: &str, optional: bool) -> Value {
        json!({ "name": "a", "env": [{ "name": "A", "valueFrom": {
            "secretKeyRef": { "name": name, "key": key, "optional": optional },
        } }] })
    }

    #[test]
    fn single_keys_may_be_optional() {
        check(config_map_ref("c", "a", false), "A=1");
        check(config_map_ref("c", "x", true), "");
        check(config_map_ref("gone", "x", true), "");
        check(config_map_ref("c", "x", false), "couldn't find key x in ConfigMap shop/c");
        check(config_map_ref("gone", "x", false), "configmap \"gone\" not found");
        check(secret_ref("s", "pass", false), "A=hush");
        check(secret_ref("s", "x", true), "");
        check(secret_ref("s", "x", false), "couldn't find key x in Secret shop/s");
        check(secret_ref("gone", "x", false), "secret \"gone\" not found");
    }

    #[test]
    fn what_is_not_known_yet_is_waited_for() {
        check(config_map_ref("other", "x", true), "configmap \"other\" is not known yet");
    }

    #[test]
    fn a_value_goes_before_its_source() {
        check(
            json!({ "name": "a", "env": [
                { "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "M", "value": "x",
                  "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "L", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } },
            ] }),
            "N=web M=x L=0",
        );
    }
}
