//! What may be wrong with environment variables and what they come from.
//!
//! Follows upstream `ValidateEnv` and `ValidateEnvFrom` (pkg/apis/core/validation, v1.35).

use super::paths;
use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::{invalid, required};
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector,
    ResourceFieldSelector,
};

/// Fields of the pod that a variable can show.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that older clients could name, which are more than can be shown.
const CONVERTIBLE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "spec.host",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What large amounts can be divided by.
const DIVISORS: &[&str] =
    &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn validate(variables: &[EnvVar], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        errors.extend(required(&path.child("name"), &variable.name, names::env_var_name));
        if let Some(source) = &variable.value_from {
            let value = variable.value.as_deref().unwrap_or_default();
            errors.extend(validate_source(source, value, &path.child("valueFrom")));
        }
    }
    errors
}

fn validate_source(source: &EnvVarSource, value: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        errors.extend(validate_field(field, FIELDS, &path.child("fieldRef")));
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        errors.extend(validate_resource(resource, &path.child("resourceFieldRef")));
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        errors.extend(validate_key(&key.name, &key.key, &path.child("configMapKeyRef")));
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        errors.extend(validate_key(&key.name, &key.key, &path.child("secretKeyRef")));
    }
    if let Some(file) = &source.file_key_ref {
        sources += 1;
        errors.extend(validate_file(file, &path.child("fileKeyRef")));
    }
    let detail = match (sources, value) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        (1, "") => return errors,
        (_, "") => "may not have more than one field specified at a time",
        _ => "may not be specified when `value` is not empty",
    };
    errors.push(FieldError::invalid(path, "", detail));
    errors
}

/// A field of the pod: one of `allowed`, or an entry of its labels or annotations (upstream
/// `validateObjectFieldSelector`).
pub(super) fn validate_field(
    field: &ObjectFieldSelector,
    allowed: &[&str],
    path: &FieldPath,
) -> Vec<FieldError> {
    let version = field.api_version.as_deref().unwrap_or_default();
    let name = field.field_path.as_str();
    let name_path = path.child("fieldPath");
    if version.is_empty() {
        return vec![FieldError::required(&path.child("apiVersion"), "")];
    }
    if name.is_empty() {
        return vec![FieldError::required(&name_path, "")];
    }
    let unconvertible = |why: String| {
        let detail = format!("error converting fieldPath: {why}");
        vec![FieldError::invalid(&name_path, name, detail)]
    };
    if version != "v1" {
        return unconvertible(format!("unsupported pod version: {version}"));
    }
    if let Some((field, key)) = subscript(name) {
        return match field {
            "metadata.annotations" => {
                invalid(path, key, names::qualified_name(&key.to_lowercase()))
            }
            "metadata.labels" => invalid(path, key, names::qualified_name(key)),
            _ => unconvertible(format!("field label does not support subscript: {name}")),
        };
    }
    if !FIELDS.contains(&name) && !CONVERTIBLE_FIELDS.contains(&name) {
        return unconvertible(format!("field label not supported: {name}"));
    }
    let name = if name == "spec.host" { "spec.nodeName" } else { name };
    if allowed.contains(&name) {
        return Vec::new();
    }
    vec![FieldError::not_supported(&name_path, name, allowed)]
}

/// `metadata.labels['app']` is `metadata.labels` and `app`.
fn subscript(name: &str) -> Option<(&str, &str)> {
    let (field, rest) = name.split_once("['")?;
    let key = rest.strip_suffix("']")?;
    (!field.is_empty()).then_some((field, key))
}

/// An amount of a container (upstream `validateContainerResourceFieldSelector`).
pub(super) fn validate_resource(
    selector: &ResourceFieldSelector,
    path: &FieldPath,
) -> Vec<FieldError> {
    let name = selector.resource.as_str();
    let mut errors = Vec::new();
    let of_huge_pages =
        name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&name) && !of_huge_pages {
        errors.push(FieldError::not_supported(&path.child("resource"), name, RESOURCES));
    }
    errors.extend(validate_divisor(selector, path));
    errors
}

fn validate_divisor(selector: &ResourceFieldSelector, path: &FieldPath) -> Option<FieldError> {
    let divisor = selector.divisor.as_ref()?;
    let path = path.child("divisor");
    let name = selector.resource.as_str();
    let Ok(amount) = divisor.0.parse::<Quantity>() else {
        return Some(FieldError::invalid(&path, divisor.0.as_str(), "must be a quantity"));
    };
    let (_, resource) = name.split_once('.')?;
    let (allowed, what) = match resource {
        "cpu" => (["1m", "1"].as_slice(), "cpu"),
        "memory" => (DIVISORS, "memory"),
        "ephemeral-storage" => (DIVISORS, "local ephemeral storage"),
        other if other.starts_with("hugepages-") => (DIVISORS, "hugepages"),
        _ => return None,
    };
    if amount.is_zero() || allowed.contains(&amount.to_string().as_str()) {
        return None;
    }
    let listed = match what {
        "cpu" => "1m and 1".to_owned(),
        _ => DIVISORS.join(", "),
    };
    let detail = format!("only divisor's values {listed} are supported with the {what} resource");
    Some(FieldError::invalid(&path, name, detail))
}

fn validate_key(name: &str, key: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = invalid(&path.child("name"), name, names::dns1123_subdomain(name));
    errors.extend(required(&path.child("key"), key, names::config_key));
    errors
}

