//! Namespaces. One is held by its `spec.finalizers` until its content is gone.
//!
//! Follows upstream pkg/registry/core/namespace (v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{finalizer_domain, invalid};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    Body, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::Value;
use std::borrow::Cow;

/// The finalizer that every namespace gets, and the namespace controller takes away.
const KUBERNETES_FINALIZER: &str = "kubernetes";

/// The label that repeats the name, for selectors.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Resource for Namespace {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "namespace",
        short_names: &[Cow::Borrowed("ns")],
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[
            Subresource { name: "finalize", body: Body::Parent, verbs: &["update"] },
            Subresource::STATUS,
        ],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::NAMESPACE;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::text("Status", "Active, or Terminating."), Column::AGE];
    const NAME_RULE: names::Rule = names::dns1123_label;
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        let phase = &mut self.status.get_or_insert_default().phase;
        phase.get_or_insert_with(|| "Active".to_owned());
    }

    fn prepare_create(&mut self) {
        self.status =
            Some(NamespaceStatus { phase: Some("Active".to_owned()), ..Default::default() });
        let finalizers = self.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == KUBERNETES_FINALIZER) {
            finalizers.push(KUBERNETES_FINALIZER.to_owned());
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("finalizers");
        let finalizers = self.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        finalizers.flat_map(|finalizer| validate_finalizer(finalizer, &path)).collect()
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        let phase = phase.unwrap_or_default();
        let path = FieldPath::new("status").child("Phase");
        match (&self.metadata.deletion_timestamp, phase) {
            (None, "Active") | (Some(_), "Terminating") => Vec::new(),
            (None, phase) => {
                let detail = "may only be 'Active' if `deletionTimestamp` is empty";
                vec![FieldError::invalid(&path, phase, detail)]
            }
            (Some(_), phase) => {
                let detail = "may only be 'Terminating' if `deletionTimestamp` is not empty";
                vec![FieldError::invalid(&path, phase, detail)]
            }
        }
    }

    fn begin_deletion(&mut self) {
        self.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    }

    fn is_held(&self) -> bool {
        self.spec.iter().any(|spec| spec.finalizers.iter().any(|list| !list.is_empty()))
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("status.phase", phase(self).to_owned())]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let metadata = &self.metadata;
        vec![cells::name(metadata), phase(self).into(), cells::age(metadata, now)]
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn validate_finalizer(finalizer: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = invalid(path, finalizer, names::qualified_name(finalizer));
    errors.extend(finalizer_domain(path, finalizer));
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update};
    use serde_json::json;

    #[test]
    fn names_and_finalizers() {
        let case = Case::of("namespaces", json!({"metadata": {"name": "a"}}));
        check(&case, &[]);
        check(
            &case.with(json!({"metadata": {"name": "a.b", "namespace": "c"}, "spec": {"finalizers": ["x", "a/b"]}})),
            &[
                "metadata.name: Invalid value: \"a.b\": must not contain dots",
                "metadata.namespace: Forbidden: not allowed on this type",
                "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        );
    }

    #[test]
    fn a_new_one_is_active_labelled_and_held() {
        let case =
            Case::of("namespaces", json!({"metadata": {"name": "a"}, "status": {"phase": "x"}}));
        let mut namespace = case.created();
        let value = namespace.to_value();
        assert_eq!(value["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(value["status"], json!({"phase": "Active"}));
        assert_eq!(value["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
        assert!(namespace.is_held());
        namespace.begin_deletion();
        assert_eq!(namespace.to_value()["status"], json!({"phase": "Terminating"}));
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        let alive = Case::of("namespaces", json!({"metadata": {"name": "a"}}));
        check_status_update(&alive, &alive, &[]);
        check_status_update(
            &alive,
            &alive.with(json!({"status": {"phase": "Terminating"}})),
            &["status.Phase: Invalid value: \"Terminating\": may only be 'Active' if"],
        );
        let dying = alive.with(json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Terminating"},
        }));
        check_status_update(&dying, &dying, &[]);
    }
}
