//! Roles: what may be done in one namespace.

use super::validate_rules;
use crate::api::{FieldError, names};
use crate::registry::kind::Scope;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::Value;

impl Resource for Role {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "role", ..BuiltIn::NAMESPACED });
    const SCHEMA: TypeRef = types::ROLE;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::CREATED_AT];
    const NAME_RULE: names::Rule = names::path_segment;
    const CREATES_ON_UPDATE: bool = true;

    fn validate(&self) -> Vec<FieldError> {
        validate_rules(self.rules.as_deref(), Scope::Namespaced)
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::created_at(&self.metadata)]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    fn role(rules: serde_json::Value) -> Case {
        let metadata = json!({"name": "system:a", "namespace": "default"});
        Case::of("roles", json!({"metadata": metadata, "rules": rules}))
    }

    #[test]
    fn rules() {
        check(&role(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])), &[]);
        check(
            &role(json!([
                {"verbs": []},
                {"verbs": [], "nonResourceURLs": ["/x"]},
                {"verbs": ["get"], "nonResourceURLs": ["/x"], "resourceNames": ["a"]},
            ])),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "rules[1].verbs: Required value: verbs must contain at least one value",
                "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[2].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[2].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
            ],
        );
    }

    #[test]
    fn names_are_segments_of_paths() {
        check(&role(json!([])), &[]);
        check(
            &role(json!([])).with(json!({"metadata": {"name": "a/b"}})),
            &["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
        );
    }
}
