//! The schema table against upstream's published documents, where they are at hand, and against
//! the typed views of the kinds.
//!
//! The documents are of a development snapshot before the release; what the release has more or
//! less is listed here, everything else must be equal.

use super::{
    BUILT_IN, FieldView, ListKind, MapKind, PatchStrategy, Shape, TypeRef, TypeView, check,
};
use crate::registry::KINDS;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Types and fields that came with the release.
const ONLY_IN_RELEASE: [&str; 28] = [
    "io.k8s.api.certificates.v1beta1.PodCertificateRequest",
    "io.k8s.api.certificates.v1beta1.PodCertificateRequestList",
    "io.k8s.api.certificates.v1beta1.PodCertificateRequestSpec",
    "io.k8s.api.certificates.v1beta1.PodCertificateRequestStatus",
    "io.k8s.api.core.v1.NodeStatus declaredFeatures",
    "io.k8s.api.core.v1.PodCertificateProjection userAnnotations",
    "io.k8s.api.core.v1.PodSpec workloadRef",
    "io.k8s.api.core.v1.PodStatus allocatedResources",
    "io.k8s.api.core.v1.PodStatus resources",
    "io.k8s.api.core.v1.WorkloadReference",
    "io.k8s.api.resource.v1alpha3.DeviceTaintRule status",
    "io.k8s.api.resource.v1alpha3.DeviceTaintRuleStatus",
    "io.k8s.api.scheduling.v1alpha1.BasicSchedulingPolicy",
    "io.k8s.api.scheduling.v1alpha1.GangSchedulingPolicy",
    "io.k8s.api.scheduling.v1alpha1.PodGroup",
    "io.k8s.api.scheduling.v1alpha1.PodGroupPolicy",
    "io.k8s.api.scheduling.v1alpha1.TypedLocalObjectReference",
    "io.k8s.api.scheduling.v1alpha1.Workload",
    "io.k8s.api.scheduling.v1alpha1.WorkloadList",
    "io.k8s.api.scheduling.v1alpha1.WorkloadSpec",
    "io.k8s.api.storage.v1.CSIDriverSpec serviceAccountTokenInSecrets",
    "io.k8s.api.storagemigration.v1beta1.StorageVersionMigration",
    "io.k8s.api.storagemigration.v1beta1.StorageVersionMigrationList",
    "io.k8s.api.storagemigration.v1beta1.StorageVersionMigrationSpec",
    "io.k8s.api.storagemigration.v1beta1.StorageVersionMigrationStatus",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionCondition observedGeneration",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus observedGeneration",
    "io.k8s.apimachinery.pkg.apis.meta.v1.GroupResource",
];

/// Types and fields that the release does not have any more. Of types, those in them are not
/// listed.
const ONLY_IN_SNAPSHOT: [&str; 16] = [
    "io.k8s.api.certificates.v1alpha1.PodCertificateRequest",
    "io.k8s.api.certificates.v1alpha1.PodCertificateRequestList",
    "io.k8s.api.certificates.v1alpha1.PodCertificateRequestSpec",
    "io.k8s.api.certificates.v1alpha1.PodCertificateRequestStatus",
    "io.k8s.api.resource.v1alpha3.CELDeviceSelector",
    "io.k8s.api.resource.v1alpha3.DeviceSelector",
    "io.k8s.api.resource.v1alpha3.DeviceTaintSelector deviceClassName",
    "io.k8s.api.resource.v1alpha3.DeviceTaintSelector selectors",
    "io.k8s.api.storage.v1alpha1.VolumeAttributesClass",
    "io.k8s.api.storage.v1alpha1.VolumeAttributesClassList",
    "io.k8s.api.storagemigration.v1alpha1.GroupVersionResource",
    "io.k8s.api.storagemigration.v1alpha1.MigrationCondition",
    "io.k8s.api.storagemigration.v1alpha1.StorageVersionMigration",
    "io.k8s.api.storagemigration.v1alpha1.StorageVersionMigrationList",
    "io.k8s.api.storagemigration.v1alpha1.StorageVersionMigrationSpec",
    "io.k8s.api.storagemigration.v1alpha1.StorageVersionMigrationStatus",
];

