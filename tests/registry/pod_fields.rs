//! docs/pod-fields.md is a promise: for every field of the Pod API it names a test, or says why the
//! field waits. Here it is compared with the schema table and with the tests that exist.

use kinglet::registry::schema::{BUILT_IN, FieldView, Shape, TypeRef, TypeView, types};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// What the document says of one type: its fields, and for each what shows that it works. `*` stands
/// for all that are not named.
type Section = BTreeMap<String, String>;

/// Types of metadata, which every kind has: the suites of the API are about them.
const GENERAL: &[&str] =
    &["ObjectMeta", "ManagedFieldsEntry", "OwnerReference", "LabelSelector", "FieldsV1"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads `## Type, Type` and the lines `- field, field: what shows it` below.
fn document() -> BTreeMap<String, Section> {
    let text = fs::read_to_string(root().join("docs/pod-fields.md")).unwrap();
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(names) = line.strip_prefix("## ") {
            current = names.split(", ").map(str::to_owned).collect();
            for name in &current {
                let old = sections.insert(name.clone(), Section::new());
                assert!(old.is_none(), "{name} has two sections");
            }
        } else if let Some(entry) = line.strip_prefix("- ") {
            let (fields, proof) = entry.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            for (name, field) in current.iter().flat_map(|name| {
                fields.split(", ").map(move |field| (name, field.trim_matches('`')))
            }) {
                let old = sections.get_mut(name).unwrap().insert(field.into(), proof.into());
                assert!(old.is_none(), "{name}.{field} has two lines");
            }
        }
    }
    sections
}

/// The type of the values of a field, where they have fields of their own.
fn inner(field: &FieldView<'_>) -> Option<TypeRef> {
    let of = |shape| match shape {
        Shape::Struct(inner) => Some(inner),
        _ => None,
    };
    match field.shape() {
        Shape::List(element) | Shape::Map(element) => of(BUILT_IN.element(element)),
        shape => of(shape),
    }
}

/// Every type that a Pod can hold.
fn types_of_a_pod() -> Vec<TypeView<'static>> {
    let (mut seen, mut waiting) = (BTreeSet::new(), VecDeque::from([types::POD]));
    let mut found = Vec::new();
    while let Some(of) = waiting.pop_front() {
        if !seen.insert(of.0) {
            continue;
        }
        let view = BUILT_IN.get(of);
        waiting.extend(view.fields().filter_map(|field| inner(&field)));
        found.push(view);
    }
    found
}

/// The name of every function that is a test.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut directories: Vec<PathBuf> = vec![root().join("src"), root().join("tests")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(tests_in(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    names
}

fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
            if is_test {
                names.extend(rest.split('(').next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}

#[test]
fn every_field_of_a_pod_has_a_test_or_a_reason() {
    let (document, tests) = (document(), tests());
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for view in types_of_a_pod().iter().filter(|view| !GENERAL.contains(&view.name())) {
        known.insert(view.name().to_owned());
        let leaves = view.fields().filter(|field| inner(field).is_none());
        let empty = Section::new();
        let section = document.get(view.name()).unwrap_or(&empty);
        let all = section.contains_key("*");
        for field in leaves.filter(|field| !all && !section.contains_key(field.name())) {
            problems.push(format!("{}.{} is not there", view.name(), field.name()));
        }
        for named in section.keys().filter(|name| *name != "*" && view.field(name).is_none()) {
            problems.push(format!("{} has no field {named}", view.name()));
        }
    }
    for (name, section) in &document {
        if !known.contains(name) {
            problems.push(format!("a Pod has no {name}"));
        }
        for (field, proof) in section.iter().filter(|(_, proof)| !proof.starts_with("waits: ")) {
            let named: Vec<_> = proof.split('`').skip(1).step_by(2).collect();
            if named.is_empty() {
                problems.push(format!("{name}.{field} names no test and does not say `waits: `"));
            }
            for test in named.iter().filter(|test| !tests.contains(**test)) {
                problems.push(format!("{name}.{field}: there is no test {test}"));
            }
        }
    }
    assert!(problems.is_empty(), "docs/pod-fields.md:\n{}", problems.join("\n"));
}
