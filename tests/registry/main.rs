//! The table of kinds, row by row: each kind has a manifest in `golden/kinds/`, and what becomes of
//! it when it is stored and printed is compared with the files beside it.
//!
//! `UPDATE_GOLDEN=1 cargo test --test registry` writes those files anew.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod pod_fields;

use kinglet::registry::custom::Reading;
use kinglet::registry::{Body, KINDS, Kind, Object, find};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kinds")).join(name)
}

/// Compares `actual` with a golden file, or makes it one.
#[track_caller]
fn compare(name: &str, actual: &str) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    assert!(actual == expected, "{name} differs; it would be\n{actual}");
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

/// What the files of a kind are called. Those of a version that is not stored have it in their
/// names.
fn title(kind: &Kind) -> String {
    let facts = &kind.facts;
    match kind.view {
        None => facts.kind.to_string(),
        Some(_) => format!("{}.{}", facts.kind, facts.api_version().replace('/', ".")),
    }
}

fn manifest(kind: &Kind) -> Value {
    let path = golden(&format!("{}.json", title(kind)));
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("every kind has a manifest: {}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The manifest as it is before a create is validated.
fn created(kind: &Kind) -> Box<dyn Object> {
    let mut object = kind.decode(manifest(kind)).unwrap();
    object.apply_defaults();
    object.prepare_create();
    object
}

/// The manifest with its status, as it comes back from the store.
fn stored(kind: &Kind) -> Box<dyn Object> {
    let mut object = kind.decode(manifest(kind)).unwrap();
    object.apply_defaults();
    object
}

#[test]
fn every_manifest_is_valid() {
    for kind in KINDS {
        let errors: Vec<_> = created(kind).validate().iter().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", kind.facts.kind);
    }
}

#[test]
fn every_manifest_becomes_what_its_golden_file_says() {
    for kind in KINDS {
        let name = format!("{}.stored.json", title(kind));
        compare(&name, &pretty(&created(kind).to_value()));
    }
}

#[test]
fn what_is_stored_reads_back_the_same_and_changes_no_more() {
    for kind in KINDS {
        let mut object = created(kind);
        object.metadata_mut().resource_version = Some("7".to_owned());
        let bytes = object.encode();
        let text = std::str::from_utf8(&bytes).unwrap();
        let facts = &kind.facts;
        let beginning = format!(
            "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"metadata\":{{",
            facts.api_version(),
            facts.kind
        );
        assert!(text.starts_with(&beginning), "{text}");
        assert!(!text.contains("resourceVersion\":\"7\""), "{text}");

        let mut again = kind.decode_stored(&bytes).unwrap();
        again.apply_defaults();
        assert_eq!(again.encode(), bytes, "{} defaults settle at once", facts.kind);
    }
}

#[test]
fn an_update_that_changes_nothing_is_no_new_generation_and_valid() {
    for kind in KINDS {
        let old = created(kind);
        let mut new = old.clone_box();
        new.prepare_update(&*old);
        assert!(!new.is_new_generation(&*old), "{}", kind.facts.kind);
        let errors: Vec<_> = new.validate_update(&*old).iter().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", kind.facts.kind);
    }
}

/// What an update that merely repeats the manifest would change: nothing that was filled in may be
/// refused or get lost when somebody applies the same file again.
#[test]
fn applying_the_same_manifest_again_is_valid() {
    for kind in KINDS {
        let old = created(kind);
        let mut new = stored(kind);
        new.prepare_update(&*old);
        let errors: Vec<_> = new.validate_update(&*old).iter().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", kind.facts.kind);
        assert!(!new.is_new_generation(&*old), "{}", kind.facts.kind);
    }
}

#[test]
fn the_status_is_written_through_its_own_path_only() {
    for kind in KINDS.iter().filter(|kind| kind.facts.has_status()) {
        let old = created(kind);
        let mut new = stored(kind);
        new.prepare_update(&*old);
        let status = |object: &dyn Object| object.to_value().get("status").cloned();
        assert_eq!(status(&*new), status(&*old), "{}", kind.facts.kind);

        let mut of_status = stored(kind);
        let before = old.to_value().get("spec").cloned();
        of_status.prepare_status_update(&*old);
        assert_eq!(of_status.to_value().get("spec").cloned(), before, "{}", kind.facts.kind);
    }
}

#[test]
fn every_table_is_printed_as_its_golden_file_says() {
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let mut tables = String::new();
    for kind in KINDS {
        let row = stored(kind).row(now);
        assert_eq!(row.len(), kind.columns.len(), "{}", kind.facts.kind);
        tables.push_str(&format!("{}\n", title(kind)));
        for (column, cell) in kind.columns.iter().zip(&row) {
            let wide = if column.priority > 0 { " (wide)" } else { "" };
            tables.push_str(&format!("  {}{wide}: {cell}\n", column.name));
        }
        let names = kind.columns.iter().filter(|column| column.format == "name").count();
        assert_eq!(names, 1, "{} has one column of names", kind.facts.kind);
    }
    compare("tables.txt", &tables);
}

#[test]
fn selectable_fields_are_named_once() {
    let mut listed = String::new();
    for kind in KINDS {
        let fields = stored(kind).selectable_fields();
        let names: BTreeSet<_> = fields.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), fields.len(), "{}", kind.facts.kind);
        for (name, value) in fields {
            listed.push_str(&format!("{} {name}={value}\n", title(kind)));
        }
    }
    compare("selectable_fields.txt", &listed);
}

