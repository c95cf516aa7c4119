//! ResourceClaimTemplates: claims that are made for each pod anew.
//!
//! Follows upstream `ValidateResourceClaimTemplate` (pkg/apis/resource/validation, v1.35).

use super::claim;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{immutable, labels, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells, metadata};
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use serde_json::Value;

impl Resource for ResourceClaimTemplate {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "resourceclaimtemplate",
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::RESOURCE_CLAIM_TEMPLATE;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::AGE];

    fn apply_defaults(&mut self) {
        claim::apply_defaults(&mut self.spec.spec);
    }

    fn prepare_create(&mut self) {
        claim::drop_disabled(&mut self.spec.spec);
    }

    fn prepare_update(&mut self, _old: &Self) {
        claim::drop_disabled(&mut self.spec.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec");
        let own = self.spec.metadata.clone().unwrap_or_default();
        let own_path = path.child("metadata");
        let mut errors = labels(own.labels.as_ref(), &own_path.child("labels"));
        let annotations_path = own_path.child("annotations");
        errors.extend(metadata::validate_annotations(own.annotations.as_ref(), &annotations_path));
        errors.extend(claim::validate(&self.spec.spec, &path.child("spec")));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let spec = |template: &Self| to_value(&template.spec);
        immutable(&FieldPath::new("spec"), spec(self), &spec(old)).into_iter().collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::age(&self.metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn template(spec: Value) -> Case {
        let metadata = json!({"name": "x", "namespace": "ns"});
        Case::of("resourceclaimtemplates", json!({"metadata": metadata, "spec": spec}))
    }

    #[test]
    fn a_template_is_of_a_claim() {
        let request = json!({"name": "r", "exactly": {"deviceClassName": "c"}});
        let old = template(json!({"spec": {"devices": {"requests": [request]}}}));
        check(&old, &[]);
        check(
            &template(json!({
                "metadata": {"labels": {"a": "-"}, "annotations": {"a b": ""}},
                "spec": {"devices": {"requests": [{"name": "r"}]}},
            })),
            &[
                "spec.metadata.labels: Invalid value: \"-\"",
                "spec.metadata.annotations: Invalid value: \"a b\"",
                "spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or",
            ],
        );
        check_update(
            &old,
            &template(json!({"spec": {}})),
            &["spec: Invalid value: {\"spec\":{\"devices\":{}}}: field is immutable"],
        );
    }
}
