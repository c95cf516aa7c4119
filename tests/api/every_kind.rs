//! Every verb of every kind, as clients see it. A kind is covered by being in the table.

mod samples;

use super::support::{Answer, Api, Lines};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use kinglet::registry::KindFacts;
use kinglet::registry::schema::protobuf::{Envelope, TypeMeta, decode, encode};
use kinglet::registry::schema::{BUILT_IN, TypeRef};
use samples::{MARK, Sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many servers are there at once.
const SERVERS_MAX: usize = 8;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const APPLY: &str = "application/apply-patch+yaml";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// Has `walk` done for each kind that is wanted, each on a server of its own, and says for which it
/// has failed.
async fn each<F>(is_wanted: impl Fn(&KindFacts) -> bool, walk: impl Fn(Api, Sample) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(SERVERS_MAX));
    let (mut tasks, mut titles) = (JoinSet::new(), BTreeMap::new());
    for sample in Sample::all().filter(|sample| is_wanted(sample.facts())) {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let title = sample.title();
        let walking = walk(Api::start().await, sample);
        let task = tasks.spawn(async move {
            walking.await;
            drop(place);
        });
        titles.insert(task.id(), title);
    }
    assert!(!titles.is_empty());
    let mut failed = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        failed.extend(ended.err().map(|error| titles[&error.id()].clone()));
    }
    assert_eq!(failed, Vec::<String>::new());
}

fn is_stored(facts: &KindFacts) -> bool {
    facts.is_stored()
}

fn annotated(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["annotations"][name] = json!("1");
    object
}

#[track_caller]
fn check_annotated(object: &Value, name: &str) {
    assert_eq!(object["metadata"]["annotations"][name], "1", "{object}");
}

async fn patch(api: &Api, path: &str, media_type: &str, body: &Value) -> Answer {
    api.send(Method::PATCH, path, &[(CONTENT_TYPE, media_type)], body.to_string()).await
}

