//! What is decided about files: each case is a line of what there is, and one of what is done.

use super::super::object::tests::{id, with_kites};
use super::*;

const A: &str = "v1 ConfigMap a";
const B: &str = "v1 ConfigMap b";

fn file(objects: &[&str]) -> FileView {
    let ids = objects.iter().map(|text| id(text)).collect();
    FileView::Objects { checksum: "new".to_owned(), ids }
}

fn broken() -> FileView {
    FileView::Broken { message: "line 1".to_owned() }
}

fn addon(name: &str, source: &str, objects: &[&str]) -> AddOn {
    let mut addon = AddOn::new(name, source);
    let listed = |text: &&str| super::super::kind::Listed { id: id(text), message: None };
    addon.status.objects = objects.iter().map(listed).collect();
    addon
}

fn of_ids(ids: &[ObjectId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn shown(job: &Job) -> String {
    let name = &job.name;
    match &job.todo {
        Todo::Apply { ids, disputed, stale, .. } => {
            let disputed: Vec<_> =
                disputed.iter().map(|(id, owner)| format!("{id} of {owner}")).collect();
            format!(
                "{name}: apply {} disputed {} stale {}",
                of_ids(ids),
                disputed.join(","),
                of_ids(stale)
            )
        }
        Todo::Complain { message } => format!("{name}: complain {message}"),
        Todo::Remove { stale } => format!("{name}: remove {}", of_ids(stale)),
    }
}

/// `due` are those that have changed.
#[track_caller]
fn check(files: &[(&str, FileView)], addons: &[AddOn], due: &[&str], expected: &[&str]) {
    let files = files.iter().map(|(source, file)| ((*source).to_owned(), file.clone())).collect();
    let addons = addons.iter().map(|it| (it.spec.source.clone(), it.clone())).collect();
    let due = due.iter().map(|source| (*source).to_owned()).collect();
    let kinds = with_kites();
    let observed = Observed { files: &files, addons: &addons, due: &due, kinds: &kinds };
    let actual: Vec<_> = plan(&observed).iter().map(shown).collect();
    assert_eq!(actual, expected);
}

#[test]
fn a_new_file_is_applied() {
    check(
        &[("web.yaml", file(&[A, B]))],
        &[],
        &[],
        &["web: apply ConfigMap default/a,ConfigMap default/b disputed  stale "],
    );
}

#[test]
fn a_file_that_has_not_changed_is_left_alone() {
    let known = [addon("web", "web.yaml", &[A])];
    check(&[("web.yaml", file(&[A]))], &known, &[], &[]);
    check(
        &[("web.yaml", file(&[A]))],
        &known,
        &["web.yaml"],
        &["web: apply ConfigMap default/a disputed  stale "],
    );
}

#[test]
fn what_goes_from_a_file_is_pruned() {
    let known = [addon("web", "web.yaml", &["v1 ConfigMap default/a", B])];
    check(
        &[("web.yaml", file(&[A]))],
        &known,
        &["web.yaml"],
        &["web: apply ConfigMap default/a disputed  stale ConfigMap b"],
    );
    check(&[], &known, &[], &["web: remove ConfigMap default/a,ConfigMap b"]);
}

#[test]
fn another_version_is_the_same_object() {
    let known = [addon("web", "web.yaml", &["example.com/v1 Kite a"])];
    check(
        &[("web.yaml", file(&["example.com/v2 Kite default/a"]))],
        &known,
        &["web.yaml"],
        &["web: apply Kite default/a disputed  stale "],
    );
}

#[test]
fn nothing_is_pruned_of_what_is_not_understood_or_skipped() {
    let known = [addon("web", "web.yaml", &[A])];
    check(&[("web.yaml", broken())], &known, &["web.yaml"], &["web: complain line 1"]);
    check(&[("web.yaml", FileView::Kept)], &known, &["web.yaml"], &[]);
    check(&[("new.yaml", broken())], &[], &[], &["new: complain line 1"]);
    check(&[("new.yaml", FileView::Kept)], &[], &[], &[]);
}

#[test]
fn an_object_moves_from_file_to_file() {
    let known = [addon("a", "a.yaml", &[A, B])];
    check(
        &[("a.yaml", file(&[B])), ("b.yaml", file(&[A]))],
        &known,
        &["a.yaml"],
        &[
            "a: apply ConfigMap default/b disputed  stale ",
            "b: apply ConfigMap default/a disputed  stale ",
        ],
    );
    check(
        &[("b.yaml", file(&[A]))],
        &known,
        &[],
        &["b: apply ConfigMap default/a disputed  stale ", "a: remove ConfigMap b"],
    );
}

#[test]
fn an_object_of_two_files_is_the_first_one_s() {
    check(
        &[("a.yaml", file(&[A])), ("b.yaml", file(&[A, B]))],
        &[],
        &[],
        &[
            "a: apply ConfigMap default/a disputed  stale ",
            "b: apply ConfigMap default/b disputed ConfigMap a of a stale ",
        ],
    );
    let known = [addon("b", "b.yaml", &[A])];
    check(
        &[("a.yaml", file(&[A])), ("b.yaml", file(&[A]))],
        &known,
        &[],
        &["a: apply  disputed ConfigMap a of b stale "],
    );
    check(
        &[("a.yaml", file(&[A])), ("b.yaml", broken())],
        &known,
        &[],
        &["a: apply  disputed ConfigMap a of b stale ", "b: complain line 1"],
    );
}

#[test]
fn addons_are_named_after_files() {
    for (source, expected) in [
        ("web.yaml", "web"),
        ("apps/Web_1.yaml", "apps-web-1"),
        ("a.b.json", "a-b"),
        ("_.yaml", "manifest"),
        ("ä--ö.yml", "manifest"),
    ] {
        assert_eq!(plain_name(source), expected, "{source}");
    }
    let long = format!("{}.yaml", "x".repeat(255));
    assert_eq!(plain_name(&long).len(), NAME_BYTES_MAX);
    let kinds = with_kites();
    let files = [("a.yaml", file(&[])), ("a.yml", file(&[]))];
    let files = files.map(|(source, file)| (source.to_owned(), file)).into();
    let (addons, due) = (BTreeMap::new(), BTreeSet::new());
    let observed = Observed { files: &files, addons: &addons, due: &due, kinds: &kinds };
    let names: Vec<_> = plan(&observed).into_iter().map(|job| job.name).collect();
    assert_eq!(names[0], "a");
    assert!(names[1].starts_with("a-") && names[1].len() == "a-01234567".len(), "{names:?}");
}

#[test]
fn what_others_rest_on_comes_first() {
    let mut objects = [
        "apps/v1 Deployment a",
        "example.com/v1 Kite a",
        "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration a",
        "v1 ConfigMap a",
        "rbac.authorization.k8s.io/v1 ClusterRole a",
        "v1 Pod a",
        "v1 Namespace a",
        "apiextensions.k8s.io/v1 CustomResourceDefinition a",
    ]
    .map(id);
    objects.sort_by_key(Stage::of);
    let kinds: Vec<_> = objects.iter().map(|id| id.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "Namespace",
            "CustomResourceDefinition",
            "ConfigMap",
            "ClusterRole",
            "Deployment",
            "Kite",
            "Pod",
            "ValidatingWebhookConfiguration",
        ]
    );
}
