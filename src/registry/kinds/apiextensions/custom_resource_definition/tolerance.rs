//! What an update may leave wrong, because it was so before (upstream `validationOptions`,
//! apiextensions pkg/apis/apiextensions/validation/validation.go, v1.35).
//!
//! Definitions come from older servers as well, which asked less of them.

use super::conversion::is_any_spoken;
use super::default_values::has_unpruned_defaults;
use super::schema::{self, Odd};
use super::spec::Spec;
use super::versions::SELECTABLE_MAX;
use super::{conditions, schema::walk};
use crate::api::FieldPath;
use crate::registry::schema::structural::{Structural, validate_structure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, SelectableField,
};
use std::collections::{BTreeMap, BTreeSet};

/// Nothing is tolerated of a new definition, but of the authorities of its webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Tolerance {
    pub(super) bad_authorities: bool,
    pub(super) unknown_reviews: bool,
    /// Scope and kind may change as long as nothing is served.
    pub(super) other_names: bool,
    pub(super) no_schema: bool,
    pub(super) unknown_types: bool,
    pub(super) unstructured: bool,
    pub(super) unpruned_defaults: bool,
    pub(super) odd_sets: bool,
    pub(super) odd_map_keys: bool,
    /// The versions with as many selectable fields as before, and too many; all of them by an
    /// empty name.
    pub(super) many_selectable: BTreeSet<String>,
    /// The versions whose schemas are as before.
    pub(super) unchanged_schemas: BTreeSet<String>,
}

impl Tolerance {
    pub(super) fn of_new() -> Self {
        Self { bad_authorities: true, other_names: true, ..Self::default() }
    }

    pub(super) fn of_update(
        new: &CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) -> Self {
        let spec = Spec::of(old);
        let any = |is_odd: &dyn Fn(&JSONSchemaProps) -> bool| {
            spec.schemas().any(|props| {
                let mut found = false;
                walk(props, &mut |props| found |= is_odd(props));
                found
            })
        };
        let is_established = conditions::is_true(old, conditions::ESTABLISHED);
        Self {
            bad_authorities: !is_established || has_bad_authorities(old),
            unknown_reviews: has_unknown_reviews(old),
            other_names: !is_established,
            no_schema: spec.all.props().is_none()
                && spec.versions.iter().any(|(_, said)| said.props().is_none()),
            unknown_types: any(&schema::has_unknown_type),
            unstructured: spec.schemas().any(is_unstructured),
            unpruned_defaults: spec.schemas().any(has_unpruned_defaults),
            odd_sets: any(&|props| schema::set_items(props) != Odd::No),
            odd_map_keys: any(&|props| {
                !schema::validate_list_items(props, &FieldPath::default()).is_empty()
            }),
            many_selectable: many_selectable(&Spec::of(new), &spec),
            unchanged_schemas: unchanged_schemas(new, old),
        }
    }
}

fn has_bad_authorities(old: &CustomResourceDefinition) -> bool {
    let webhook = old.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
    let client = webhook.and_then(|webhook| webhook.client_config.as_ref());
    let bundle = client.and_then(|client| client.ca_bundle.as_ref());
    bundle.is_some_and(|bundle| conditions::is_bad_bundle(&bundle.0))
}

fn has_unknown_reviews(old: &CustomResourceDefinition) -> bool {
    let webhook = old.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
    webhook.is_some_and(|webhook| {
        let versions = &webhook.conversion_review_versions;
        !versions.is_empty() && !is_any_spoken(versions)
    })
}

fn is_unstructured(props: &JSONSchemaProps) -> bool {
    Structural::new(props)
        .map_or(true, |schema| !validate_structure(&FieldPath::default(), &schema).is_empty())
}

fn many_selectable(new: &Spec<'_>, old: &Spec<'_>) -> BTreeSet<String> {
    let is_same =
        |new: &[SelectableField], old: &[SelectableField]| old.len() > SELECTABLE_MAX && new == old;
    let mut names = BTreeSet::new();
    let known: BTreeMap<_, _> =
        old.versions.iter().rev().map(|(version, said)| (&version.name, said)).collect();
    if is_same(new.all.selectable, old.all.selectable) {
        names.insert(String::new());
    }
    for (version, said) in &new.versions {
        let before = known.get(&version.name);
        if before.is_some_and(|before| is_same(said.selectable, before.selectable)) {
            names.insert(version.name.clone());
        }
    }
    names
}

fn unchanged_schemas(
    new: &CustomResourceDefinition,
    old: &CustomResourceDefinition,
) -> BTreeSet<String> {
    let known: BTreeMap<_, _> =
        old.spec.versions.iter().rev().map(|version| (version.name.as_str(), version)).collect();
    let is_unchanged = |name: &str, schema: &Option<_>| {
        let before = known.get(name);
        before.is_some_and(|before| before.schema == *schema)
    };
    let versions = new.spec.versions.iter();
    versions
        .filter(|version| is_unchanged(&version.name, &version.schema))
        .map(|version| version.name.clone())
        .collect()
}