/// Kinds that only protobuf has messages for.
const ONLY_IN_PROTOBUF: [&str; 2] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
    "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
];

/// Types that are shapes of their own in the table.
const SCALARS: [(&str, &str); 6] = [
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "object"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "micro-time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "object"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "int-or-string"),
];

fn reference() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/reference/openapi", "../../shared/reference/openapi"];
    places.iter().map(|place| root.join(place)).find(|place| place.is_dir())
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The schemas of `/openapi/v3`, where the defaults are.
fn read_v3(folder: &Path) -> Map<String, Value> {
    let mut schemas = Map::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        if let Value::Object(found) = read(&entry.unwrap().path())["components"]["schemas"].take() {
            schemas.extend(found);
        }
    }
    schemas
}

fn full_name(view: TypeView<'_>) -> String {
    format!("{}.{}", view.package(), view.name())
}

fn shape_text(shape: Shape) -> String {
    match shape {
        Shape::String => "string".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Double => "double".to_owned(),
        Shape::Bytes => "bytes".to_owned(),
        Shape::Quantity => "quantity".to_owned(),
        Shape::IntOrString => "int-or-string".to_owned(),
        Shape::Time => "time".to_owned(),
        Shape::MicroTime => "micro-time".to_owned(),
        Shape::Object => "object".to_owned(),
        Shape::Any => "any".to_owned(),
        Shape::Struct(of) => full_name(BUILT_IN.get(of)),
        Shape::List(of) => format!("[{}]", shape_text(BUILT_IN.element(of))),
        Shape::Map(of) => format!("{{{}}}", shape_text(BUILT_IN.element(of))),
    }
}

/// The same of a schema in the documents.
fn schema_text(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        let scalar = SCALARS.iter().find(|(scalar, _)| *scalar == name);
        return scalar.map_or(name, |(_, text)| text).to_owned();
    }
    let text = match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => return format!("[{}]", schema_text(&schema["items"])),
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            return format!("{{{}}}", schema_text(&schema["additionalProperties"]));
        }
        (Some("string"), Some("byte")) => "bytes",
        (Some("boolean"), _) => "bool",
        (Some("number"), _) => "double",
        (Some("integer"), Some(format)) => format,
        (Some(plain), _) => plain,
        (None, _) => "any",
    };
    text.to_owned()
}

/// All facts of a field that the documents have too, as one line.
fn field_text(field: FieldView<'_>) -> String {
    let keys: Vec<_> = field.list_keys().collect();
    let list = match field.list_kind() {
        None => "",
        Some(ListKind::Atomic) => "atomic",
        Some(ListKind::Set) => "set",
        Some(ListKind::Map) => "map",
    };
    let map = match field.map_kind() {
        None => "",
        Some(MapKind::Atomic) => "atomic",
        Some(MapKind::Granular) => "granular",
    };
    let mut patch = match field.patch_strategy() {
        PatchStrategy::None => vec![],
        PatchStrategy::Merge => vec!["merge"],
        PatchStrategy::Replace => vec!["replace"],
    };
    patch.extend(field.retains_keys().then_some("retainKeys"));
    let default = match field.default_json() {
        None if field.is_zero_by_default() => "zero",
        None => "",
        Some(json) => json,
    };
    format!(
        "{} required={} list={list}{keys:?} map={map} patch={}({}) default={default}",
        shape_text(field.shape()),
        field.is_required(),
        patch.join(","),
        field.merge_key(),
    )
}

fn property_text(property: &Value, is_required: bool, v3: &Value) -> String {
    let text = |name: &str| property[name].as_str().unwrap_or_default();
    let keys: Vec<_> = property["x-kubernetes-list-map-keys"]
        .as_array()
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let zeroes = [json!(""), json!(0), json!(false), json!({})];
    let default = match v3.get("default") {
        None => String::new(),
        Some(default) if zeroes.contains(default) => "zero".to_owned(),
        Some(default) => default.to_string(),
    };
    format!(
        "{} required={is_required} list={}{keys:?} map={} patch={}({}) default={default}",
        schema_text(property),
        text("x-kubernetes-list-type"),
        text("x-kubernetes-map-type"),
        text("x-kubernetes-patch-strategy"),
        text("x-kubernetes-patch-merge-key"),
    )
}

