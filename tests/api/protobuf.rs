//! Protobuf in and out: what Go clients send for built-in kinds, and what they ask for.

use super::support::{Answer, Api, DEADLINE};
use bytes::{Buf as _, Bytes};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use kinglet::registry::schema::protobuf::{Envelope, TypeMeta, decode, encode};
use kinglet::registry::schema::{TypeRef, types};
use kinglet::stdx::http::Body;
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn body(of: TypeRef, value: &Value) -> Vec<u8> {
    encode(of, &TypeMeta::of(of), value.to_string().as_bytes()).unwrap()
}

async fn send(api: &Api, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
    let headers = [(CONTENT_TYPE, PROTOBUF), (ACCEPT, PROTOBUF)];
    api.send(method, path, &headers, body).await
}

/// What an answer in protobuf holds, `apiVersion` and `kind` included.
#[track_caller]
fn read(answer: &Answer, of: TypeRef) -> Value {
    assert_eq!(answer.headers[CONTENT_TYPE], PROTOBUF);
    read_body(&answer.body, of)
}

fn read_body(body: &[u8], of: TypeRef) -> Value {
    let envelope = Envelope::parse(body).unwrap();
    let mut value = decode(of, envelope.raw).unwrap();
    value["apiVersion"] = json!(envelope.type_meta.api_version);
    value["kind"] = json!(envelope.type_meta.kind);
    value
}

/// Code, reason and message of a refusal in protobuf.
#[track_caller]
fn refused(answer: &Answer) -> (u16, String) {
    let status = read(answer, types::STATUS);
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")));
    assert_eq!(status["code"], answer.code);
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    (answer.code, format!("{}: {}", text("reason"), text("message")))
}

/// `kubectl create configmap a --from-literal=x=y`, as version 1.32 sends it.
const CREATE_CONFIG_MAP: &[u8] =
    b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x22\x0a\x18\x0a\x01a\
    \x12\0\x1a\x07default\x22\0\x2a\0\x32\0\x38\0\x42\0\x12\x06\x0a\x01x\x12\x01y\x1a\0\x22\0";

#[tokio::test]
async fn an_object_is_stored_alike_however_it_came() {
    let api = Api::start().await;
    let created = send(&api, Method::POST, CONFIG_MAPS, CREATE_CONFIG_MAP).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let created = read(&created, types::CONFIG_MAP);
    let shown = api.get(&format!("{CONFIG_MAPS}/a")).await.ok();
    assert_eq!(created, shown);
    assert_eq!(shown["data"], json!({"x": "y"}));
    let mut metadata: Vec<_> = shown["metadata"].as_object().unwrap().keys().collect();
    metadata.retain(|name| *name != "managedFields");
    assert_eq!(metadata, ["creationTimestamp", "name", "namespace", "resourceVersion", "uid"]);

    let mut update = shown.clone();
    update["data"]["z"] = json!("");
    let path = format!("{CONFIG_MAPS}/a");
    let updated = send(&api, Method::PUT, &path, body(types::CONFIG_MAP, &update)).await;
    assert_eq!(read(&updated, types::CONFIG_MAP)["data"], json!({"x": "y", "z": ""}));
    // Made from what is no longer the newest.
    let (code, message) =
        refused(&send(&api, Method::PUT, &path, body(types::CONFIG_MAP, &update)).await);
    assert_eq!(code, 409);
    assert!(message.starts_with("Conflict: "), "{message}");
}

