//! RoleBindings: who has a role in one namespace.

use super::bindings;
use crate::api::{FieldError, names};
use crate::registry::kind::Scope;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::Value;

impl Resource for RoleBinding {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "rolebinding", ..BuiltIn::NAMESPACED });
    const SCHEMA: TypeRef = types::ROLE_BINDING;
    const COLUMNS: &'static [Column] = bindings::COLUMNS;
    const NAME_RULE: names::Rule = names::path_segment;
    const CREATES_ON_UPDATE: bool = true;

    fn apply_defaults(&mut self) {
        bindings::apply_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self) -> Vec<FieldError> {
        bindings::validate(&self.role_ref, self.subjects.as_deref(), Scope::Namespaced)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        bindings::validate_same_role(&self.role_ref, &old.role_ref).into_iter().collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        bindings::row(&self.metadata, &self.role_ref, self.subjects.as_deref(), now)
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    fn binding() -> Case {
        Case::of(
            "rolebindings",
            json!({
                "metadata": {"name": "a", "namespace": "default"},
                "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [
                    {"kind": "User", "name": "alice"},
                    {"kind": "ServiceAccount", "name": "builder"},
                ],
            }),
        )
    }

    #[test]
    fn roles_and_subjects() {
        check(&binding(), &[]);
        check(
            &binding().with(json!({"roleRef": {"apiGroup": "x", "kind": "Group", "name": ""}})),
            &[
                "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                "roleRef.kind: Unsupported value: \"Group\": supported values: \"ClusterRole\", \"Role\"",
                "roleRef.name: Required value",
            ],
        );
        check(
            &binding().with(json!({"roleRef": {"name": ".."}, "subjects": [
                {"kind": "ServiceAccount", "name": "A", "apiGroup": "x"},
                {"kind": "Group", "name": "", "apiGroup": "x"},
                {"kind": "Node", "name": "n"},
            ]})),
            &[
                "roleRef.name: Invalid value: \"..\": may not be '..'",
                "subjects[0].name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"\"",
                "subjects[1].name: Required value",
                "subjects[1].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                "subjects[2].kind: Unsupported value: \"Node\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
            ],
        );
    }

    #[test]
    fn the_role_stays_and_subjects_come_and_go() {
        check_update(&binding(), &binding().with(json!({"subjects": null})), &[]);
        check_update(
            &binding(),
            &binding().with(json!({"roleRef": {"name": "edit"}})),
            &[
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"}: cannot change roleRef",
            ],
        );
    }
}
