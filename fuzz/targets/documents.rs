//! JSON and YAML, checked by the schema of a pod: nothing that is read is deeper or larger than it may
//! be, and what is written is read again.

#![no_main]

use kinglet::registry::schema::{self, Format, StrictProblems, types};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::Json, Format::Yaml] {
        read(bytes, format);
    }
});

fn read(bytes: &[u8], format: Format) {
    let Ok(mut decoded) = schema::decode(bytes, format) else { return };
    let written = decoded.value.to_string();
    let again = schema::decode(written.as_bytes(), Format::Json);
    assert_eq!(again.expect("what was written can be read").value, decoded.value);
    let mut checked = decoded.value.clone();
    let found = schema::check(types::POD, &mut checked);
    let document = (bytes, format);
    let _ = StrictProblems::of_document(Some(types::POD), document, &decoded, &found).to_string();
    schema::apply_defaults(types::POD, &mut checked);
    let _ = schema::check(types::CUSTOM_RESOURCE_DEFINITION, &mut decoded.value);
}
