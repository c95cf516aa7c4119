//! Definitions of custom resources, and resources of them: whatever schema is served, any document is
//! pruned, defaulted and judged by it, once and for all.

#![no_main]

#[path = "../shared/grow.rs"]
mod grow;

use grow::Grower;
use kinglet::api::FieldPath;
use kinglet::registry::schema::structural::{
    Structural, defaults, lists, prune, validate, validate_structure, validate_update,
    validations::{BUDGET, Before, Rules, Subject},
};
use kinglet::registry::schema::{BUILT_IN, TypeRef, check};
use libfuzzer_sys::fuzz_target;

/// The type of schemas.
fn schemas() -> TypeRef {
    let mut of = BUILT_IN.types().map(|(of, _)| of);
    of.find(|of| BUILT_IN.get(*of).name() == "JSONSchemaProps").expect("schemas have a type")
}

fuzz_target!(|bytes: &[u8]| {
    let mut grower = Grower::new(bytes);
    let of = schemas();
    let mut document = grower.document(of);
    if !check(of, &mut document).is_clean() {
        return;
    }
    let Ok(props) = serde_json::from_value(document) else { return };
    let Ok(schema) = Structural::new(&props) else { return };
    let is_served = validate_structure(&FieldPath::default(), &schema).is_empty();
    let mut old = grower.anything(2);
    let mut new = grower.anything(2);
    for value in [&mut old, &mut new] {
        let _ = prune(value, &schema);
        assert!(prune(value, &schema).is_empty() || !is_served, "{value}");
        defaults::prune_nulls(value, &schema);
        defaults::apply(value, &schema);
    }
    let _ = validate(&new, &schema);
    let _ = validate_update(&new, &old, &schema);
    let _ = lists::validate(&new, &schema);
    let Some(rules) = Rules::of(&schema, false) else { return };
    let subject = Subject { schema: &schema, value: &new, before: Before::Tolerated(&old) };
    let _ = rules.check(subject, &FieldPath::default(), BUDGET);
});