fn validate_file(file: &FileKeySelector, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = required(&path.child("key"), &file.key, names::env_var_name);
    let volume_path = path.child("volumeName");
    errors.extend(required(&volume_path, &file.volume_name, names::dns1123_label));
    let file_path = path.child("path");
    if file.path.is_empty() {
        errors.push(FieldError::required(&file_path, ""));
    } else {
        errors.extend(paths::no_backsteps(&file.path, &file_path));
    }
    errors
}

pub(super) fn validate_from(sources: &[EnvFromSource], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let source_path = path.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            let path = source_path.child("prefix");
            errors.extend(invalid(&path, prefix, names::env_var_name(prefix)));
        }
        let config_map = source.config_map_ref.as_ref().map(|one| ("configMapRef", &one.name));
        let secret = source.secret_ref.as_ref().map(|one| ("secretRef", &one.name));
        for (field, name) in config_map.into_iter().chain(secret) {
            let name_path = source_path.child(field).child("name");
            errors.extend(required(&name_path, name, names::dns1123_subdomain));
        }
        let detail = match (config_map, secret) {
            (None, None) => "must specify one of: `configMapRef` or `secretRef`",
            (Some(_), Some(_)) => "may not have more than one field specified at a time",
            _ => continue,
        };
        errors.push(FieldError::invalid(path, "", detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(variable: Value, expected: &[&str]) {
        let variables = [serde_json::from_value(variable).unwrap()];
        compare(validate(&variables, &FieldPath::new("env")), expected);
    }

    #[track_caller]
    fn check_source(source: Value, expected: &[&str]) {
        check(json!({"name": "A", "valueFrom": source}), expected);
    }

    #[test]
    fn names_and_sources() {
        check(json!({"name": "A", "value": "x"}), &[]);
        check(json!({"name": ""}), &["env[0].name: Required value"]);
        check(
            json!({"name": "a=b"}),
            &[
                "env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only",
            ],
        );
        check_source(
            json!({}),
            &["env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`"],
        );
        let key = json!({"name": "n", "key": "k"});
        check_source(json!({"configMapKeyRef": key}), &[]);
        check_source(
            json!({"configMapKeyRef": key, "secretKeyRef": key}),
            &[
                "env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
            ],
        );
        check(
            json!({"name": "A", "value": "x", "valueFrom": {"secretKeyRef": key}}),
            &[
                "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        );
        check_source(
            json!({"secretKeyRef": {"name": "N", "key": ""}}),
            &[
                "env[0].valueFrom.secretKeyRef.name: Invalid value: \"N\": a lowercase RFC 1123 subdomain",
                "env[0].valueFrom.secretKeyRef.key: Required value",
            ],
        );
        check_source(
            json!({"fileKeyRef": {"key": "", "volumeName": "V", "path": "../x"}}),
            &[
                "env[0].valueFrom.fileKeyRef.key: Required value",
                "env[0].valueFrom.fileKeyRef.volumeName: Invalid value: \"V\": a lowercase RFC 1123 label",
                "env[0].valueFrom.fileKeyRef.path: Invalid value: \"../x\": must not contain '..'",
            ],
        );
    }

    #[test]
    fn fields_of_the_pod() {
        let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
        for good in [
            "metadata.name",
            "spec.host",
            "status.podIPs",
            "metadata.labels['a']",
            "metadata.annotations['A.b/c']",
        ] {
            check_source(field(good), &[]);
        }
        check_source(field(""), &["env[0].valueFrom.fieldRef.fieldPath: Required value"]);
        check_source(
            field("spec.containers"),
            &[
                "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.containers\": error converting fieldPath: field label not supported: spec.containers",
            ],
        );
        check_source(
            field("status.phase"),
            &[
                "env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\"",
            ],
        );
        check_source(
            field("metadata.name['a']"),
            &[
                "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name['a']\": error converting fieldPath: field label does not support subscript",
            ],
        );
        check_source(
            field("metadata.labels['-']"),
            &["env[0].valueFrom.fieldRef: Invalid value: \"-\": name part must consist of"],
        );
    }

    #[test]
    fn amounts_of_the_container() {
        let resource = |name: &str, divisor: &str| json!({"resourceFieldRef": {"resource": name, "divisor": divisor}});
        check_source(resource("limits.cpu", "1m"), &[]);
        check_source(resource("requests.hugepages-2Mi", "1Mi"), &[]);
        check_source(resource("limits.memory", "0"), &[]);
        check_source(
            resource("limits.cpu", "10m"),
            &[
                "env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ],
        );
        check_source(
            resource("limits.memory", "2Mi"),
            &[
                "env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.memory\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
            ],
        );
        check_source(
            resource("limits.gpu", "1"),
            &[
                "env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\"",
            ],
        );
    }

    #[test]
    fn whole_maps() {
        let sources: Vec<EnvFromSource> = serde_json::from_value(json!([
            {"prefix": "A_", "configMapRef": {"name": "c"}},
            {},
            {"prefix": "=", "secretRef": {"name": ""}},
            {"configMapRef": {"name": "c"}, "secretRef": {"name": "s"}},
        ]))
        .unwrap();
        compare(
            validate_from(&sources, &FieldPath::new("envFrom")),
            &[
                "envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                "envFrom[2].prefix: Invalid value: \"=\": a valid environment variable name",
                "envFrom[2].secretRef.name: Required value",
                "envFrom: Invalid value: \"\": may not have more than one field specified at a time",
            ],
        );
    }
}
