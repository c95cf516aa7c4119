//! Tables of questions and answers.

use super::*;
use serde_json::json;

const UID: &str = "u-1";

fn kite(version: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("example.com/{version}"), "kind": "Kite",
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"a": "b"},
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "height": 5,
    })
}

fn review() -> Review<'static> {
    let versions = ["v2".to_owned(), "v1".to_owned(), "v1beta1".to_owned()];
    Review::of("example.com/v2", &versions, UID).unwrap()
}

fn answer(objects: &Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response":
        {"uid": UID, "result": {"status": "Success"}, "convertedObjects": objects}})
}

fn settled(originals: &[Value], answer: &Value) -> Result<Vec<Value>, String> {
    review().settle(originals, answer.to_string().as_bytes())
}

#[test]
fn a_question_is_asked_in_the_first_version_that_both_speak() {
    let asked: Value = serde_json::from_slice(&review().request(&[kite("v1", "a")])).unwrap();
    let expected = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": UID, "desiredAPIVersion": "example.com/v2", "objects": [kite("v1", "a")]},
    });
    assert_eq!(asked, expected);
    let beta = Review::of("example.com/v2", &["v1beta1".to_owned()], UID).unwrap();
    let asked: Value = serde_json::from_slice(&beta.request(&[])).unwrap();
    assert_eq!(asked["apiVersion"], "apiextensions.k8s.io/v1beta1");
    let error = Review::of("example.com/v2", &["v7".to_owned()], UID).unwrap_err();
    assert_eq!(error, "no supported conversion review versions");
}

