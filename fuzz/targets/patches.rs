//! Each kind of patch, of a document by another.

#![no_main]

use kinglet::registry::schema::patch::{json_patch, merge_patch, strategic_merge_patch};
use kinglet::registry::schema::types;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (&str, &str)| {
    let (Ok(document), Ok(patch)) =
        (serde_json::from_str::<Value>(input.0), serde_json::from_str::<Value>(input.1))
    else {
        return;
    };
    drop(merge_patch(document.clone(), &patch));
    drop(strategic_merge_patch(types::POD, document.clone(), patch.clone()));
    drop(json_patch(document, patch));
});
