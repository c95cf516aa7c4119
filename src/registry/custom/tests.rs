//! Custom resources as clients see them: what is kept of them, what is said against them.

use super::*;
use crate::api::FieldError;
use crate::registry::Object;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use std::sync::Arc;

/// After the shape of certificates.
fn definition() -> Value {
    json!({
        "metadata": {"name": "certs.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {
                "kind": "Cert", "listKind": "CertList", "plural": "certs", "singular": "cert",
                "shortNames": ["ct"], "categories": ["all"],
            },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [
                    {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["secretName"],
                            "properties": {
                                "secretName": {"type": "string", "minLength": 1},
                                "color": {"type": "string", "default": "blue"},
                                "replicas": {"type": "integer", "default": 1},
                                "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                                "template": {
                                    "type": "object", "x-kubernetes-embedded-resource": true,
                                    "x-kubernetes-preserve-unknown-fields": true,
                                },
                            },
                        },
                        "status": {
                            "type": "object",
                            "properties": {
                                "replicas": {"type": "integer"},
                                "conditions": {
                                    "type": "array",
                                    "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                                    "items": {"type": "object", "required": ["type"], "properties": {
                                        "type": {"type": "string"},
                                        "status": {"type": "string", "enum": ["True", "False"]},
                                    }},
                                },
                            },
                        },
                    },
                }},
            }],
        },
    })
}

fn compiled(definition: Value) -> Arc<CompiledVersion> {
    let definition: CustomResourceDefinition = serde_json::from_value(definition).unwrap();
    Arc::new(CompiledVersion::of(&definition, &definition.spec.versions[0]).unwrap())
}

fn version() -> Arc<CompiledVersion> {
    compiled(definition())
}

fn cert(spec: Value) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Cert",
        "metadata": {"name": "a", "namespace": "b"}, "spec": spec,
    })
}

