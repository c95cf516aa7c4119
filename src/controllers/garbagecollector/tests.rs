//! Tables of what is worth a look, and of what is done about it.

use super::graph::Dependent;
use super::*;
use crate::control::Write;
use crate::controllers::kinds::{KindEntry, KindIndex, Kinds};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

fn kinds() -> Kinds {
    let entry = |resource, is_namespaced| KindEntry { resource, is_namespaced };
    Kinds::new([
        entry(ResourceType::of::<Deployment>(), true),
        entry(ResourceType::of::<ReplicaSet>(), true),
        entry(ResourceType::of::<Pod>(), true),
        entry(ResourceType::of::<Node>(), false),
    ])
}

fn kind_of(letter: char) -> (KindIndex, &'static str, &'static str) {
    let (place, version, kind) = match letter {
        'd' => (0, "apps/v1", "Deployment"),
        'r' => (1, "apps/v1", "ReplicaSet"),
        'p' => (2, "v1", "Pod"),
        'n' => (3, "v1", "Node"),
        _ => panic!("{letter}"),
    };
    (kinds().all()[place].0, version, kind)
}

fn owner(name: &str, is_blocking: bool) -> Value {
    let (_, version, kind) = kind_of(name.chars().next().unwrap());
    json!({"apiVersion": version, "kind": kind, "name": name, "uid": name,
        "blockOwnerDeletion": is_blocking})
}

/// An object from a few words: its name, whose first letter is that of its kind, and then any of
/// `<owner`, `<!owner` (which waits for it), `going`, `foreground`, `orphan`. Uids are names.
fn sketch(words: &str) -> Sketch {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let mut metadata = json!({"name": name, "namespace": "default", "uid": name,
        "resourceVersion": "7", "ownerReferences": [], "finalizers": []});
    for word in words {
        let going = json!("2026-11-20T12:00:00Z");
        let mut add = |field: &str, value| {
            metadata[field].as_array_mut().unwrap().push(value);
        };
        match word {
            "going" => metadata["deletionTimestamp"] = going,
            "foreground" => add("finalizers", json!("foregroundDeletion")),
            "orphan" => add("finalizers", json!("orphan")),
            word => match (word.strip_prefix("<!"), word.strip_prefix('<')) {
                (Some(name), _) => add("ownerReferences", owner(name, true)),
                (None, Some(name)) => add("ownerReferences", owner(name, false)),
                (None, None) => panic!("{word}"),
            },
        }
    }
    serde_json::from_value(json!({"metadata": metadata})).unwrap()
}

/// Plays a story of objects that are `+`applied, `-`deleted or `=`listed (all of a kind, separated by
/// commas), with owners that are `!`confirmed in between; what is worth a look after the last line.
#[track_caller]
fn check(story: &[&str], expected: &[&str]) {
    let mut graph = Graph::new(kinds());
    let mut worth = Vec::new();
    for line in story {
        let (sign, words) = line.split_at(1);
        let kind = kind_of(words.chars().next().unwrap()).0;
        worth = match sign {
            "+" => graph.note(kind, &News::Applied(&sketch(words))),
            "-" => graph.note(kind, &News::Deleted(&sketch(words))),
            "=" => {
                let listed: Vec<_> =
                    words.split(", ").filter(|words| words.len() > 1).map(sketch).collect();
                graph.note(kind, &News::Listed(&listed))
            }
            "!" => {
                let deletions = graph.deletions();
                graph.confirm(words, deletions);
                Vec::new()
            }
            _ => panic!("{line}"),
        };
    }
    let mut names: Vec<_> = worth.iter().map(|item| item.key.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, expected, "{story:?}");
}

#[test]
fn objects_with_doubtful_owners_are_worth_a_look() {
    check(&["+p1"], &[]);
    check(&["+p1 <r1"], &["p1"]);
    check(&["!r1", "+p1 <r1"], &[]);
    check(&["!r1", "+p1 <r1 <r2"], &["p1"]);
    check(&["!r1", "-r1", "+p1 <r1"], &["p1"]);
    check(&["+p1 <r1 going"], &[]);
    check(&["+r1 <d1", "+p1 <r1"], &["p1"]);
}