/// What one type has that the other side has differently or not at all.
struct Differences {
    only_in_table: BTreeSet<String>,
    only_in_reference: BTreeSet<String>,
    other: Vec<String>,
}

fn compare_type(
    name: &str,
    view: TypeView<'_>,
    definition: &Value,
    v3: &Value,
    found: &mut Differences,
) {
    let empty = Map::new();
    let properties = definition["properties"].as_object().unwrap_or(&empty);
    let required = definition["required"].as_array();
    let is_atomic = definition["x-kubernetes-map-type"] == "atomic";
    let is_kind = !definition["x-kubernetes-group-version-kind"].is_null();
    if (view.is_atomic(), view.is_kind()) != (is_atomic, is_kind) {
        found.other.push(format!("{name}: atomic {is_atomic}, kind {is_kind}"));
    }
    for (field_name, property) in properties {
        let Some(field) = view.field(field_name) else {
            found.only_in_reference.insert(format!("{name} {field_name}"));
            continue;
        };
        let is_required = required.is_some_and(|names| names.contains(&json!(field_name)));
        let theirs = property_text(property, is_required, &v3["properties"][field_name]);
        let ours = field_text(field);
        if ours != theirs {
            found
                .other
                .push(format!("{name} {field_name}\n  table     {ours}\n  reference {theirs}"));
        }
    }
    // The fields of free-form JSON are protobuf's.
    let known = |field: &FieldView<'_>| view.is_any() || properties.contains_key(field.name());
    for field in view.fields().filter(|field| !known(field)) {
        found.only_in_table.insert(format!("{name} {}", field.name()));
    }
}

#[test]
fn the_table_is_what_upstream_publishes() {
    let Some(reference) = reference() else {
        eprintln!("skipped: upstream's documents are not beside the source tree");
        return;
    };
    let definitions = read(&reference.join("swagger.json"))["definitions"].take();
    let v3 = read_v3(&reference.join("v3"));
    let mut table: BTreeMap<String, TypeView<'_>> =
        BUILT_IN.types().map(|(_, view)| (full_name(view), view)).collect();
    let mut found = Differences {
        only_in_table: BTreeSet::new(),
        only_in_reference: BTreeSet::new(),
        other: Vec::new(),
    };
    for (name, definition) in definitions.as_object().unwrap() {
        if SCALARS.iter().any(|(scalar, _)| scalar == name) {
            continue;
        }
        match table.remove(name) {
            None => drop(found.only_in_reference.insert(name.clone())),
            Some(view) => {
                compare_type(
                    name,
                    view,
                    definition,
                    v3.get(name).unwrap_or(&Value::Null),
                    &mut found,
                );
            }
        }
    }
    found.only_in_table.extend(table.into_keys());
    assert_eq!(found.other, Vec::<String>::new(), "{}", found.other.join("\n"));
    let only_here = ONLY_IN_RELEASE.into_iter().chain(ONLY_IN_PROTOBUF);
    assert_eq!(found.only_in_table, only_here.map(str::to_owned).collect());
    assert_eq!(found.only_in_reference, ONLY_IN_SNAPSHOT.map(str::to_owned).into());
}

/// A document with every field of its type, but none inside itself.
pub(super) fn full(shape: Shape, around: &mut Vec<TypeRef>) -> Value {
    match shape {
        Shape::String => json!("text"),
        Shape::Bool => json!(true),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => json!(7),
        Shape::Double => json!(1.5),
        Shape::Bytes => json!("aGk="),
        Shape::Quantity => json!("1Gi"),
        Shape::Time => json!("2026-01-02T03:04:05Z"),
        Shape::MicroTime => json!("2026-01-02T03:04:05.000006Z"),
        Shape::Object | Shape::Any => json!({"free": ["form"]}),
        Shape::List(of) => json!([full(BUILT_IN.element(of), around)]),
        Shape::Map(of) => json!({"key": full(BUILT_IN.element(of), around)}),
        Shape::Struct(of) if BUILT_IN.get(of).is_any() => full_free_form(of, around),
        Shape::Struct(of) => {
            around.push(of);
            let mut object = Map::new();
            for field in BUILT_IN.get(of).fields() {
                if !innermost(field.shape()).is_some_and(|inner| around.contains(&inner)) {
                    object.insert(field.name().to_owned(), full(field.shape(), around));
                }
            }
            around.pop();
            let view = BUILT_IN.get(of);
            for (field, own) in
                [("apiVersion", api_version(view)), ("kind", view.name().to_owned())]
            {
                if let Some(value) = object.get_mut(field).filter(|_| view.is_kind()) {
                    *value = own.into();
                }
            }
            Value::Object(object)
        }
    }
}