async fn create(api: &Api, sample: &Sample, number: usize) -> Value {
    let answer = api.post(&sample.collection(), &sample.object(number)).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

/// An object as one of a list, which says of what kind all of them are.
fn item(mut object: Value) -> Value {
    for field in ["apiVersion", "kind"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

/// The marked objects, as a list has them.
async fn listed(api: &Api, sample: &Sample) -> Vec<Value> {
    api.get(&sample.marked()).await.ok()["items"].as_array().unwrap().clone()
}

/// Watches the marked objects from now on.
async fn watch(api: &Api, sample: &Sample) -> Lines {
    let list = api.get(&sample.marked()).await.ok();
    assert_eq!(list["kind"], format!("{}List", sample.facts().kind));
    assert_eq!(list["items"], json!([]));
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    api.watch(&format!("{}&watch=true&resourceVersion={revision}", sample.marked())).await
}

#[track_caller]
fn check_event(event: Option<Value>, kind: &str, object: &Value) {
    assert_eq!(event, Some(json!({"type": kind, "object": object})));
}

/// Takes away what holds an object that was deleted, as whoever put it there does.
async fn release(api: &Api, sample: &Sample, number: usize) {
    let path = sample.path(number);
    let answer = api.get(&path).await;
    if answer.code == 404 {
        return;
    }
    let mut object = answer.ok();
    assert!(object["metadata"]["deletionTimestamp"].is_string(), "{object}");
    if sample.facts().kind == "CustomResourceDefinition" {
        let gone = json!({"status": {"conditions": [{
            "type": "Terminating", "status": "False", "reason": "InstanceDeletionCompleted",
        }]}});
        api.patch(&format!("{path}/status"), "merge", &gone).await.ok();
    }
    if sample.facts().subresource("finalize").is_some() {
        object["spec"]["finalizers"] = json!([]);
        api.put(&format!("{path}/finalize"), &object).await.ok();
    } else {
        api.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await.ok();
    }
    assert_eq!(api.get(&path).await.code, 404, "{path}");
}

#[tokio::test]
async fn objects_of_every_kind_are_made_read_and_watched() {
    each(is_stored, |api, sample| async move {
        let (collection, path) = (sample.collection(), sample.path(1));
        let mut events = watch(&api, &sample).await;
        let object = sample.object(1);
        let dry = api.post(&format!("{collection}?dryRun=All"), &object).await;
        assert_eq!(dry.code, 201, "{}", dry.text());
        assert_eq!(api.get(&path).await.code, 404);
        let created = create(&api, &sample, 1).await;
        assert_eq!(created["apiVersion"], sample.facts().api_version());
        assert_eq!(created["kind"], *sample.facts().kind);
        assert_eq!(api.get(&path).await.ok(), created);
        check_event(events.next().await, "ADDED", &created);
        assert_eq!(listed(&api, &sample).await, [item(created.clone())]);
        let (code, reason, _) = api.post(&collection, &object).await.refused();
        assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
        let other = annotated(&object, "nobody");
        let strict = format!("{collection}?fieldValidation=Strict&dryRun=All");
        let mut unknown = sample.object(2);
        unknown["nobodyKnowsThis"] = json!(1);
        let (code, _, message) = api.post(&strict, &unknown).await.refused();
        assert_eq!(code, 400);
        assert!(message.contains("unknown field \"nobodyKnowsThis\""), "{message}");
        assert_eq!(api.post(&collection, &other).await.code, 409);
    })
    .await;
}

#[tokio::test]
async fn objects_of_every_kind_are_changed_in_every_way() {
    each(is_stored, |api, sample| async move {
        let path = sample.path(1);
        let mut events = watch(&api, &sample).await;
        let created = create(&api, &sample, 1).await;
        check_event(events.next().await, "ADDED", &created);
        let dry_path = format!("{path}?dryRun=All");
        let updated = annotated(&created, "update");
        check_annotated(&api.put(&dry_path, &updated).await.ok(), "update");
        assert_eq!(api.get(&path).await.ok(), created);
        let mut before = api.put(&path, &updated).await.ok();
        check_annotated(&before, "update");
        check_event(events.next().await, "MODIFIED", &before);
        let (code, reason, _) = api.put(&path, &annotated(&updated, "late")).await.refused();
        assert_eq!((code, reason.as_str()), (409, "Conflict"));

        let merge = |name: &str| json!({"metadata": {"annotations": {name: "1"}}});
        let add = json!([{"op": "add", "path": "/metadata/annotations/json", "value": "1"}]);
        for (name, body) in [
            ("json", add),
            ("merge", merge("merge")),
            ("strategic-merge", merge("strategic-merge")),
        ] {
            check_annotated(&api.patch(&dry_path, name, &body).await.ok(), name);
            assert_eq!(api.get(&path).await.ok(), before);
            let after = api.patch(&path, name, &body).await.ok();
            check_annotated(&after, name);
            check_event(events.next().await, "MODIFIED", &after);
            assert_eq!(api.patch(&path, name, &body).await.ok(), after, "once is enough");
            before = after;
        }
        assert_eq!(api.get(&path).await.ok(), before);
        // What has no place is no patch.
        let nowhere = json!([{"op": "remove", "path": "/metadata/annotations/nobody"}]);
        assert_eq!(api.patch(&path, "json", &nowhere).await.code, 422);
    })
    .await;
}

/// Server-side apply: of what is there, of what is not, by several managers.
#[tokio::test]
async fn objects_of_every_kind_are_applied() {
    each(is_stored, |api, sample| async move {
        let facts = sample.facts();
        let wanted = |number: usize, value: &str| {
            json!({
                "apiVersion": facts.api_version(), "kind": facts.kind,
                "metadata": {"name": sample.name(number), "annotations": {"apply": value}},
            })
        };
        create(&api, &sample, 1).await;
        let path = sample.path(1);
        let by = |manager: &str| format!("{path}?fieldManager={manager}");
        let dry = patch(&api, &format!("{}&dryRun=All", by("one")), APPLY, &wanted(1, "1")).await;
        check_annotated(&dry.ok(), "apply");
        let applied = patch(&api, &by("one"), APPLY, &wanted(1, "1")).await.ok();
        check_annotated(&applied, "apply");
        assert_eq!(api.get(&path).await.ok(), applied);
        let managers = applied["metadata"]["managedFields"].as_array().unwrap();
        let mine = managers.iter().find(|it| it["manager"] == "one").unwrap();
        assert_eq!(mine["operation"], "Apply");
        assert_eq!(mine["apiVersion"], facts.api_version());
        let fields = json!({"f:metadata": {"f:annotations": {"f:apply": {}}}});
        assert_eq!(mine["fieldsV1"], fields);
        let again = patch(&api, &by("one"), APPLY, &wanted(1, "1")).await.ok();
        assert_eq!(again, applied, "once is enough");
        let conflict = patch(&api, &by("two"), APPLY, &wanted(1, "2")).await;
        let (code, reason, message) = conflict.refused();
        assert_eq!((code, reason.as_str()), (409, "Conflict"));
        assert!(message.contains("conflict with \"one\""), "{message}");
        let forced = format!("{}&force=true", by("two"));
        let forced = patch(&api, &forced, APPLY, &wanted(1, "2")).await.ok();
        assert_eq!(forced["metadata"]["annotations"]["apply"], "2");

        // Whole, where there is nothing yet.
        let path = format!("{}?fieldManager=one", sample.path(2));
        let created = patch(&api, &path, APPLY, &sample.object(2)).await;
        assert_eq!(created.code, 201, "{}", created.text());
        let again = patch(&api, &path, APPLY, &sample.object(2)).await.ok();
        assert_eq!(again, created.json(), "once is enough");
    })
    .await;
}

#[tokio::test]
async fn objects_of_every_kind_are_deleted() {
    each(is_stored, |api, sample| async move {
        let path = sample.path(1);
        let mut events = watch(&api, &sample).await;
        let created = create(&api, &sample, 1).await;
        check_event(events.next().await, "ADDED", &created);
        assert!(api.delete(&format!("{path}?dryRun=All")).await.code < 300);
        assert_eq!(api.get(&path).await.ok(), created);
        let other = json!({"preconditions": {"uid": "another"}});
        assert_eq!(api.delete_with(&path, &other).await.refused().0, 409);
        let options = json!({
            "gracePeriodSeconds": 0, "propagationPolicy": "Background",
            "preconditions": {"uid": created["metadata"]["uid"]},
        });
        let deleted = api.delete_with(&path, &options).await;
        assert!(matches!(deleted.code, 200 | 202), "{} {}", deleted.code, deleted.text());
        release(&api, &sample, 1).await;
        assert_eq!(api.delete(&path).await.refused().0, 404);
        loop {
            let event = events.next().await.unwrap();
            assert_eq!(event["object"]["metadata"]["uid"], created["metadata"]["uid"]);
            match event["type"].as_str().unwrap() {
                "DELETED" => break,
                other => assert_eq!(other, "MODIFIED"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn many_objects_of_every_kind_are_listed_in_pages_and_deleted_together() {
    const COUNT: usize = 3;
    const PAGES_MAX: usize = 10;
    each(is_stored, |api, sample| async move {
        let mut all = Vec::new();
        for number in 1..=COUNT {
            all.push(item(create(&api, &sample, number).await));
        }
        all.sort_by_key(|object| object["metadata"]["name"].as_str().unwrap().to_owned());
        assert_eq!(listed(&api, &sample).await, all);
        let (mut paged, mut further, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = api.get(&format!("{}&limit=1{further}", sample.marked())).await.ok();
            paged.extend(page["items"].as_array().unwrap().clone());
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => further = format!("&continue={token}"),
                _ => break,
            }
            // The last page may be empty: others that follow are not known to be unmarked.
            pages += 1;
            assert!(pages <= PAGES_MAX, "{paged:?}");
        }
        assert_eq!(paged, all);
        let (marked, unmarked) = (sample.marked(), format!("{}?{MARK}x", sample.collection()));
        if !sample.takes("deletecollection") {
            assert_eq!(api.delete(&marked).await.refused().0, 405);
            return;
        }
        for path in [format!("{marked}&dryRun=All"), unmarked] {
            assert_eq!(api.delete(&path).await.code, 200, "{path}");
            assert_eq!(listed(&api, &sample).await, all);
        }
        let answer = api.delete_with(&marked, &json!({"gracePeriodSeconds": 0})).await;
        assert_eq!(answer.code, 200, "{}", answer.text());
        for number in 1..=COUNT {
            release(&api, &sample, number).await;
        }
        assert_eq!(listed(&api, &sample).await, Vec::<Value>::new());
    })
    .await;
}

/// What an answer in protobuf holds.
#[track_caller]
fn message(answer: &Answer, of: TypeRef) -> Value {
    assert_eq!(answer.headers[CONTENT_TYPE], PROTOBUF, "{}", answer.text());
    let envelope = Envelope::parse(&answer.body).unwrap();
    let mut value = decode(of, envelope.raw).unwrap();
    write_whole_numbers_whole(&mut value);
    value["apiVersion"] = json!(envelope.type_meta.api_version);
    value["kind"] = json!(envelope.type_meta.kind);
    value
}

/// A message has `1` and `1.0` alike, where the field is no integer.
fn write_whole_numbers_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|it| number.is_f64() && it.fract() == 0.0);
            if let Some(whole) = whole {
                *value = serde_json::from_str(&format!("{whole:.0}")).unwrap();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers_whole),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The type of a kind's lists.
fn list_type(facts: &KindFacts) -> TypeRef {
    let name = format!("{}List", facts.kind);
    let is_it = |view: &kinglet::registry::schema::TypeView<'_>| {
        view.name() == name && view.group() == facts.group && view.version() == facts.version
    };
    BUILT_IN.types().find(|(_, view)| is_it(view)).expect("every kind has lists").0
}

#[tokio::test]
async fn objects_of_every_kind_have_all_encodings() {
    each(is_stored, |api, sample| async move {
        let of = sample.kind.built_in_schema().unwrap();
        let object = sample.object(1).to_string();
        let body = encode(of, &TypeMeta::of(of), object.as_bytes()).unwrap();
        let both = [(CONTENT_TYPE, PROTOBUF), (ACCEPT, PROTOBUF)];
        let created = api.send(Method::POST, &sample.collection(), &both, body).await;
        assert_eq!(created.code, 201, "{}", created.text());
        let path = sample.path(1);
        let shown = api.get(&path).await.ok();
        assert_eq!(message(&created, of), shown);
        assert_eq!(message(&api.get_as(&path, PROTOBUF).await, of), shown);
        let list = api.get(&sample.marked()).await.ok();
        assert_eq!(list["items"], json!([item(shown.clone())]));
        let as_message = api.get_as(&sample.marked(), PROTOBUF).await;
        assert_eq!(message(&as_message, list_type(sample.facts())), list);

        for path in [&path, &sample.marked()] {
            let table = api.get_as(path, TABLE).await.ok();
            assert_eq!(table["kind"], "Table");
            let (columns, rows) = (&table["columnDefinitions"], table["rows"].as_array().unwrap());
            assert_eq!(rows.len(), 1);
            assert_eq!(
                rows[0]["cells"].as_array().unwrap().len(),
                columns.as_array().unwrap().len()
            );
            assert_eq!(rows[0]["object"]["metadata"], shown["metadata"]);
        }
        let partial = api.get_as(&path, PARTIAL).await.ok();
        assert_eq!(partial["kind"], "PartialObjectMetadata");
        assert_eq!(partial["metadata"], shown["metadata"]);
        let partial = api.get_as(&sample.marked(), PARTIAL_LIST).await.ok();
        assert_eq!(partial["kind"], "PartialObjectMetadataList");
        assert_eq!(partial["items"][0]["metadata"], shown["metadata"]);
        assert_eq!(api.get_as(&path, "text/plain").await.code, 406);
        let text = [(CONTENT_TYPE, "text/plain")];
        assert_eq!(api.send(Method::POST, &sample.collection(), &text, "a").await.code, 415);
    })
    .await;
}

#[tokio::test]
async fn every_status_is_written_by_its_own_path() {
    each(KindFacts::has_status, |api, sample| async move {
        let created = create(&api, &sample, 1).await;
        let path = sample.path(1);
        let of_status = format!("{path}/status");
        assert_eq!(api.get(&of_status).await.ok(), created);
        let reported = json!({"status": sample.status()});
        let dry = format!("{of_status}?dryRun=All");
        let would_be = api.patch(&dry, "merge", &reported).await.ok();
        assert_eq!(api.get(&path).await.ok(), created);
        let after = api.patch(&of_status, "merge", &reported).await.ok();
        assert_eq!(after["status"], would_be["status"]);
        assert_eq!(after["spec"], created["spec"]);
        assert_eq!(api.get(&path).await.ok(), after);
        let same = api.put(&of_status, &after).await.ok();
        assert_eq!(same, after, "once is enough");
        // By the object's own path it stays as it is.
        let mut without = annotated(&after, "update");
        without.as_object_mut().unwrap().remove("status");
        assert_eq!(api.put(&path, &without).await.ok()["status"], after["status"]);
    })
    .await;
}

#[tokio::test]
async fn every_scale_is_read_and_set() {
    let is_scaled = |facts: &KindFacts| facts.subresource("scale").is_some();
    each(is_scaled, |api, sample| async move {
        create(&api, &sample, 1).await;
        let (path, of_scale) = (sample.path(1), format!("{}/scale", sample.path(1)));
        let mut scale = api.get(&of_scale).await.ok();
        assert_eq!(
            (&scale["apiVersion"], &scale["kind"]),
            (&json!("autoscaling/v1"), &json!("Scale"))
        );
        scale["spec"]["replicas"] = json!(7);
        let dry = api.put(&format!("{of_scale}?dryRun=All"), &scale).await.ok();
        assert_eq!(dry["spec"]["replicas"], 7);
        assert_ne!(api.get(&path).await.ok()["spec"]["replicas"], 7);
        assert_eq!(api.put(&of_scale, &scale).await.ok()["spec"]["replicas"], 7);
        let patched = api.patch(&of_scale, "merge", &json!({"spec": {"replicas": 8}})).await;
        assert_eq!(patched.ok()["spec"]["replicas"], 8);
        assert_eq!(api.get(&path).await.ok()["spec"]["replicas"], 8);
    })
    .await;
}

/// A question is answered, and is nowhere after that.
#[tokio::test]
async fn every_question_is_answered() {
    each(KindFacts::is_question, |api, sample| async move {
        for dry_run in ["", "?dryRun=All"] {
            let asked = format!("{}{dry_run}", sample.collection());
            let mut question = sample.object(1);
            question["metadata"] = json!({});
            let answer = api.post(&asked, &question).await;
            assert_eq!(answer.code, 201, "{}", answer.text());
            assert!(answer.json()["status"].is_object(), "{}", answer.text());
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_kind_does_not_do_is_refused() {
    let lacks = |facts: &KindFacts| facts.is_question() || !facts.is_stored();
    each(lacks, |api, sample| async move {
        let (collection, path) = (sample.collection(), sample.path(1));
        for (verb, method, path) in [
            ("create", Method::POST, &collection),
            ("list", Method::GET, &collection),
            ("watch", Method::GET, &format!("{collection}?watch=true")),
            ("deletecollection", Method::DELETE, &collection),
            ("get", Method::GET, &path),
            ("update", Method::PUT, &path),
            ("patch", Method::PATCH, &path),
            ("delete", Method::DELETE, &path),
        ] {
            if sample.takes(verb) {
                continue;
            }
            let body = sample.object(1).to_string();
            let answer = api.send(method, path, &[], body).await;
            assert_eq!(answer.refused().0, 405, "{verb}");
        }
    })
    .await;
}