#[test]
fn the_end_of_an_owner_is_worth_a_look_at_all_that_it_owned() {
    check(&["+p1 <r1", "+p2 <r1", "+p3 <r2", "-r1"], &["p1", "p2"]);
    check(&["+p1 <r1", "+p1", "-r1"], &[]);
    check(&["+p1 <r1", "-p1 <r1", "-r1"], &[]);
    check(&["+p1 <r1", "+p1 <r2", "-r1"], &[]);
    check(&["+p1 <r1", "+p1 <r2", "-r2"], &["p1"]);
    // It had owners itself.
    check(&["+r1 <d1", "+p1 <r1", "-r1 <d1"], &["p1"]);
}

#[test]
fn owners_that_wait_are_worth_a_look_when_there_is_less_to_wait_for() {
    let waiting = ["+p1 <!r1", "+p2 <r1", "+r1 going foreground"];
    let then = |line: &'static str| [&waiting[..], &[line]].concat();
    check(&waiting, &["p1", "p2", "r1"]);
    check(&then("-p1 <!r1"), &["r1"]);
    check(&then("-p2 <r1"), &[]);
    check(&then("+p1 <r1"), &["p1", "r1"]);
    check(&then("+p1"), &["r1"]);
    check(&then("+p1 <!r1 going"), &[]);
    // Even of an owner that was there a moment ago.
    check(&["!r1", "+r1 going foreground", "+p1 <!r1"], &["p1"]);
    check(&["+p1 <r1", "+r1 going orphan"], &["r1"]);
}

#[test]
fn the_first_list_of_a_new_kind_tells_of_owners_that_were_gone_before() {
    let kinds = kinds();
    let mut graph = Graph::new(kinds.clone());
    let owner = json!({"apiVersion": "example.com/v1", "kind": "Kite", "name": "k", "uid": "k"});
    let owned = json!({"metadata": {"name": "p1", "namespace": "default", "uid": "p1",
        "ownerReferences": [owner]}});
    let owned: Sketch = serde_json::from_value(owned).unwrap();
    graph.note(kind_of('p').0, &News::Applied(&owned));
    let resource = ResourceType {
        group: "example.com".into(),
        version: "v1".into(),
        kind: "Kite".into(),
        plural: "kites".into(),
    };
    let kites = kinds.add(KindEntry { resource, is_namespaced: true });
    let worth = graph.note(kites, &News::Listed(&[]));
    assert_eq!(worth.iter().map(|item| &*item.key.name).collect::<Vec<_>>(), ["p1"]);
}

#[test]
fn a_list_tells_what_was_missed() {
    check(&["+p1 <r1", "+p2 <r1", "!r1", "=p1 <r1"], &["p1"]);
    check(&["+r1 <d1", "+p1 <r1", "!d1", "=r"], &["p1"]);
    // An owner without owners, of which nothing was kept.
    check(&["+p1 <r1", "+p2 <r2", "!r1", "=r2"], &["p1"]);
    check(&["+p1 <r1", "!r1", "=r1"], &[]);
    check(&["+p1 <!r1", "+r1 going foreground", "=p"], &["r1"]);
}

#[test]
fn what_was_confirmed_while_something_went_away_is_not_believed() {
    let mut graph = Graph::new(kinds());
    let before = graph.deletions();
    graph.note(kind_of('r').0, &News::Deleted(&sketch("r1")));
    graph.confirm("r1", before);
    assert!(!graph.is_confirmed("r1"));
    for owner in 0..10_000 {
        let deletions = graph.deletions();
        graph.confirm(&owner.to_string(), deletions);
    }
    assert!(graph.is_confirmed("9999") && !graph.is_confirmed("0"));
}

fn object(words: &str) -> Object {
    let sketch = sketch(words);
    let kind = kind_of(words.chars().next().unwrap()).0;
    let resource = kinds().get(kind).resource.clone();
    let key = ObjectKey::namespaced("default", &*sketch.uid);
    Object { resource, key, sketch }
}

/// What is done about an object. `owners` is one letter each: present, waiting, absent, uncertain,
/// impossible; `dependents` one each: `.`, `!` (blocking), `w` (waiting itself).
#[track_caller]
fn check_plan(words: &str, owners: &str, dependents: &str, expected: &str) {
    let state = |letter| match letter {
        'p' => OwnerState::Present,
        'w' => OwnerState::Waiting,
        'a' => OwnerState::Absent,
        'u' => OwnerState::Uncertain,
        'i' => OwnerState::Impossible,
        _ => panic!("{letter}"),
    };
    let dependent = |sign| Dependent { is_blocking: sign != '.', is_waiting: sign == 'w' };
    let observed = Observed {
        object: object(words),
        owners: owners.chars().map(state).collect(),
        dependents: dependents.chars().map(dependent).collect(),
        orphans: Some(vec![object("p1 <r1 <!r2"), object("p2 <r1")]),
    };
    assert_eq!(brief(&plan(&observed)), expected, "{words} {owners}");
}

