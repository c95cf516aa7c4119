//! Secrets: data for pods and the kubelet that is not for everybody.
//!
//! Follows upstream `ValidateSecret` (pkg/apis/core/validation, v1.35).

use super::config_map::{DATA_BYTES_MAX, IMMUTABLE};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, invalid};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value};

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

impl Resource for Secret {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "secret", ..BuiltIn::NAMESPACED });
    const SCHEMA: TypeRef = types::SECRET;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Type", "What the data is for."),
        Column::text("Data", "Number of entries."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        // `stringData` is for writing only: it ends up in `data` and wins there.
        if let Some(texts) = self.string_data.take().filter(|texts| !texts.is_empty()) {
            let data = self.data.get_or_insert_default();
            data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
        self.data.take_if(|data| data.is_empty());
        self.type_.take_if(|name| name.is_empty());
        self.type_.get_or_insert_with(|| "Opaque".to_owned());
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("data");
        let mut errors = Vec::new();
        for key in self.data.iter().flat_map(|data| data.keys()) {
            errors.extend(invalid(&path.key(key), key, names::config_key(key)));
        }
        let values = self.data.iter().flat_map(|data| data.values());
        if values.map(|value| value.0.len()).sum::<usize>() > DATA_BYTES_MAX {
            errors.push(FieldError::too_long(&path, DATA_BYTES_MAX));
        }
        errors.extend(validate_type(self, &path));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("type");
        let new_type = self.type_.clone().into();
        let mut errors: Vec<_> =
            immutable(&path, new_type, &old.type_.clone().into()).into_iter().collect();
        if old.immutable == Some(true) {
            let changes =
                [("immutable", self.immutable != Some(true)), ("data", self.data != old.data)];
            let changed = changes.into_iter().filter(|(_, changed)| *changed);
            errors.extend(
                changed.map(|(field, _)| FieldError::forbidden(&FieldPath::new(field), IMMUTABLE)),
            );
        }
        errors
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("type", self.type_.clone().unwrap_or_default())]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let entries = self.data.as_ref().map_or(0, |data| data.len());
        vec![
            cells::name(&self.metadata),
            self.type_.clone().into(),
            entries.into(),
            cells::age(&self.metadata, now),
        ]
    }
}

/// What the well-known types ask of the data.
fn validate_type(secret: &Secret, path: &FieldPath) -> Vec<FieldError> {
    let entry = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let missing = |keys: &[&str]| {
        let absent = keys.iter().filter(|key| entry(key).is_none());
        absent.map(|key| FieldError::required(&path.key(key), "")).collect::<Vec<_>>()
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.metadata.annotations.as_ref();
            let account = annotations.and_then(|all| all.get(SERVICE_ACCOUNT_NAME));
            if account.is_some_and(|name| !name.is_empty()) {
                return Vec::new();
            }
            let path = FieldPath::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME);
            vec![FieldError::required(&path, "")]
        }
        "kubernetes.io/dockercfg" => docker_config(entry(".dockercfg"), &path.key(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            docker_config(entry(".dockerconfigjson"), &path.key(".dockerconfigjson"))
        }
        "kubernetes.io/basic-auth" => {
            let both = missing(&["username", "password"]);
            if both.len() == 2 { both } else { Vec::new() }
        }
        "kubernetes.io/ssh-auth" => match entry("ssh-privatekey") {
            Some(key) if !key.0.is_empty() => Vec::new(),
            _ => vec![FieldError::required(&path.key("ssh-privatekey"), "")],
        },
        "kubernetes.io/tls" => missing(&["tls.crt", "tls.key"]),
        _ => Vec::new(),
    }
}

fn docker_config(config: Option<&ByteString>, path: &FieldPath) -> Vec<FieldError> {
    let Some(config) = config else {
        return vec![FieldError::required(path, "")];
    };
    match serde_json::from_slice::<Map<String, Value>>(&config.0) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let value = "<secret contents redacted>";
            vec![FieldError::invalid(path, value, error.to_string())]
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    fn secret(kind: &str) -> Case {
        Case::of("secrets", json!({"metadata": {"name": "a", "namespace": "b"}, "type": kind}))
    }

    #[test]
    fn texts_become_data() {
        let case =
            secret("").with(json!({"data": {"a": "AA==", "b": "AA=="}, "stringData": {"a": "x"}}));
        let value = case.created().to_value();
        assert_eq!(value["data"], json!({"a": "eA==", "b": "AA=="}));
        assert_eq!(value["type"], "Opaque");
        assert_eq!(value.get("stringData"), None);
    }

    #[test]
    fn each_type_asks_for_its_entries() {
        check(&secret("Opaque"), &[]);
        check(&secret("example.com/own"), &[]);
        check(
            &secret("kubernetes.io/tls"),
            &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
        );
        check(
            &secret("kubernetes.io/basic-auth"),
            &["data[username]: Required value", "data[password]: Required value"],
        );
        check(
            &secret("kubernetes.io/basic-auth").with(json!({"stringData": {"username": ""}})),
            &[],
        );
        check(&secret("kubernetes.io/ssh-auth"), &["data[ssh-privatekey]: Required value"]);
        check(
            &secret("kubernetes.io/service-account-token"),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        );
        let docker = secret("kubernetes.io/dockerconfigjson");
        check(&docker, &["data[.dockerconfigjson]: Required value"]);
        check(&docker.with(json!({"stringData": {".dockerconfigjson": "{}"}})), &[]);
        check(
            &docker.with(json!({"stringData": {".dockerconfigjson": "x"}})),
            &["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": "],
        );
        check(
            &secret("Opaque").with(json!({"stringData": {"a b": ""}})),
            &["data[a b]: Invalid value: \"a b\": a valid config key must consist of"],
        );
        check(
            &secret("Opaque").with(json!({"stringData": {"a": "x".repeat(1024 * 1024 + 1)}})),
            &["data: Too long: may not be more than 1048576 bytes"],
        );
    }

    #[test]
    fn the_type_stays_and_so_does_what_is_immutable() {
        let old = secret("Opaque").with(json!({"immutable": true, "stringData": {"a": "1"}}));
        check_update(&old, &old, &[]);
        check_update(
            &old,
            &old.with(json!({"type": "x", "immutable": null, "stringData": {"a": "2"}})),
            &[
                "type: Invalid value: \"x\": field is immutable",
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        );
    }
}