#[tokio::test]
async fn lists_and_metadata_alone_come_as_messages() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        let map = json!({"metadata": {"name": name}, "data": {"k": "v".repeat(1_000)}});
        api.post(CONFIG_MAPS, &map).await.ok();
    }
    let as_json = api.get(&format!("{CONFIG_MAPS}?limit=1")).await.ok();
    let as_message = api.get_as(&format!("{CONFIG_MAPS}?limit=1"), PROTOBUF).await;
    assert_eq!(read(&as_message, types::CONFIG_MAP_LIST), as_json);
    assert_eq!(as_json["kind"], "ConfigMapList");

    let partial = |kind: &str| format!("{PROTOBUF};as={kind};g=meta.k8s.io;v=v1,application/json");
    let answer = api.get_as(CONFIG_MAPS, &partial("PartialObjectMetadataList")).await;
    let list = read(&answer, types::PARTIAL_OBJECT_METADATA_LIST);
    assert_eq!(list["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][1]["metadata"]["name"], "b");
    let answer = api.get_as(&format!("{CONFIG_MAPS}/a"), &partial("PartialObjectMetadata")).await;
    let object = read(&answer, types::PARTIAL_OBJECT_METADATA);
    assert_eq!(
        (&object["kind"], &object["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), &json!("a"))
    );
    // There is no message for a table.
    let table = api.get_as(CONFIG_MAPS, &partial("Table")).await;
    assert_eq!(table.ok()["kind"], "ConfigMapList");
}

#[tokio::test]
async fn bodies_that_are_no_messages_are_refused() {
    let api = Api::start().await;
    let map = |value: Value| body(types::CONFIG_MAP, &value);
    let named = TypeMeta::of(types::CONFIG_MAP);
    let other = encode(types::POD, &TypeMeta::of(types::POD), b"{}").unwrap();
    let old = TypeMeta { api_version: "v2".into(), ..named };
    let old = encode(types::CONFIG_MAP, &old, b"{}").unwrap();
    let truncated = &CREATE_CONFIG_MAP[..30];
    for (bytes, code, part) in [
        (b"{}".to_vec(), 400, "does not appear to be a protobuf message"),
        (b"k8s\0".to_vec(), 400, "empty body"),
        (truncated.to_vec(), 400, "the data ends in the middle of a field"),
        (
            b"k8s\0\x12\x02\x08\x01".to_vec(),
            400,
            "metadata: the wire type is not that of the field",
        ),
        (other, 400, "Pod in version \"v1\" cannot be handled as a ConfigMap"),
        (old, 400, "does not match the expected API version (v1)"),
        (map(json!({"data": {"a": "b"}})), 422, "name or generateName is required"),
        (map(json!({"metadata": {"name": "a"}, "data": {"!": ""}})), 422, "a valid config key"),
    ] {
        let (is, message) = refused(&send(&api, Method::POST, CONFIG_MAPS, bytes).await);
        assert_eq!(is, code, "{message}");
        assert!(message.contains(part), "{message}");
    }
    let quantity = json!({"metadata": {"name": "a"}, "spec": {"overhead": {"cpu": "x"}}});
    let (code, message) =
        refused(&send(&api, Method::POST, PODS, body(types::POD, &quantity)).await);
    assert_eq!(code, 400, "{message}");
    assert!(message.contains("quantities must match"), "{message}");
}

#[tokio::test]
async fn what_is_not_an_object_of_the_path_is_read_too() {
    let api = Api::start().await;
    let pod =
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = read(&send(&api, Method::POST, PODS, body(types::POD, &pod)).await, types::POD);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    let bound =
        send(&api, Method::POST, &format!("{PODS}/a/binding"), body(types::BINDING, &binding))
            .await;
    assert_eq!(read(&bound, types::STATUS)["status"], "Success");

    let path = format!("{PODS}/a");
    let options = json!({"preconditions": {"uid": "other"}, "gracePeriodSeconds": 0});
    let options = body(types::DELETE_OPTIONS, &options);
    assert_eq!(refused(&send(&api, Method::DELETE, &path, options).await).0, 409);
    let pods = body(types::POD, &pod);
    let (code, message) = refused(&send(&api, Method::DELETE, &path, pods).await);
    assert_eq!(code, 400);
    assert!(message.contains("cannot be handled as a DeleteOptions"), "{message}");

    let eviction = json!({"metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    let eviction = body(types::EVICTION, &eviction);
    let evicted = send(&api, Method::POST, &format!("{PODS}/a/eviction"), eviction).await;
    assert_eq!(read(&evicted, types::STATUS)["status"], "Success");
    assert_eq!(api.get(&path).await.refused().0, 404);
}

#[tokio::test]
async fn workloads_are_scaled() {
    let api = Api::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let selector = json!({"matchLabels": {"app": "web"}});
    let deployment =
        json!({"metadata": {"name": "web"}, "spec": {"selector": selector, "template": template}});
    let deployment = body(types::DEPLOYMENT, &deployment);
    let created = send(&api, Method::POST, deployments, deployment).await;
    assert_eq!(read(&created, types::DEPLOYMENT)["spec"]["replicas"], 1);
    let path = format!("{deployments}/web/scale");
    let mut scale = read(&api.get_as(&path, PROTOBUF).await, types::SCALE);
    assert_eq!(scale["apiVersion"], "autoscaling/v1");
    scale["spec"]["replicas"] = json!(0);
    let scaled = send(&api, Method::PUT, &path, body(types::SCALE, &scale)).await;
    assert_eq!(scaled.code, 200);
    let shown = api.get(&format!("{deployments}/web")).await.ok();
    assert_eq!(shown["spec"]["replicas"], 0);
}

/// The frames of a watch.
struct Frames {
    body: Body,
    read: bytes::BytesMut,
}

impl Frames {
    async fn open(api: &Api, path: &str, accept: &str) -> Self {
        let response = api.open(Method::GET, path, &[(ACCEPT, accept)], "").await;
        assert_eq!(response.headers()[CONTENT_TYPE], format!("{PROTOBUF};stream=watch"));
        Self { body: response.into_body(), read: bytes::BytesMut::new() }
    }

    async fn frame(&mut self) -> Bytes {
        loop {
            if let Some((length, rest)) = self.read.split_first_chunk() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
                if rest.len() >= length {
                    self.read.advance(4);
                    return self.read.split_to(length).freeze();
                }
            }
            let piece = self.body.frame().await.expect("one more event").unwrap();
            self.read.extend_from_slice(piece.data_ref().unwrap());
        }
    }

    /// The next event: its type and its object, in an envelope. The event itself has none.
    async fn next(&mut self) -> (String, Vec<u8>) {
        let frame = tokio::time::timeout(DEADLINE, self.frame()).await.expect("an event in time");
        let name = usize::from(frame[1]);
        assert_eq!((frame[0], frame[2 + name]), (0x0a, 0x12));
        let start = frame.windows(4).position(|window| window == b"k8s\0").unwrap();
        (String::from_utf8(frame[2..2 + name].to_vec()).unwrap(), frame[start..].to_vec())
    }
}

#[tokio::test]
async fn watches_are_sent_in_frames() {
    let api = Api::start().await;
    let create = json!({"metadata": {"name": "a"}, "data": {"k": "v".repeat(1_000)}});
    let created = api.post(CONFIG_MAPS, &create).await.ok();
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true\
         &resourceVersionMatch=NotOlderThan"
    );
    let mut watch = Frames::open(&api, &path, PROTOBUF).await;
    let (name, object) = watch.next().await;
    assert_eq!((name.as_str(), read_body(&object, types::CONFIG_MAP)), ("ADDED", created.clone()));
    let (name, object) = watch.next().await;
    let bookmark = read_body(&object, types::CONFIG_MAP);
    let revision = &created["metadata"]["resourceVersion"];
    assert_eq!((name.as_str(), &bookmark["metadata"]["resourceVersion"]), ("BOOKMARK", revision));
    assert_eq!(bookmark["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    api.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    let (name, object) = watch.next().await;
    assert_eq!(name, "DELETED");
    assert_eq!(read_body(&object, types::CONFIG_MAP)["data"], created["data"]);

    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let mut watch = Frames::open(
        &api,
        &format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", revision.as_str().unwrap()),
        &partial,
    )
    .await;
    let (name, object) = watch.next().await;
    assert_eq!(name, "DELETED");
    let object = read_body(&object, types::PARTIAL_OBJECT_METADATA);
    assert_eq!(object["kind"], "PartialObjectMetadata");
    assert_eq!(object["metadata"]["name"], "a");
}