fn brief(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| {
        let writes: Vec<_> = step.iter().map(|planned| brief_write(&planned.write)).collect();
        writes.join(" ")
    });
    let recheck = plan.recheck_after.map(|_| "recheck".to_owned());
    steps.chain(recheck).collect::<Vec<_>>().join(" | ")
}

fn brief_write(write: &Write) -> String {
    let name = &write.key().unwrap().name;
    if let Write::Delete { options, .. } = write {
        assert_eq!(options.uid.as_deref(), Some(name.as_str()));
        let at = options.revision.map(|revision| format!("@{revision}")).unwrap_or_default();
        return format!("delete{:?}{at}:{name}", options.propagation.unwrap());
    }
    let metadata = &write.body()["metadata"];
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!(name), &json!("7")));
    let names = |field: &str| {
        let values = metadata[field].as_array()?;
        let names = values.iter().map(|value| match value["name"].as_str() {
            Some(name) if value["blockOwnerDeletion"] == true => format!("!{name}"),
            Some(name) => name.to_owned(),
            None => value.as_str().unwrap().to_owned(),
        });
        Some(format!("{field}=[{}]:{name}", names.collect::<Vec<_>>().join(",")))
    };
    names("ownerReferences").or_else(|| names("finalizers")).unwrap()
}

#[test]
fn garbage_is_deleted_and_what_has_an_owner_is_not() {
    check_plan("p1 <r1", "a", "", "deleteBackground@7:p1");
    check_plan("p1 <r1 <r2", "aa", "", "deleteBackground@7:p1");
    check_plan("p1 <r1", "p", "", "");
    check_plan("p1", "", "", "");
    check_plan("p1 <r1 <r2", "pp", "", "");
    check_plan("p1 <r1 going", "", "", "");
    check_plan("p1 <r1", "i", "", "");
    check_plan("p1 <r1 <r2", "ai", "", "");
}

#[test]
fn nothing_is_done_where_it_is_not_certain() {
    check_plan("p1 <r1", "u", "", "recheck");
    check_plan("p1 <r1 <r2", "au", "", "recheck");
    check_plan("p1 <r1 <r2", "pu", "", "recheck");
}

#[test]
fn references_to_lost_owners_are_taken_off() {
    check_plan("p1 <r1 <!r2", "ap", "", "ownerReferences=[!r2]:p1");
    check_plan("p1 <r1 <!r2", "pw", "", "ownerReferences=[r1]:p1");
    check_plan("p1 <r1 <r2 <r3", "apa", "", "ownerReferences=[r2]:p1");
}

#[test]
fn finalizers_choose_how_garbage_is_deleted() {
    check_plan("p1 <r1 orphan", "a", "", "deleteOrphan@7:p1");
    check_plan("p1 <r1 foreground", "a", "", "deleteForeground@7:p1");
    check_plan("p1 <r1 foreground orphan", "a", "", "deleteOrphan@7:p1");
}

#[test]
fn an_owner_that_waits_is_passed_down() {
    check_plan("r1 <!d1", "w", "", "deleteBackground@7:r1");
    check_plan("r1 <!d1", "w", ".", "deleteForeground@7:r1");
    check_plan("r1 <!d1", "w", "!!", "deleteForeground@7:r1");
    check_plan("r1 <!d1 <d2", "wa", "!", "deleteForeground@7:r1");
    // A circle of those who wait is broken.
    check_plan("r1 <!d1", "w", "w", "ownerReferences=[d1]:r1 | deleteForeground:r1");
}

#[test]
fn an_object_goes_once_nothing_blocks_it() {
    check_plan("r1 going foreground", "", "", "finalizers=[]:r1");
    check_plan("r1 going foreground", "", "..", "finalizers=[]:r1");
    check_plan("r1 going foreground", "", ".!", "");
    check_plan("r1 <d1 going foreground", "", "w", "");
}

#[test]
fn orphans_forget_their_owner_before_it_goes() {
    check_plan(
        "r1 going orphan",
        "",
        "",
        "ownerReferences=[!r2]:p1 ownerReferences=[]:p2 | finalizers=[]:r1",
    );
    let unknown = Observed {
        object: object("r1 going orphan"),
        owners: Vec::new(),
        dependents: Vec::new(),
        orphans: None,
    };
    assert_eq!(brief(&plan(&unknown)), "recheck");
}
