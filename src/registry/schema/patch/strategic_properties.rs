//! What is true of strategic merge patch for any pod and any patch.

use super::super::types;
use super::{PatchError, strategic_merge_patch};
use proptest::prelude::*;
use serde_json::{Value, json};

fn any_container() -> impl Strategy<Value = Value> {
    let env = proptest::collection::btree_map("[A-C]", "[a-z]{0,2}", 0..3);
    let ports = proptest::collection::btree_set(80..84_u16, 0..3);
    ("[a-d]", "[a-z]{1,3}", env, ports).prop_map(|(name, image, env, ports)| {
        let env: Vec<_> =
            env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let ports: Vec<_> = ports.into_iter().map(|port| json!({"containerPort": port})).collect();
        json!({"name": name, "image": image, "env": env, "ports": ports})
    })
}

/// A pod whose containers have different names.
fn any_pod() -> impl Strategy<Value = Value> {
    let containers = proptest::collection::vec(any_container(), 0..4);
    let finalizers = proptest::collection::hash_set("[a-d]", 0..4);
    (containers, finalizers).prop_map(|(mut containers, finalizers)| {
        containers.sort_by_key(|one| one["name"].to_string());
        containers.dedup_by_key(|one| one["name"].clone());
        let finalizers: Vec<_> = finalizers.into_iter().collect();
        json!({"metadata": {"finalizers": finalizers}, "spec": {"containers": containers}})
    })
}

fn apply(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    strategic_merge_patch(types::POD, original.clone(), patch.clone())
}

proptest! {
    #[test]
    fn an_empty_patch_changes_nothing(pod in any_pod()) {
        prop_assert_eq!(apply(&pod, &json!({}))?, pod);
    }

    #[test]
    fn a_document_is_a_patch_that_changes_nothing_of_itself(pod in any_pod()) {
        prop_assert_eq!(apply(&pod, &pod)?, pod);
    }

    #[test]
    fn a_patch_applied_twice_is_applied_once(pod in any_pod(), patch in any_pod()) {
        let once = apply(&pod, &patch)?;
        prop_assert_eq!(apply(&once, &patch)?, once);
    }

    #[test]
    fn everything_in_the_patch_is_in_the_result(pod in any_pod(), patch in any_pod()) {
        let patched = apply(&pod, &patch)?;
        let named = |document: &Value, name: &Value| {
            let containers = document["spec"]["containers"].as_array().expect("a list");
            containers.iter().find(|one| one["name"] == *name).cloned()
        };
        for container in patch["spec"]["containers"].as_array().expect("a list") {
            let found = named(&patched, &container["name"]);
            prop_assert_eq!(&found.expect("merged or added")["image"], &container["image"]);
        }
        for container in pod["spec"]["containers"].as_array().expect("a list") {
            prop_assert!(named(&patched, &container["name"]).is_some());
        }
    }

    #[test]
    fn no_patch_makes_it_panic(pod in any_pod(), patch in any_patch()) {
        drop(apply(&pod, &patch));
    }
}

/// Objects of names and directives that a patch may have, in no sensible arrangement.
fn any_patch() -> impl Strategy<Value = Value> {
    let names = proptest::sample::select(vec![
        "metadata",
        "finalizers",
        "spec",
        "containers",
        "name",
        "env",
        "ports",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "$deleteFromPrimitiveList",
        "$setElementOrder/",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!("delete")),
        Just(json!("replace")),
        "[a-d]".prop_map(Value::from),
        (80..84).prop_map(Value::from),
    ];
    let inner = leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names.clone(), inner, 0..4).prop_map(|map| {
                Value::Object(
                    map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                )
            }),
        ]
    });
    proptest::collection::vec(inner, 2)
        .prop_map(|values| json!({"metadata": values[0], "spec": values[1]}))
}
