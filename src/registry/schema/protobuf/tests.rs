//! Messages there and back, for every kind of the table, and bytes that nobody should send.

use super::super::reference_tests::full;
use super::super::{BUILT_IN, DecodeError, Shape, TypeRef, types};
use super::{Envelope, ListEncoder, TypeMeta, decode, encode, push_watch_frame};
use proptest::prelude::*;
use serde_json::{Value, json};

/// `value` as a message, without its envelope.
fn message(of: TypeRef, value: &Value) -> Vec<u8> {
    let body = encode(of, &TypeMeta::of(of), value.to_string().as_bytes()).unwrap();
    let envelope = Envelope::parse(&body).unwrap();
    assert_eq!(envelope.type_meta, TypeMeta::of(of));
    envelope.raw.to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Takes out what the envelope has, and inner objects leave out.
fn without_types(shape: Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(of), Value::Object(object)) if !BUILT_IN.get(of).is_any() => {
            for field in BUILT_IN.get(of).fields() {
                if field.protobuf_path().is_empty() {
                    object.remove(field.name());
                } else if let Some(value) = object.get_mut(field.name()) {
                    without_types(field.shape(), value);
                }
            }
        }
        (Shape::Map(of), Value::Object(map)) => {
            map.values_mut().for_each(|value| without_types(BUILT_IN.element(of), value));
        }
        (Shape::List(of), Value::Array(list)) => {
            list.iter_mut().for_each(|value| without_types(BUILT_IN.element(of), value));
        }
        _ => {}
    }
}

#[test]
fn every_kind_survives_with_every_field() {
    let mut tried = 0;
    for (of, view) in BUILT_IN.types().filter(|(_, view)| view.is_kind()) {
        let mut document = full(Shape::Struct(of), &mut Vec::new());
        let decoded = decode(of, &message(of, &document)).unwrap();
        without_types(Shape::Struct(of), &mut document);
        assert_eq!(decoded, document, "{}/{}", view.group(), view.name());
        tried += 1;
    }
    assert!(tried > 150, "{tried}");
}

fn check_bytes(of: TypeRef, value: &Value, bytes: &str) {
    let expected = bytes.split_whitespace().collect::<String>();
    assert_eq!(hex(&message(of, value)), expected, "{value}");
    assert_eq!(decode(of, &unhex(bytes)).unwrap(), *value, "{bytes}");
}

#[test]
fn bytes_are_upstreams() {
    check_bytes(
        types::CONFIG_MAP,
        &json!({"metadata": {"name": "a", "namespace": "b"}, "data": {"x": "y"}}),
        "0a06 0a0161 1a0162 1206 0a0178 120179",
    );
    check_bytes(
        types::SECRET,
        &json!({"data": {"k": "aGk="}, "type": "Opaque"}),
        "1207 0a016b 12026869 1a06 4f7061717565",
    );
    // In the order of the numbers, embedded structs in messages of their own.
    check_bytes(
        types::POD,
        &json!({"spec": {"volumes": [{"emptyDir": {"medium": "M", "sizeLimit": "1Gi"}, "name": "v"}]}}),
        "1213 0a11 0a0176 120c 120a 0a014d 1205 0a03314769",
    );
    // A number or a text.
    check_bytes(
        types::SERVICE,
        &json!({"spec": {"ports": [{"targetPort": 8080}, {"targetPort": "web"}]}}),
        "1218 0a09 2207 0800 10903f 1a00 0a0b 2209 0801 1000 1a03776562",
    );
    check_bytes(
        types::LEASE,
        &json!({"spec": {"renewTime": "1970-01-01T00:00:01.000002Z", "leaseTransitions": -1}}),
        "1212 2205 0801 10d00f 28ffffffffffffffffff01",
    );
}

/// Bytes that no encoder here writes: what is read from them.
fn check_read(of: TypeRef, bytes: &str, expected: &Value) {
    assert_eq!(decode(of, &unhex(bytes)).unwrap(), *expected, "{bytes}");
}