#[test]
fn labels_and_annotations_are_the_webhooks_and_the_rest_of_the_metadata_is_not() {
    let mut converted = kite("v2", "a");
    converted["metadata"]["labels"] = json!({"c": "d"});
    converted["metadata"]["annotations"] = json!({"e": "f"});
    converted["metadata"]["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
    converted["metadata"]["finalizers"] = json!(["x"]);
    converted["width"] = json!(1);
    let settled = settled(&[kite("v1", "a")], &answer(&json!([converted]))).unwrap();
    let mut expected = kite("v2", "a");
    expected["metadata"]["labels"] = json!({"c": "d"});
    expected["metadata"]["annotations"] = json!({"e": "f"});
    expected["width"] = json!(1);
    assert_eq!(settled, [expected]);
}

#[test]
fn labels_that_are_not_there_are_gone() {
    let mut converted = kite("v2", "a");
    converted["metadata"]["labels"] = json!(null);
    let settled = settled(&[kite("v1", "a")], &answer(&json!([converted]))).unwrap();
    assert_eq!(settled[0]["metadata"].get("labels"), None);
}

#[test]
fn answers_that_are_none_are_refused() {
    let check = |change: Value, expected: &str| {
        let mut answer = answer(&json!([kite("v2", "a")]));
        json_patch::merge(&mut answer, &change);
        let told = settled(&[kite("v1", "a")], &answer).unwrap_err();
        let prefix = "conversion webhook for example.com/v1, Kind=Kite failed: ";
        assert_eq!(told.strip_prefix(prefix), Some(expected), "{told}");
    };
    check(
        json!({"kind": "Other"}),
        "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got \
         apiextensions.k8s.io/v1, Kind=Other",
    );
    check(json!({"response": null}), "no response provided");
    check(json!({"response": {"uid": "u-2"}}), "expected response.uid=\"u-1\", got \"u-2\"");
    let result = |result: Value| json!({"response": {"result": result}});
    check(result(json!({"status": "Failure", "message": "no wind"})), "no wind");
    check(
        result(json!({"status": "Failure"})),
        "response.result.status was 'Failure', not 'Success'",
    );
    check(result(json!(null)), "response.result.status was '', not 'Success'");
    let told = review().settle(&[kite("v1", "a")], b"x").unwrap_err();
    assert!(told.contains("failed: couldn't get version/kind; json parse error: "), "{told}");
}

#[test]
fn older_answers_need_not_say_whose_they_are() {
    let beta = Review::of("example.com/v2", &["v1beta1".to_owned()], UID).unwrap();
    let answer = json!({"response": {"result": {"status": "Success"},
        "convertedObjects": [kite("v2", "a")]}});
    let settled = beta.settle(&[kite("v1", "a")], answer.to_string().as_bytes()).unwrap();
    assert_eq!(settled, [kite("v2", "a")]);
}

#[test]
fn objects_that_are_others_are_refused() {
    let check = |change: Value, one: &str, of_list: &str| {
        let mut odd = kite("v2", "a");
        json_patch::merge(&mut odd, &change);
        let told = settled(&[kite("v1", "a")], &answer(&json!([odd]))).unwrap_err();
        let prefix = "conversion webhook for example.com/v1, Kind=Kite returned ";
        assert_eq!(told.strip_prefix(prefix), Some(one), "{told}");
        let all = [kite("v1", "b"), kite("v1", "a")];
        let told = settled(&all, &answer(&json!([kite("v2", "b"), odd]))).unwrap_err();
        let prefix = "conversion webhook for example.com/v2, Kind=KiteList returned ";
        assert_eq!(told.strip_prefix(prefix), Some(of_list), "{told}");
    };
    let same = |change: Value, why: &str| {
        let (one, list) = ("invalid object", "invalid converted object at index 1");
        check(change, &format!("{one}: {why}"), &format!("{list}: {why}"));
    };
    let at = |change: Value, why: &str| {
        let (one, list) = ("invalid object at index 0", "invalid converted object at index 1");
        check(change, &format!("{one}: {why}"), &format!("{list}: {why}"));
    };
    let metadata = |change: Value, why: &str| {
        let (one, list) = ("invalid metadata", "invalid metadata in object at index 1");
        let change = json!({ "metadata": change });
        check(change, &format!("{one}: {why}"), &format!("{list}: {why}"));
    };
    at(
        json!({"apiVersion": "example.com/v1"}),
        "invalid groupVersion (expected example.com/v2, received example.com/v1)",
    );
    at(json!({"kind": "Bird"}), "invalid kind (expected Kite, received Bird)");
    same(json!({"metadata": {"name": "z"}}), "must have the same name: a != z");
    same(json!({"metadata": {"namespace": "m"}}), "must have the same namespace: n != m");
    same(json!({"metadata": {"uid": null}}), "must have the same UID: a != ");
    metadata(
        json!({"labels": ["a"]}),
        "invalid metadata.labels of type []interface {} in converted object",
    );
    metadata(
        json!({"annotations": {"a": 1}}),
        "metadata.annotations[a] must be a string, but is int64 in converted object",
    );
    metadata(
        json!({"labels": {"a": "-"}}),
        "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of \
         alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
         character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    );
}

#[test]
fn every_object_is_answered() {
    let two = [kite("v1", "a"), kite("v1", "b")];
    assert_eq!(
        settled(&two, &answer(&json!([kite("v2", "a")]))).unwrap_err(),
        "conversion webhook for example.com/v2, Kind=KiteList returned 1 objects, expected 2"
    );
    let swapped = json!([kite("v2", "b"), kite("v2", "a")]);
    assert_eq!(
        settled(&two, &answer(&swapped)).unwrap_err(),
        "conversion webhook for example.com/v2, Kind=KiteList returned invalid converted object at \
         index 0: must have the same name: a != b"
    );
    assert_eq!(
        settled(&two, &answer(&json!([kite("v2", "a"), {"x": 1}]))).unwrap_err(),
        "conversion webhook for example.com/v2, Kind=KiteList returned invalid converted object at \
         index 1: Object 'Kind' is missing in '{\"x\":1}'"
    );
    let none = settled(&two[..1], &answer(&json!([null]))).unwrap_err();
    assert_eq!(none, "Object 'Kind' is missing in 'null'");
    assert_eq!(
        settled(&two[..1], &answer(&json!([{"apiVersion": "example.com/v2", "kind": "Kite"}])))
            .unwrap_err(),
        "conversion webhook for example.com/v1, Kind=Kite returned invalid object: must have the \
         same name: a != "
    );
}