#[test]
fn every_row_has_a_path_and_a_type_of_its_own() {
    let mut paths = BTreeSet::new();
    let mut schemas = BTreeSet::new();
    for kind in KINDS {
        let facts = &kind.facts;
        assert!(paths.insert((&facts.group, &facts.version, &facts.plural)), "{}", facts.plural);
        assert!(
            schemas.insert(kind.built_in_schema().unwrap().0),
            "{} has a schema of its own",
            facts.kind
        );
        let found = find(&facts.group, &facts.version, &facts.plural).unwrap();
        assert_eq!(found.facts.kind, facts.kind);
    }
}

/// What discovery says of each kind, in the words of upstream's `APIResourceList` (v1.35).
#[test]
fn facts_are_what_discovery_tells() {
    let mut resources = Vec::new();
    for kind in KINDS {
        let facts = &kind.facts;
        resources.push(json!({
            "groupVersion": facts.api_version(), "name": facts.plural, "kind": facts.kind,
            "singularName": facts.singular, "namespaced": facts.is_namespaced(),
            "shortNames": facts.short_names, "categories": facts.categories, "verbs": facts.verbs,
        }));
        for below in &*facts.subresources {
            let (group, version, name) = match &below.body {
                Body::Parent => ("", "", &*facts.kind),
                Body::Other { group, version, kind } => (*group, *version, *kind),
            };
            resources.push(json!({
                "name": format!("{}/{}", facts.plural, below.name), "kind": name,
                "group": group, "version": version, "verbs": below.verbs,
            }));
        }
    }
    let lines: Vec<_> = resources.iter().map(Value::to_string).collect();
    compare("facts.txt", &(lines.join("\n") + "\n"));
}

#[test]
fn what_a_version_says_is_not_lost_on_its_way_through_the_stored_one() {
    for kind in KINDS.iter().filter(|kind| kind.view.is_some()) {
        let done = |reading| match reading {
            Reading::Done(bytes) => bytes,
            Reading::Convert(_) => panic!("versions of the table are converted here"),
        };
        let shown = stored(kind).encode();
        let bytes = done(kind.stored(shown.clone()).unwrap());
        let again = done(kind.shown(bytes.clone()).unwrap());
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(value(&again), value(&shown), "{}", title(kind));
        let back = done(kind.stored(again).unwrap());
        assert_eq!(value(&back), value(&bytes), "{}", title(kind));
    }
}
