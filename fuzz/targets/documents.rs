//! JSON and YAML, checked by the schema of a pod: nothing that is read is deeper or larger than it may
//! be, and what is written is read again.

#![no_main]

use kinglet::registry::schema::{self, Format, types};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (is_yaml, bytes) = input;
    let format = if is_yaml { Format::Yaml } else { Format::Json };
    let Ok(mut decoded) = schema::decode(bytes, format) else { return };
    let written = decoded.value.to_string();
    schema::decode(written.as_bytes(), Format::Json).expect("what was written can be read");
    let _ = schema::check(types::POD, &mut decoded.value);
    schema::apply_defaults(types::POD, &mut decoded.value);
});
