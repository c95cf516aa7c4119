//! Large answers are compressed for those who understand it.

use super::support::Api;
use flate2::read::GzDecoder;
use http::Method;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING};
use serde_json::{Value, json};
use std::io::Read as _;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn with_maps(count: usize, bytes: usize) -> Api {
    let api = Api::start().await;
    for index in 0..count {
        let name = format!("m{index}");
        let map =
            json!({"metadata": {"name": name}, "data": {"text": "some text ".repeat(bytes / 10)}});
        api.post(CONFIG_MAPS, &map).await.ok();
    }
    api
}

fn unpack(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain
}

#[tokio::test]
async fn lists_and_objects_are_the_same_compressed() {
    let api = with_maps(3, 300_000).await;
    let object = format!("{CONFIG_MAPS}/m1");
    let list = format!("{CONFIG_MAPS}?limit=3");
    let table = format!("{CONFIG_MAPS}?includeObject=Object");
    for (path, accept) in [
        (&object, "application/json"),
        (&list, "application/json"),
        (&table, TABLE),
        (&list, PROTOBUF),
    ] {
        let plain = api.get_as(path, accept).await;
        assert!(!plain.headers.contains_key(CONTENT_ENCODING));
        let headers = [(ACCEPT, accept), (ACCEPT_ENCODING, "gzip")];
        let packed = api.send(Method::GET, path, &headers, "").await;
        assert_eq!(packed.headers[CONTENT_ENCODING], "gzip", "{path} {accept}");
        assert!(packed.body.len() * 20 < plain.body.len(), "{}", packed.body.len());
        // Ages in tables are those of the moment.
        let later = api.get_as(path, accept).await;
        let unpacked = unpack(&packed.body);
        assert!(unpacked == plain.body || unpacked == later.body, "{path} {accept}");
    }
}

#[tokio::test]
async fn small_answers_and_watches_are_not_compressed() {
    let api = with_maps(1, 300_000).await;
    let gzip = [(ACCEPT_ENCODING, "gzip")];
    let small = api.send(Method::GET, "/api/v1/namespaces/default", &gzip, "").await;
    assert!(!small.headers.contains_key(CONTENT_ENCODING));
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1");
    let watch = api.send(Method::GET, &path, &gzip, "").await;
    assert!(!watch.headers.contains_key(CONTENT_ENCODING));
    let event: Value = serde_json::from_slice(&watch.body).unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "m0");
}