/// As it is after a create.
fn created(version: &Arc<CompiledVersion>, mut value: Value) -> Box<dyn Object> {
    let checked = version.check(&mut value);
    assert!(checked.mistyped.is_empty(), "{checked:?}");
    let mut object = version.decode(value).unwrap();
    object.apply_defaults();
    object.prepare_create();
    object
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_unknown_is_named_and_gone() {
    let mut value =
        cert(json!({"secretName": "x", "odd": 1, "template": {"metadata": {"odd": 1}, "any": 1}}));
    value["metadata"]["odd"] = json!(1);
    value["odd"] = json!({});
    let checked = version().check(&mut value);
    assert_eq!(
        checked.unknown,
        [
            "unknown field \"metadata.odd\"",
            "unknown field \"odd\"",
            "unknown field \"spec.odd\"",
            "unknown field \"spec.template.metadata.odd\"",
        ]
    );
    assert_eq!(value, cert(json!({"secretName": "x", "template": {"metadata": {}, "any": 1}})));
}

#[test]
fn metadata_is_metadata() {
    let mut value = cert(json!({"secretName": "x", "template": {"metadata": {"name": 1}}}));
    let checked = version().check(&mut value);
    assert_eq!(
        checked.mistyped[0].message,
        "spec.template.metadata: Invalid value: {\"name\":1}: json: cannot unmarshal number into \
         Go struct field ObjectMeta.name of type string"
    );
    let mut value = cert(json!({}));
    value["metadata"]["labels"] = json!(1);
    assert_eq!(version().check(&mut value).mistyped[0].path, "metadata");
}

#[test]
fn objects_are_defaulted_and_written_in_order() {
    let mut value = cert(json!({"secretName": "x", "replicas": 2.0, "color": null}));
    value["status"] = json!({"replicas": 9});
    let object = created(&version(), value);
    let json = String::from_utf8(object.encode().to_vec()).unwrap();
    assert_eq!(
        json,
        r#"{"apiVersion":"example.com/v1","kind":"Cert","metadata":{"name":"a","namespace":"b"},"spec":{"color":"blue","replicas":2,"secretName":"x"}}"#
    );
    assert_eq!(object.first_generation(), Some(1));
    let fields = object.selectable_fields();
    assert_eq!(fields, [("spec.color".into(), "blue".to_owned())]);
}

#[test]
fn what_is_read_from_the_store_has_todays_defaults() {
    let stored = br#"{"apiVersion":"example.com/v1","kind":"Cert","metadata":{"name":"a"},"spec":{"secretName":"x","color":null}}"#;
    let object = version().decode_stored(stored).unwrap();
    assert_eq!(
        object.to_value()["spec"],
        json!({"color": "blue", "replicas": 1, "secretName": "x"})
    );
}

#[test]
fn everything_wrong_is_told() {
    let bare = created(&version(), json!({"metadata": {"name": "A", "finalizers": ["odd"]}}));
    let told = texts(&bare.validate());
    assert!(told[0].starts_with("metadata.name: Invalid value: \"A\""), "{told:?}");
    assert_eq!(told[1..], ["metadata.namespace: Required value", "spec: Required value"]);
    assert_eq!(
        bare.warnings(None),
        [
            "metadata.finalizers: \"odd\": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
        ]
    );
    let object = created(
        &version(),
        cert(
            json!({"secretName": "", "replicas": -1, "names": ["a", "a"], "template": {"kind": "Pod"}}),
        ),
    );
    assert_eq!(
        texts(&object.validate()),
        [
            "spec.secretName: Invalid value: \"\": spec.secretName in body should be at least 1 chars long",
            ".spec.replicas: Invalid value: -1: should be a non-negative integer",
            "spec.template.apiVersion: Required value",
            "spec.names[1]: Duplicate value: \"a\"",
        ]
    );
}

#[test]
fn specification_and_status_are_written_apart() {
    let version = version();
    let mut stored = cert(json!({"secretName": "x"}));
    stored["status"] = json!({"replicas": 1});
    let old = version.decode(stored.clone()).unwrap();

    let mut changed = stored.clone();
    changed["spec"]["color"] = json!("red");
    changed["status"] = json!({"replicas": 2});
    let mut new = version.decode(changed.clone()).unwrap();
    new.prepare_update(&*old);
    assert!(new.is_new_generation(&*old));
    assert_eq!(new.to_value()["status"], json!({"replicas": 1}));
    assert_eq!(new.to_value()["spec"]["color"], "red");

    changed["metadata"]["labels"] = json!({"a": "b"});
    let mut new = version.decode(changed).unwrap();
    new.prepare_status_update(&*old);
    assert_eq!(new.to_value()["status"], json!({"replicas": 2}));
    assert_eq!(new.to_value()["spec"], stored["spec"]);
    assert_eq!(new.to_value()["metadata"], stored["metadata"]);

    let mut labelled = stored;
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut new = version.decode(labelled).unwrap();
    new.prepare_update(&*old);
    assert!(!new.is_new_generation(&*old));
}

#[test]
fn without_a_status_subresource_the_status_is_a_field() {
    let mut definition = definition();
    definition["spec"]["versions"][0]["subresources"] = json!(null);
    let version = compiled(definition);
    let mut value = cert(json!({"secretName": "x"}));
    value["status"] = json!({"replicas": 1});
    let old = created(&version, value.clone());
    assert_eq!(old.to_value()["status"], json!({"replicas": 1}));
    value["status"] = json!({"replicas": 2});
    let mut new = version.decode(value).unwrap();
    new.apply_defaults();
    new.prepare_update(&*old);
    assert!(new.is_new_generation(&*old));
}

#[test]
fn a_status_is_checked_by_its_own_schema() {
    let version = version();
    // The specification is wrong, and nobody asks of a status.
    let old = version.decode(cert(json!({}))).unwrap();
    let mut value = cert(json!({}));
    value["status"] = json!({
        "replicas": "x",
        "conditions": [{"type": "Ready", "status": "Maybe"}, {"type": "Ready"}],
    });
    let mut new = version.decode(value).unwrap();
    new.prepare_status_update(&*old);
    assert_eq!(
        texts(&new.validate_status_update(&*old)),
        [
            "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"True\", \"False\"",
            "status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\"",
            ".status.replicas: Invalid value: 0: .status.replicas accessor error: x is of the type string, expected int64",
            "status.conditions[1]: Duplicate value: {\"type\":\"Ready\"}",
        ]
    );
}

#[test]
fn updates_tolerate_what_was_wrong_before() {
    let version = version();
    let old = version.decode(cert(json!({"names": ["a", "a"], "color": 1}))).unwrap();
    let mut value = cert(json!({"names": ["a", "a"], "color": 1, "secretName": "x"}));
    let mut new = version.decode(value.clone()).unwrap();
    new.prepare_update(&*old);
    assert!(new.validate_update(&*old).is_empty());
    value["spec"]["color"] = json!(2);
    let new = version.decode(value).unwrap();
    assert_eq!(
        texts(&new.validate_update(&*old)),
        [
            "spec.color: Invalid value: \"integer\": spec.color in body must be of type string: \"integer\""
        ]
    );
}

#[test]
fn rules_are_for_objects_that_are_sound() {
    let mut definition = definition();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties";
    let properties = definition.pointer_mut(properties).unwrap();
    properties["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "self.color != 'red'"}, {"rule": "self.replicas >= oldSelf.replicas"}]);
    properties["status"]["x-kubernetes-validations"] = json!([{"rule": "self.replicas > 0"}]);
    let version = compiled(definition);
    let spec = |color: &str, replicas: i64| {
        cert(json!({"secretName": "x", "color": color, "replicas": replicas}))
    };
    let (red, blue) = (created(&version, spec("red", 1)), created(&version, spec("blue", 2)));
    let color = "spec: Invalid value: failed rule: self.color != 'red'";
    let replicas = "spec: Invalid value: failed rule: self.replicas >= oldSelf.replicas";
    assert_eq!(texts(&red.validate()), [color]);
    assert_eq!(texts(&red.validate_update(&*blue)), [color, replicas]);
    assert!(blue.validate_update(&*red).is_empty());
    // Nothing has changed: there is a warning, and no error.
    assert!(red.validate_update(&*red.clone_box()).is_empty());
    let unsound = created(&version, cert(json!({"color": "red"})));
    assert_eq!(
        texts(&unsound.validate()),
        [
            "spec.secretName: Required value",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
    let mut value = spec("blue", 2);
    value["status"] = json!({"replicas": 0});
    let mut told = version.decode(value).unwrap();
    told.prepare_status_update(&*blue);
    assert_eq!(
        texts(&told.validate_status_update(&*blue)),
        ["status: Invalid value: failed rule: self.replicas > 0"]
    );
}

#[test]
fn rules_that_are_tolerated_are_warned_of() {
    let mut definition = definition();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    definition.pointer_mut(spec).unwrap()["x-kubernetes-validations"] =
        json!([{"rule": "self.color != 'red'"}]);
    let version = compiled(definition);
    let red = created(&version, cert(json!({"secretName": "x", "color": "red"})));
    let again = red.clone_box();
    assert!(again.validate_update(&*red).is_empty());
    let warning = "spec: Invalid value: failed rule: self.color != 'red'";
    assert_eq!(again.warnings(Some(&*red)), [warning]);
}

#[test]
fn rows_show_what_the_definition_asks_for() {
    let version = version();
    let mut value = cert(json!({"secretName": "x"}));
    value["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let mut object = version.decode(value).unwrap();
    object.apply_defaults();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(object.row(now), [json!("a"), json!("True"), json!(1)]);
    let names: Vec<_> = version.columns().iter().map(|column| column.name.to_string()).collect();
    assert_eq!(names, ["Name", "Ready", "Replicas"]);
}

#[test]
fn facts_are_those_of_the_definition() {
    let facts = version().facts();
    assert_eq!(facts.api_version(), "example.com/v1");
    assert_eq!((&*facts.kind, &*facts.plural, &*facts.singular), ("Cert", "certs", "cert"));
    assert_eq!(facts.short_names.to_vec(), ["ct"]);
    let subresources: Vec<_> = facts.subresources.iter().map(|it| it.name).collect();
    assert_eq!(subresources, ["scale", "status"]);
}

/// After the shape of the largest definitions: a thousand fields with descriptions and patterns.
#[test]
fn large_definitions_become_small_trees() {
    let leaf = |number: usize| {
        json!({
            "type": "string",
            "description": "What this field is for, said in as many words as operators say it. ".repeat(4),
            "pattern": format!("^[a-z]{{{}}}$", number % 7 + 1),
            "maxLength": 63,
        })
    };
    let fields = |prefix: &str| -> Value {
        (0..40).map(|number| (format!("{prefix}{number}"), leaf(number))).collect()
    };
    let groups: serde_json::Map<_, _> = (0..30)
        .map(|number| {
            (format!("group{number}"), json!({"type": "object", "properties": fields("field")}))
        })
        .collect();
    let mut large = definition();
    large["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "properties": groups});
    assert!(large.to_string().len() > 300 * 1024);
    let version = compiled(large);
    let mut value =
        cert(json!({"group7": {"field3": "abcd", "odd": 1}, "group8": {"field1": "A"}}));
    assert_eq!(version.check(&mut value).unknown, ["unknown field \"spec.group7.odd\""]);
    let object = version.decode(value).unwrap();
    assert_eq!(
        texts(&object.validate()),
        [
            "spec.group8.field1: Invalid value: \"A\": spec.group8.field1 in body should match '^[a-z]{2}$'"
        ]
    );
}