#[test]
fn zeros_are_absent_where_go_leaves_them_out() {
    // A ConfigMap as a Go client sends it: empty texts and no time, all written out.
    check_read(
        types::CONFIG_MAP,
        "0a15 0a0161 1200 1a00 2200 2a00 3200 3800 4200 5000 5a00",
        &json!({"metadata": {"name": "a", "deletionGracePeriodSeconds": 0, "labels": {"": ""}}}),
    );
    // Zero replicas are not no replicas; a zero that Go's JSON writes stays.
    check_read(
        types::DEPLOYMENT,
        "1204 0800 3800 1a04 1000 2800",
        &json!({"spec": {"replicas": 0}, "status": {}}),
    );
    check_read(types::PRIORITY_CLASS, "1000 1800 2200", &json!({"value": 0}));
    check_read(types::POD, "1200 1a00", &json!({"spec": {}, "status": {}}));
}

#[test]
fn fields_may_come_in_any_order_and_pieces() {
    let merged = json!({"metadata": {"name": "b", "namespace": "c"}});
    check_read(types::CONFIG_MAP, "0a03 0a0161 0a06 1a0163 0a0162", &merged);
    // Number 99, of every wire type.
    check_read(
        types::CONFIG_MAP,
        "980601 9906 0000000000000000 9a0602ffff 9b06 0801 9c06 9d0600000000 0a03 0a0162 0a03 1a0163",
        &merged,
    );
    // Packed or one by one.
    let groups = json!({"spec": {"securityContext": {"supplementalGroups": [1, 300, 5]}}});
    check_read(types::POD, "1208 7206 2204 01ac0205", &groups);
    check_read(types::POD, "1209 7207 2001 20ac02 2005", &groups);
    check_read(types::POD, "1209 7207 2203 01ac02 2005", &groups);
    // An entry of a map with its key or value left out.
    check_read(types::CONFIG_MAP, "1200 1203 0a0161", &json!({"data": {"": "", "a": ""}}));
}

fn check_refused(of: TypeRef, bytes: &[u8], expected: &str) {
    match decode(of, bytes) {
        Err(error) => assert_eq!(error.to_string(), expected),
        Ok(value) => panic!("{value}, not {expected}"),
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let pod = |bytes: &str, expected: &str| check_refused(types::POD, &unhex(bytes), expected);
    pod("0a", "protobuf: the data ends in the middle of a field");
    pod("0a05 0a01", "protobuf: the data ends in the middle of a field");
    pod("0a03 0a0561", "protobuf: metadata: the data ends in the middle of a field");
    pod("0801", "protobuf: metadata: the wire type is not that of the field");
    pod("0a03 0a01ff", "protobuf: metadata.name: the text is not UTF-8");
    pod(
        "0a0c 420a 08ffffffffffffffff7f",
        "protobuf: metadata.creationTimestamp: the time is out of range",
    );
    pod(
        "0a08 8a0105 3a03 0a017b",
        "protobuf: metadata.managedFields[0].fieldsV1: the JSON in it: EOF while parsing an object \
         at line 1 column 1",
    );
    check_refused(
        types::SERVICE,
        &unhex("1206 0a04 2202 0802"),
        "protobuf: spec.ports[0].targetPort: impossible IntOrString.Type",
    );
}

#[test]
fn depth_is_limited_as_in_json() {
    let revision = |depth: usize| {
        let data = "[".repeat(depth) + &"]".repeat(depth);
        let json = format!("{{\"data\":{data}}}");
        let type_meta = TypeMeta::default();
        let body = encode(types::CONTROLLER_REVISION, &type_meta, json.as_bytes()).unwrap();
        Envelope::parse(&body).unwrap().raw.to_vec()
    };
    assert!(decode(types::CONTROLLER_REVISION, &revision(126)).is_ok());
    let too_deep = "protobuf: the data is nested deeper than 127";
    check_refused(types::CONTROLLER_REVISION, &revision(127), too_deep);
    let (schema, _) = BUILT_IN.types().find(|(_, view)| view.name() == "JSONSchemaProps").unwrap();
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        let mut writer = super::wire::Writer::default();
        writer.bytes_field(28, &deep);
        deep = writer.out;
    }
    check_refused(schema, &deep, too_deep);
}

