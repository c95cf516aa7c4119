//! Each kind of patch, of documents of several kinds: what was made is no deeper than what was read,
//! and an apply that is repeated changes nothing.

#![no_main]

#[path = "../shared/grow.rs"]
mod grow;

use grow::Grower;
use kinglet::registry::managed::Place;
use kinglet::registry::managed::{Application, Frame, Resets, Versions, Writer, apply};
use kinglet::registry::schema::patch::{json_patch, merge_patch, strategic_merge_patch};
use kinglet::registry::schema::{BUILT_IN, Format, TypeRef, check, decode, types};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const KINDS: [(TypeRef, &str, &str); 5] = [
    (types::POD, "v1", "Pod"),
    (types::DEPLOYMENT, "apps/v1", "Deployment"),
    (types::SERVICE, "v1", "Service"),
    (types::NODE, "v1", "Node"),
    (types::CUSTOM_RESOURCE_DEFINITION, "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

#[derive(Debug)]
struct OneVersion;

impl Versions for OneVersion {
    fn place(&self, _version: &str) -> Option<Place<'_>> {
        None
    }

    fn convert(&self, object: Value, _version: &str) -> Result<Value, String> {
        Ok(object)
    }
}

fn operations(grower: &mut Grower<'_>, document: &Value) -> Value {
    let words = ["add", "remove", "replace", "move", "copy", "test"];
    let length = grower.byte() % 12;
    let operations = (0..length).map(|_| {
        json!({
            "op": grower.choose(&words), "path": grower.pointer(document),
            "from": grower.pointer(document), "value": grower.anything(8),
        })
    });
    operations.collect()
}

fn apply_twice(of: TypeRef, (version, kind): (&str, &str), live: &Value, config: &Value) {
    let frame = Frame {
        place: Place::root(&BUILT_IN, of),
        version,
        resets: Resets::NONE,
        versions: &OneVersion,
    };
    let writer = Writer {
        manager: "fuzz",
        subresource: "",
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    let mut config = config.clone();
    config["apiVersion"] = json!(version);
    config["kind"] = json!(kind);
    let live = live.to_string();
    let first = Application {
        live: Some(live.as_bytes()),
        managed: None,
        config: &config,
        kind,
        force: true,
    };
    let Ok(applied) = apply(&frame, &first, &writer) else { return };
    let live = applied.object.to_string();
    let managed = applied.managed.as_deref();
    let again = Application { live: Some(live.as_bytes()), managed, ..first };
    if let Ok(same) = apply(&frame, &again, &writer) {
        let (was, is) = (substance(&applied.object), substance(&same.object));
        assert_eq!(is, was, "{live}\n{config}");
    }
}

/// A document without what holds nothing. Upstream's sets of fields do not tell whose an empty list
/// is, or an element where all its keys have defaults (`toFieldSetWalker`, structured-merge-diff
/// typed/tofieldset.go), and so its server drops them as well when `{}` is applied again.
fn substance(value: &Value) -> Value {
    let is_some = |value: &Value| !matches!(value, Value::Null);
    match value {
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(substance).filter(is_some).collect();
            if list.is_empty() { Value::Null } else { list.into() }
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), substance(value)));
            let fields: Map<_, _> = fields.filter(|(_, value)| is_some(value)).collect();
            if fields.is_empty() { Value::Null } else { fields.into() }
        }
        _ => value.clone(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut grower = Grower::new(bytes);
    let (of, version, kind) = *grower.choose(&KINDS).expect("there are kinds");
    let mut live = grower.document(of);
    let mut patch = grower.document(of);
    let _ = check(of, &mut live);
    let is_read = |made: &Value| {
        decode(made.to_string().as_bytes(), Format::Json).expect("what was made can be read");
    };
    if let Ok(made) = merge_patch(live.clone(), &patch) {
        is_read(&made);
    }
    let of_json = operations(&mut grower, &live);
    if let Ok(made) = json_patch(live.clone(), of_json) {
        is_read(&made);
    }
    apply_twice(of, (version, kind), &live, &patch);
    grower.direct(&mut patch);
    if let Ok(made) = strategic_merge_patch(of, live, patch) {
        is_read(&made);
    }
});
