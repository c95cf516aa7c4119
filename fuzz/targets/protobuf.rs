//! Protobuf of every kind: any bytes, and documents that grow out of them. What is read is written
//! and read again, and is the same, but for zeros that are the same as absence.

#![no_main]

#[path = "../shared/grow.rs"]
mod grow;

use grow::Grower;
use kinglet::registry::KINDS;
use kinglet::registry::schema::check;
use kinglet::registry::schema::protobuf::{self, Envelope, TypeMeta};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(Envelope::parse(bytes));
    let [kind, message @ ..] = bytes else { return };
    let kinds: Vec<_> = KINDS.iter().filter_map(|kind| kind.built_in_schema()).collect();
    let of = kinds[usize::from(*kind) % kinds.len()];
    let mut grown = Grower::new(message).document(of);
    if check(of, &mut grown).is_clean() {
        let json = grown.to_string();
        if let Ok(written) = protobuf::encode(of, &TypeMeta::of(of), json.as_bytes()) {
            let envelope = Envelope::parse(&written).expect("what was written can be read");
            let read = protobuf::decode(of, envelope.raw).expect("what was written can be read");
            // Zeros that Go does not tell from absence are written where the document has them, and
            // are not read: it is what was read that stays the same.
            let again = protobuf::encode(of, &TypeMeta::of(of), read.to_string().as_bytes());
            let again = again.expect("what was read can be written");
            let envelope = Envelope::parse(&again).expect("what was written can be read");
            let same = protobuf::decode(of, envelope.raw).expect("what was written can be read");
            assert_eq!(same, read, "{json}");
        }
    }
    let Ok(value) = protobuf::decode(of, message) else { return };
    let written = protobuf::encode(of, &TypeMeta::of(of), value.to_string().as_bytes());
    if let Ok(written) = written {
        let envelope = Envelope::parse(&written).expect("what was written can be read");
        protobuf::decode(of, envelope.raw).expect("what was written can be read");
    }
});
