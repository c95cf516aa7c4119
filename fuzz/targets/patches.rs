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
use serde_json::{Value, json};

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
        // Upstream's server drops such an element as well when it is applied again.
        let is_as_before = same.object == applied.object || has_empty_element(&config);
        assert!(is_as_before, "{live}\n{config}\n{}", same.object);
    }
}

/// Whether a list has `{}` in it, which is an element where all its keys have defaults.
fn has_empty_element(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|item| *item == json!({}) || has_empty_element(item)),
        Value::Object(fields) => fields.values().any(has_empty_element),
        _ => false,
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
