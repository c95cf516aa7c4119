//! ClusterRoleBindings: who has a ClusterRole everywhere.

use super::bindings;
use crate::api::{FieldError, names};
use crate::registry::kind::Scope;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use serde_json::Value;

impl Resource for ClusterRoleBinding {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "clusterrolebinding", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::CLUSTER_ROLE_BINDING;
    const COLUMNS: &'static [Column] = bindings::COLUMNS;
    const NAME_RULE: names::Rule = names::path_segment;
    const CREATES_ON_UPDATE: bool = true;

    fn apply_defaults(&mut self) {
        bindings::apply_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self) -> Vec<FieldError> {
        bindings::validate(&self.role_ref, self.subjects.as_deref(), Scope::Cluster)
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
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn only_cluster_roles_and_only_accounts_with_a_namespace() {
        let binding = Case::of(
            "clusterrolebindings",
            json!({
                "metadata": {"name": "a"},
                "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "b"}],
            }),
        );
        check(&binding, &[]);
        check(
            &binding.with(json!({
                "roleRef": {"kind": "Role"},
                "subjects": [{"kind": "ServiceAccount", "name": "a"}],
            })),
            &[
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "subjects[0].namespace: Required value",
            ],
        );
    }
}