fn api_version(of: TypeView<'_>) -> String {
    match of.group() {
        "" => of.version().to_owned(),
        group => format!("{group}/{}", of.version()),
    }
}

/// The struct that a shape is of, or a list or map of.
fn innermost(shape: Shape) -> Option<TypeRef> {
    match shape {
        Shape::Struct(of) => Some(of),
        Shape::List(of) | Shape::Map(of) => innermost(BUILT_IN.element(of)),
        _ => None,
    }
}

/// Free-form JSON that its protobuf message can hold.
fn full_free_form(of: TypeRef, around: &mut Vec<TypeRef>) -> Value {
    let shapes: Vec<_> = BUILT_IN.get(of).fields().map(|field| field.shape()).collect();
    match shapes[..] {
        [Shape::List(of), Shape::Struct(inner)] if around.contains(&inner) => {
            json!([if BUILT_IN.element(of) == Shape::String { json!("text") } else { json!({}) }])
        }
        [Shape::Bool, Shape::Struct(inner)] if around.contains(&inner) => json!(false),
        [.., Shape::Struct(inner)] => full(Shape::Struct(inner), around),
        _ => json!({"free": ["form"]}),
    }
}

#[test]
fn every_kind_has_the_fields_of_the_table_and_no_others() {
    for kind in KINDS {
        let schema = kind.built_in_schema().unwrap();
        let view = BUILT_IN.get(schema);
        assert_eq!(view.name(), kind.facts.kind);
        assert_eq!((view.group(), view.version()), (&*kind.facts.group, &*kind.facts.version));
        let document = full(Shape::Struct(schema), &mut Vec::new());
        let mut checked = document.clone();
        assert!(check(schema, &mut checked).is_clean(), "{}", kind.facts.kind);
        assert_eq!(checked, document);
        let object = kind.decode(document.clone()).unwrap();
        assert_eq!(object.to_value(), document, "{}", kind.facts.kind);
    }
}

#[test]
fn every_protobuf_number_is_used_once() {
    for (_, view) in BUILT_IN.types() {
        let mut paths: Vec<_> = view.fields().map(|field| field.protobuf_path()).collect();
        paths.retain(|path| !path.is_empty());
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count, "{}", view.name());
    }
}

fn field(of: TypeRef, path: &[&str]) -> FieldView<'static> {
    let (name, rest) = path.split_first().unwrap();
    let field = BUILT_IN.get(of).field(name).unwrap();
    let mut shape = field.shape();
    while let Shape::List(of) | Shape::Map(of) = shape {
        shape = BUILT_IN.element(of);
    }
    match shape {
        Shape::Struct(inner) if !rest.is_empty() => self::field(inner, rest),
        _ => field,
    }
}

#[test]
fn facts_are_found_by_the_names_of_fields() {
    use super::types::POD;
    let containers = field(POD, &["spec", "containers"]);
    assert_eq!(containers.merge_key(), "name");
    assert_eq!(containers.protobuf_path(), [2]);
    assert!(containers.is_required());
    let ports = field(POD, &["spec", "containers", "ports"]);
    assert_eq!(ports.list_keys().collect::<Vec<_>>(), ["containerPort", "protocol"]);
    let protocol = field(POD, &["spec", "containers", "ports", "protocol"]);
    assert_eq!(protocol.enum_values().collect::<Vec<_>>(), ["SCTP", "TCP", "UDP"]);
    assert_eq!(protocol.default_json(), Some("\"TCP\""));
    let path = field(POD, &["spec", "volumes", "hostPath"]);
    assert_eq!(path.protobuf_path(), [2, 1], "inside the message volumeSource");
    assert!(BUILT_IN.get(POD).field("Spec").is_none(), "names are compared with case");
}
