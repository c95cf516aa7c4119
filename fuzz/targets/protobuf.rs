//! Protobuf of every kind: what is read is written and read again.

#![no_main]

use kinglet::registry::KINDS;
use kinglet::registry::schema::protobuf::{self, Envelope, TypeMeta};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (kind, message) = input;
    drop(Envelope::parse(message));
    let kinds: Vec<_> = KINDS.iter().filter_map(|kind| kind.built_in_schema()).collect();
    let of = kinds[usize::from(kind) % kinds.len()];
    let Ok(value) = protobuf::decode(of, message) else { return };
    let written = protobuf::encode(of, &TypeMeta::of(of), value.to_string().as_bytes());
    if let Ok(written) = written {
        let envelope = Envelope::parse(&written).expect("what was written can be read");
        protobuf::decode(of, envelope.raw).expect("what was written can be read");
    }
});