fn check_envelope(body: &[u8], expected: &str) {
    let shown = match Envelope::parse(body) {
        Ok(Envelope { type_meta: TypeMeta { api_version, kind }, raw }) => {
            format!("{api_version} {kind} {}", hex(raw))
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(shown, expected, "{body:?}");
}

#[test]
fn envelopes_name_the_type() {
    check_envelope(b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\0\x1a\0\x22\0", "v1 Pod 0a00");
    check_envelope(b"k8s\0\x12\x01a", "  61");
    check_envelope(b"k8s\0", "protobuf: empty body");
    check_envelope(b"k8s\0\x12\x05a", "protobuf: the data ends in the middle of a field");
    let prefix = "protobuf: provided data does not appear to be a protobuf message, expected prefix \
                  [107 56 115 0]";
    check_envelope(b"", prefix);
    check_envelope(b"{}", prefix);
}

#[test]
fn a_list_is_the_same_written_whole_or_item_by_item() {
    let item =
        |name: &str| json!({"metadata": {"name": name, "annotations": {"a": "b".repeat(300)}}});
    let metadata = json!({"resourceVersion": "7", "continue": "x", "remainingItemCount": 2});
    let whole = json!({"metadata": metadata, "items": [item("a"), item("b")]});
    let type_meta = TypeMeta::of(types::CONFIG_MAP_LIST);
    let expected =
        encode(types::CONFIG_MAP_LIST, &type_meta, whole.to_string().as_bytes()).unwrap();
    let metadata = metadata.to_string();
    let mut list = ListEncoder::new(types::CONFIG_MAP, &type_meta, metadata.as_bytes()).unwrap();
    for name in ["a", "b"] {
        list.push(item(name).to_string().as_bytes()).unwrap();
    }
    assert_eq!(list.finish(), expected);
    // Every list is such a list.
    for (_, view) in BUILT_IN.types().filter(|(_, view)| view.is_kind()) {
        let Some(items) = view.field("items").filter(|_| view.name().ends_with("List")) else {
            continue;
        };
        let metadata = view.field("metadata").unwrap();
        assert_eq!((metadata.protobuf_path(), items.protobuf_path()), (&[1][..], &[2][..]));
    }
}

#[test]
fn a_watch_frame_has_its_length_before_it() {
    let mut frames = Vec::new();
    let pod = (types::POD, &TypeMeta::of(types::POD));
    push_watch_frame(&mut frames, "ADDED", pod, b"{\"metadata\":{\"name\":\"a\"}}").unwrap();
    push_watch_frame(&mut frames, "DELETED", pod, b"{}").unwrap();
    let first = "00000025 0a05 4144444544 121c 0a1a 6b387300 0a09 0a027631 1203506f64 1205 0a03 0a0161 1a00 2200";
    let second =
        "00000022 0a07 44454c45544544 1217 0a15 6b387300 0a09 0a027631 1203506f64 1200 1a00 2200";
    assert_eq!(hex(&frames), hex(&unhex(&format!("{first}{second}"))));
}

fn kinds() -> Vec<TypeRef> {
    BUILT_IN.types().filter(|(_, view)| view.is_kind()).map(|(of, _)| of).collect()
}

/// Whatever is read can be written, and read again.
fn check_normal_form(of: TypeRef, bytes: &[u8]) {
    let decoded: Result<Value, DecodeError> = decode(of, bytes);
    if let Ok(value) = decoded {
        let again = decode(of, &message(of, &value)).unwrap();
        assert_eq!(again, value);
    }
}

proptest! {
    #[test]
    fn random_bytes_are_read_or_refused(
        of in prop::sample::select(kinds()),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        check_normal_form(of, &bytes);
        drop(Envelope::parse(&bytes));
        drop(Envelope::parse(&[b"k8s\0", &*bytes].concat()));
    }

    #[test]
    fn damaged_messages_are_read_or_refused(
        of in prop::sample::select(kinds()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8),
    ) {
        let mut bytes = message(of, &full(Shape::Struct(of), &mut Vec::new()));
        for (at, byte, how) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes[at] = byte,
            }
        }
        check_normal_form(of, &bytes);
    }
}
