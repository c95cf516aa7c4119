//! PodTemplates: templates kept for themselves.
//!
//! Follows upstream pkg/registry/core/podtemplate (v1.35).

use super::podspec;
use crate::api::{FieldError, FieldPath};
use crate::registry::kinds::apps::container_cells;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::Value;

impl Resource for PodTemplate {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "podtemplate", ..BuiltIn::NAMESPACED });
    const SCHEMA: TypeRef = types::POD_TEMPLATE;
    const RETURNS_DELETED: bool = true;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Containers", "Names of the template's containers."),
        Column::text("Images", "Images of the template's containers."),
        Column::text("Pod Labels", "Labels of the template's pods."),
    ];

    fn apply_defaults(&mut self) {
        podspec::apply_template_defaults(self.template.get_or_insert_default());
    }

    fn validate(&self) -> Vec<FieldError> {
        let template = self.template.clone().unwrap_or_default();
        podspec::validate_template(&template, &FieldPath::new("template"))
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.template != old.template
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let template = self.template.as_ref();
        let old = old.map(|old| &old.metadata);
        podspec::workload_warnings((&self.metadata, old), template, &FieldPath::new("template"))
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let (names, images) = container_cells(self.template.as_ref());
        let own = self.template.as_ref().and_then(|template| template.metadata.as_ref());
        vec![
            cells::name(&self.metadata),
            names.into(),
            images.into(),
            cells::labels(own.and_then(|own| own.labels.as_ref())).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn the_template_is_one_of_pods() {
        let case = Case::of(
            "podtemplates",
            json!({
                "metadata": {"name": "a", "namespace": "b"},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
            }),
        );
        check(&case, &[]);
        let created = case.created();
        assert_eq!(created.to_value()["template"]["spec"]["restartPolicy"], "Always");
        check(
            &case.with(json!({"template": {"spec": {"containers": []}}})),
            &["template.spec.containers: Required value"],
        );
        let changed = case.with(json!({"template": {"metadata": {"labels": {"a": "b"}}}}));
        assert!(changed.created().is_new_generation(&*created));
    }
}
