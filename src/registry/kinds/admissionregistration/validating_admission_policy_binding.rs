//! ValidatingAdmissionPolicyBindings: where a policy holds, with which parameters, and what becomes
//! of those who break it.
//!
//! Follows upstream `validateValidatingAdmissionPolicyBindingSpec`
//! (pkg/apis/admissionregistration/validation, v1.35). Whether somebody may read the parameters
//! that he binds is not looked at.

use super::{EXTENSIONS, matching};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{label_selector, one_of, required, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{ParamRef, ValidatingAdmissionPolicyBinding};
use serde_json::Value;
use std::collections::BTreeSet;

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

impl Resource for ValidatingAdmissionPolicyBinding {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "validatingadmissionpolicybinding",
        categories: EXTENSIONS,
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::VALIDATING_ADMISSION_POLICY_BINDING;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("PolicyName", "The policy that holds."),
        Column::text("ParamRef", "The objects with the policy's parameters."),
        Column::AGE,
    ];
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.match_resources.iter_mut().for_each(matching::apply_defaults);
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let policy = spec.policy_name.unwrap_or_default();
        let mut errors = required(&path.child("policyName"), &policy, names::dns1123_subdomain);
        let params = spec.param_ref.iter();
        errors.extend(params.flat_map(|it| validate_params(it, &path.child("paramRef"))));
        if let Some(resources) = &spec.match_resources {
            let path = path.child("matchResources");
            errors.extend(matching::validate_resources(resources, &path));
        }
        let actions = spec.validation_actions.unwrap_or_default();
        errors.extend(validate_actions(&actions, &path.child("validationActions")));
        errors
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        vec![
            cells::name(&self.metadata),
            spec.policy_name.unwrap_or_default().into(),
            params_cell(spec.param_ref.as_ref()),
            cells::age(&self.metadata, now),
        ]
    }
}

fn params_cell(params: Option<&ParamRef>) -> Value {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let unset = Value::from("<unset>");
    let Some(params) = params else { return unset };
    match (text(&params.namespace), text(&params.name), &params.selector) {
        (_, name, Some(selector)) if name.is_empty() => cells::selector(Some(selector)),
        (_, name, None) if name.is_empty() => unset,
        // Whether such objects are in namespaces is not known here.
        (namespace, name, _) if namespace.is_empty() => format!("*/{name}").into(),
        (namespace, name, _) => format!("{namespace}/{name}").into(),
    }
}

/// Upstream `validateParamRef`.
fn validate_params(params: &ParamRef, path: &FieldPath) -> Vec<FieldError> {
    let exclusive = "name and selector are mutually exclusive";
    let name = params.name.as_deref().filter(|name| !name.is_empty());
    let mut errors = Vec::new();
    if let Some(name) = name {
        let path = path.child("name");
        for problem in names::path_segment(name) {
            errors.push(FieldError::invalid(&path, name, problem));
        }
        errors.extend(params.selector.is_some().then(|| FieldError::forbidden(&path, exclusive)));
    }
    if let Some(selector) = &params.selector {
        let path = path.child("selector");
        errors.extend(label_selector(selector, &path));
        errors.extend(name.is_some().then(|| FieldError::forbidden(&path, exclusive)));
    }
    if name.is_none() && params.selector.is_none() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let action_path = path.child("parameterNotFoundAction");
    match params.parameter_not_found_action.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(&action_path, "")),
        action => errors.extend(one_of(&action_path, action, &["Deny", "Allow"])),
    }
    errors
}

/// Upstream `validateValidationActions`.
fn validate_actions(actions: &[String], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        let path = path.index(index);
        errors.extend(one_of(&path, action, ACTIONS));
        if !seen.insert(action.as_str()) {
            errors.push(FieldError::duplicate(&path, action.as_str()));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure \
                      information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, to_value(&actions), detail));
    }
    if seen.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::{Value, json};

    fn binding(spec: Value) -> Case {
        let object = json!({"metadata": {"name": "x"}, "spec": {
            "policyName": "p", "validationActions": ["Deny"],
        }});
        Case::of("validatingadmissionpolicybindings", object).with(json!({"spec": spec}))
    }

    #[test]
    fn a_binding_names_its_policy_and_what_it_does() {
        check(
            &binding(json!({"matchResources": {"resourceRules": [{
                "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
                "resourceNames": ["a"],
            }]}})),
            &[],
        );
        check(
            &binding(json!({"policyName": null, "validationActions": null})),
            &[
                "spec.policyName: Required value",
                "spec.validationActions: Required value: at least one validation action is required",
            ],
        );
        check(
            &binding(
                json!({"policyName": "P", "validationActions": ["Deny", "Warn", "Deny", "Ask"],
                "matchResources": {"matchPolicy": "Rough", "excludeResourceRules": [{
                    "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
                    "resources": ["*"], "resourceNames": ["a", "a/b", "a"],
                }]}}),
            ),
            &[
                "spec.policyName: Invalid value: \"P\": a lowercase RFC 1123 subdomain",
                "spec.matchResources.matchPolicy: Unsupported value: \"Rough\": supported values: \"Equivalent\", \"Exact\"",
                "spec.matchResources.excludeResourceRules[0].resourceNames[1]: Invalid value: \"a/b\": may not contain '/'",
                "spec.matchResources.excludeResourceRules[0].resourceNames[2]: Duplicate value: \"a\"",
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions[3]: Unsupported value: \"Ask\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\",\"Ask\"]: must not contain both Deny and Warn",
            ],
        );
    }

    #[test]
    fn parameters_are_named_or_selected() {
        let params = |params: Value| binding(json!({"paramRef": params}));
        let deny = "parameterNotFoundAction";
        check(&params(json!({"name": "a", deny: "Deny"})), &[]);
        check(&params(json!({"selector": {}, deny: "Allow"})), &[]);
        check(
            &params(json!({})),
            &[
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Required value",
            ],
        );
        check(
            &params(json!({"name": "..", "selector": {"matchLabels": {"a": "-"}}, deny: "No"})),
            &[
                "spec.paramRef.name: Invalid value: \"..\": may not be '..'",
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector.matchLabels: Invalid value: \"-\"",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Unsupported value: \"No\": supported values: \"Allow\", \"Deny\"",
            ],
        );
    }

    #[test]
    fn parameters_are_shown_by_name() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (params, expected) in [
            (json!(null), "<unset>"),
            (json!({"name": "a"}), "*/a"),
            (json!({"name": "a", "namespace": "b"}), "b/a"),
            (json!({"selector": {"matchLabels": {"c": "d"}}}), "c=d"),
        ] {
            let row = binding(json!({"paramRef": params})).created().row(now);
            assert_eq!(row[2], expected, "{params}");
        }
    }
}
