//! Selectors of labels and of fields, quantities and durations: what is read is written and read again.

#![no_main]

use kinglet::api::fields::FieldSelector;
use kinglet::api::labels::Selector;
use kinglet::api::{Quantity, duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        selector.matches_by(|_| Some("x"));
        let written = selector.to_string();
        // A set of an empty value is written as an empty set, as upstream does.
        if let Ok(again) = written.parse::<Selector>() {
            assert_eq!(again, selector, "{text} {written}");
        }
    }
    if let Ok(selector) = text.parse::<FieldSelector>() {
        selector.matches_by(|_| Some("x"));
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        let written = quantity.to_field().0;
        let again: Quantity = written.parse().expect("what was written can be read");
        assert_eq!(again.units(), quantity.units(), "{text} {written}");
        let _ = quantity.milli_units();
        let _ = quantity.rounded_to_milli();
        let _ = quantity.rounded_to_units();
    }
    drop(duration::parse(text));
});
