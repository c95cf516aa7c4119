//! Answers in YAML.

use super::support::{Answer, Api};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use kinglet::registry::schema::{Format, decode};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const YAML: &str = "application/yaml";

#[track_caller]
fn read(answer: &Answer) -> Value {
    assert_eq!(answer.headers[CONTENT_TYPE], YAML, "{}", answer.text());
    decode(&answer.body, Format::Yaml).unwrap().value
}

#[tokio::test]
async fn whoever_asks_for_yaml_is_answered_in_it() {
    let api = Api::start().await;
    let written = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: 'yes'\n";
    let headers = [(CONTENT_TYPE, YAML), (ACCEPT, YAML)];
    let created = api.send(Method::POST, MAPS, &headers, written).await;
    assert_eq!((created.code, &read(&created)["data"]["k"]), (201, &json!("yes")));
    assert!(created.text().starts_with("apiVersion: v1\n"), "{}", created.text());

    let map = format!("{MAPS}/a");
    assert_eq!(read(&api.get_as(&map, YAML).await), api.get(&map).await.ok());
    assert_eq!(read(&api.get_as(MAPS, YAML).await), api.get(MAPS).await.ok());
    let table = read(&api.get_as(MAPS, "application/yaml;as=Table;g=meta.k8s.io;v=v1").await);
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    let missing = api.get_as(&format!("{MAPS}/b"), YAML).await;
    assert_eq!((missing.code, &read(&missing)["reason"]), (404, &json!("NotFound")));

    let watch = api.get_as(&format!("{MAPS}?watch=true"), YAML).await;
    assert_eq!(watch.code, 406);
    assert_eq!(
        read(&watch)["message"],
        "only the following media types are accepted: application/json;stream=watch, \
         application/vnd.kubernetes.protobuf;stream=watch"
    );
}
