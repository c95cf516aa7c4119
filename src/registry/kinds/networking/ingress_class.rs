//! IngressClasses: who serves an Ingress.
//!
//! Follows upstream `ValidateIngressClass` (pkg/apis/networking/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{domain_path, immutable, invalid, required};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IngressClass, IngressClassParametersReference, IngressClassSpec,
};
use serde_json::Value;

/// A longer name of a controller is refused.
const CONTROLLER_BYTES_MAX: usize = 250;

impl Resource for IngressClass {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "ingressclass", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::INGRESS_CLASS;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Controller", "Who serves the Ingresses of this class."),
        Column::text("Parameters", "Object with more parameters."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(parameters) = &mut spec.parameters {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let IngressClassSpec { controller, parameters } = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let controller = controller.unwrap_or_default();
        let controller_path = path.child("controller");
        let mut errors = Vec::new();
        if controller.len() > CONTROLLER_BYTES_MAX {
            errors.push(FieldError::too_long(&controller_path, CONTROLLER_BYTES_MAX));
        }
        errors.extend(domain_path(&controller_path, &controller));
        if let Some(parameters) = &parameters {
            errors.extend(validate_parameters(parameters, &path.child("parameters")));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let controller = |class: &Self| {
            let spec = class.spec.as_ref();
            Value::from(spec.and_then(|spec| spec.controller.clone()).unwrap_or_default())
        };
        let path = FieldPath::new("spec").child("controller");
        immutable(&path, controller(self), &controller(old)).into_iter().collect()
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let IngressClassSpec { controller, parameters } = self.spec.clone().unwrap_or_default();
        let parameters = parameters.map(|object| match &object.api_group {
            Some(group) => format!("{}.{group}/{}", object.kind, object.name),
            None => format!("{}/{}", object.kind, object.name),
        });
        vec![
            cells::name(&self.metadata),
            controller.unwrap_or_default().into(),
            cells::or_none(parameters.as_deref()),
            cells::age(&self.metadata, now),
        ]
    }
}

/// Upstream `validateIngressClassParametersReference`.
fn validate_parameters(
    parameters: &IngressClassParametersReference,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(group) = parameters.api_group.as_deref() {
        errors.extend(invalid(&path.child("apiGroup"), group, names::dns1123_subdomain(group)));
    }
    errors.extend(required(&path.child("kind"), &parameters.kind, names::path_segment));
    errors.extend(required(&path.child("name"), &parameters.name, names::path_segment));
    let (scope_path, namespace_path) = (path.child("scope"), path.child("namespace"));
    match (parameters.scope.as_deref(), parameters.namespace.as_deref()) {
        (None, _) => errors.push(FieldError::required(&scope_path, "")),
        (Some("Namespace"), None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(&namespace_path, detail));
        }
        (Some("Namespace"), Some(name)) => {
            errors.extend(invalid(&namespace_path, name, names::dns1123_label(name)));
        }
        (Some("Cluster"), Some(_)) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(&namespace_path, detail));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => {
            let scopes = &["Cluster", "Namespace"];
            errors.push(FieldError::not_supported(&scope_path, other, scopes));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn class(spec: Value) -> Case {
        Case::of("ingressclasses", json!({"metadata": {"name": "web"}, "spec": spec}))
    }

    fn with(parameters: Value) -> Case {
        class(json!({"controller": "a.io/b", "parameters": parameters}))
    }

    #[test]
    fn controllers_are_paths_of_a_domain() {
        check(&class(json!({"controller": "kinglet.io/ingress"})), &[]);
        check(&class(json!({})), &["spec.controller: Required value"]);
        check(
            &class(json!({"controller": "nginx"})),
            &["spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path"],
        );
        check(
            &class(json!({"controller": "A/b c"})),
            &[
                "spec.controller: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.controller: Invalid value: \"b c\": Invalid path (regex used",
            ],
        );
        check(
            &class(json!({"controller": format!("a.io/{}", "b".repeat(246))})),
            &["spec.controller: Too long: may not be more than 250 bytes"],
        );
        let old = class(json!({"controller": "a.io/b"}));
        check_update(&old, &with(json!({"kind": "K", "name": "n"})), &[]);
        check_update(
            &old,
            &class(json!({"controller": "a.io/c"})),
            &["spec.controller: Invalid value: \"a.io/c\": field is immutable"],
        );
    }

    #[test]
    fn parameters_are_one_object() {
        check(&with(json!({"apiGroup": "a.io", "kind": "K", "name": "n"})), &[]);
        check(
            &with(json!({"kind": "K", "name": "n", "scope": "Namespace", "namespace": "x"})),
            &[],
        );
        check(
            &with(json!({"apiGroup": "A", "kind": "", "name": "a/b"})),
            &[
                "spec.parameters.apiGroup: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.parameters.kind: Required value",
                "spec.parameters.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        );
        check(
            &with(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
            &[
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        );
        check(
            &with(json!({"kind": "K", "name": "n", "namespace": "x"})),
            &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        );
        check(
            &with(json!({"kind": "K", "name": "n", "scope": "Namespace", "namespace": "X"})),
            &["spec.parameters.namespace: Invalid value: \"X\": a lowercase RFC 1123 label"],
        );
        check(
            &with(json!({"kind": "K", "name": "n", "scope": "World"})),
            &[
                "spec.parameters.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespace\"",
            ],
        );
    }
}
