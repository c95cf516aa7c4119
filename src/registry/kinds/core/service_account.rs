//! ServiceAccounts: who a pod is.
//!
//! Follows upstream pkg/registry/core/serviceaccount (v1.35).

use crate::registry::schema::{TypeRef, types};
use crate::registry::{Body, BuiltIn, Column, KindFacts, Resource, Subresource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use serde_json::Value;
use std::borrow::Cow;

/// Tokens by which somebody is this account.
const TOKEN: Subresource = Subresource {
    name: "token",
    body: Body::Other { group: "authentication.k8s.io", version: "v1", kind: "TokenRequest" },
    verbs: &["create"],
};

impl Resource for ServiceAccount {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "serviceaccount",
        short_names: &[Cow::Borrowed("sa")],
        subresources: &[TOKEN],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::SERVICE_ACCOUNT;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::AGE];
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        self.secrets.take_if(|secrets| secrets.is_empty());
        self.image_pull_secrets.take_if(|secrets| secrets.is_empty());
    }

    fn prepare_create(&mut self) {
        keep_names(self);
    }

    fn prepare_update(&mut self, _old: &Self) {
        keep_names(self);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::age(&self.metadata, now)]
    }
}

/// Secrets are of the account's own namespace: nothing but the name of one means anything.
fn keep_names(account: &mut ServiceAccount) {
    for secret in account.secrets.iter_mut().flatten() {
        *secret = ObjectReference { name: secret.name.take(), ..ObjectReference::default() };
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn of_secrets_only_the_names_are_kept() {
        let case = Case::of(
            "serviceaccounts",
            json!({"metadata": {"name": "a", "namespace": "b"}, "secrets": [{"name": "s", "uid": "1"}]}),
        );
        check(&case, &[]);
        assert_eq!(case.created().to_value()["secrets"], json!([{"name": "s"}]));
    }
}
