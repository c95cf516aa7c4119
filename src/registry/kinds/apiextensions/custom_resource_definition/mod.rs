//! CustomResourceDefinitions: which kinds there are beyond the built-in ones, and what they are like.
//!
//! Start at [`validate::validate`]. Follows upstream pkg/registry/customresourcedefinition and
//! pkg/apis/apiextensions/validation (apiextensions-apiserver, v1.35). What controllers decide of
//! definitions is in [`conditions`]; what follows from a schema is in
//! [`structural`].

mod approval;
pub mod conditions;
mod conversion;
mod default_values;
mod defaults;
mod names;
mod rule_costs;
mod rules;
mod schema;
mod spec;
#[cfg(test)]
mod tests;
mod tolerance;
mod validate;
mod versions;

use crate::api::FieldError;
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, structural, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, JSONSchemaProps,
};
use serde_json::Value;
use std::borrow::Cow;

/// Keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Resource for CustomResourceDefinition {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "customresourcedefinition",
        short_names: &[Cow::Borrowed("crd"), Cow::Borrowed("crds")],
        categories: &[Cow::Borrowed("api-extensions")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::CUSTOM_RESOURCE_DEFINITION;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const ASKS_FINALIZER_DOMAINS: bool = false;
    const UPDATES_UNCONDITIONALLY: bool = false;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::CREATED_AT];

    fn resets(subresource: &str) -> Resets {
        Resets::of_bare_status(subresource)
    }

    fn apply_defaults(&mut self) {
        defaults::apply(self);
    }

    fn prepare_create(&mut self) {
        let status = self.status.get_or_insert_default();
        status.accepted_names = Some(CustomResourceDefinitionNames::default());
        defaults::note_stored_version(self);
    }

    fn prepare_update(&mut self, _old: &Self) {
        defaults::note_stored_version(self);
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        validate::validate_update(self, old)
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        validate::validate_status(self)
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let known = old.map(unrecognized_formats).unwrap_or_default();
        let new = unrecognized_formats(self).into_iter().filter(|format| !known.contains(format));
        new.map(|format| format!("unrecognized format {format:?}")).collect()
    }

    /// Its objects go first.
    fn is_held(&self) -> bool {
        !conditions::is_cleaned_up(self)
    }

    fn begin_deletion(&mut self) {
        conditions::begin_deletion(self);
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), cells::created_at(&self.metadata)]
    }
}

/// Upstream `getUnrecognizedFormatsInCRD`: identical schemas of all versions count once.
fn unrecognized_formats(definition: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for props in spec::Spec::of(definition).schemas() {
        schema::walk(props, &mut |props: &JSONSchemaProps| {
            let format = props.format.as_deref().unwrap_or_default();
            let is_text = props.type_.as_deref() == Some("string");
            if is_text && !format.is_empty() && !structural::is_known_format(format) {
                found.push(format.to_owned());
            }
        });
    }
    found
}
