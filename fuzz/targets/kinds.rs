//! Objects of every kind: defaulted, validated, updated, shown in a table, written and read again.

#![no_main]

#[path = "../shared/grow.rs"]
mod grow;

use grow::Grower;
use kinglet::registry::KINDS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut grower = Grower::new(bytes);
    let kind = grower.choose(KINDS).expect("there are kinds");
    let Some(of) = kind.built_in_schema() else { return };
    let mut read = || {
        let mut document = grower.document(of);
        let checked = kind.check(&mut document);
        checked.mistyped.is_empty().then(|| kind.decode(document).ok()).flatten()
    };
    let Some(mut old) = read() else { return };
    old.prepare_create();
    old.apply_defaults();
    let _ = old.validate();
    drop(old.warnings(None));
    drop(old.selectable_fields());
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    drop(old.row(now));
    let stored = old.encode();
    let again = kind.decode_stored(&stored).expect("what was written can be read");
    assert_eq!(again.encode(), stored);
    let Some(mut new) = read() else { return };
    new.prepare_update(&*old);
    new.apply_defaults();
    let _ = new.validate_update(&*old);
    drop(new.warnings(Some(&*old)));
    let _ = new.is_new_generation(&*old);
    new.prepare_status_update(&*old);
    let _ = new.validate_status_update(&*old);
    drop(new.status_warnings());
});
