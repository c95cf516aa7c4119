//! Tables, as `kubectl get` asks for them.

use super::support::Api;
use serde_json::json;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn objects_and_lists_are_shown_as_tables() {
    let api = Api::start().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let created = api.post(CONFIG_MAPS, &map).await.ok();
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}/a")] {
        let table = api.get_as(&path, TABLE).await.ok();
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
        let columns = table["columnDefinitions"].as_array().unwrap();
        let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Name", "Data", "Age"]);
        let row = &table["rows"][0];
        assert_eq!(row["cells"][0], "a");
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row["object"]["metadata"], created["metadata"]);
    }
    for (include, expected) in [("None", json!(null)), ("Object", created)] {
        let path = format!("{CONFIG_MAPS}?includeObject={include}");
        let table = api.get_as(&path, TABLE).await.ok();
        assert_eq!(table["rows"][0]["object"], expected);
    }
}

#[tokio::test]
async fn an_empty_table_has_columns() {
    let api = Api::start().await;
    let table = api.get_as(CONFIG_MAPS, TABLE).await.ok();
    assert_eq!(table["rows"], json!([]));
    assert_eq!(table["columnDefinitions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_watch_tells_its_columns_once() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": name}})).await.ok();
    }
    let mut watch = api.watch_as(&format!("{CONFIG_MAPS}?watch=true"), TABLE).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"].as_array().unwrap().len(), 3);
    let second = watch.next().await.unwrap();
    assert!(second["object"]["columnDefinitions"].is_null());
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn metadata_alone_is_shown_on_request() {
    let api = Api::start().await;
    let created =
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await.ok();
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let shown = api.get_as(&format!("{CONFIG_MAPS}/a"), accept).await.ok();
    assert_eq!(shown["kind"], "PartialObjectMetadata");
    assert_eq!(shown["metadata"], created["metadata"]);
    assert!(shown.get("data").is_none());
    let mut watch = api.watch_as(&format!("{CONFIG_MAPS}?watch=true"), accept).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["object"], shown);
}

#[tokio::test]
async fn pretty_is_for_people() {
    let api = Api::start().await;
    let text = api.get(&format!("{CONFIG_MAPS}?pretty=true")).await.text();
    assert!(text.contains("\n  \"kind\": \"ConfigMapList\""), "{text}");
}

#[tokio::test]
async fn the_parts_of_the_control_plane_are_well() {
    const PATH: &str = "/api/v1/componentstatuses";
    let api = Api::start().await;
    let answer = api.get_as(PATH, TABLE).await;
    let deprecated = ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""];
    assert_eq!(answer.warnings(), deprecated);
    let table = answer.ok();
    let rows = table["rows"].as_array().unwrap();
    let cells: Vec<_> = rows.iter().map(|row| row["cells"].clone()).collect();
    let well = |name: &str| json!([name, "Healthy", "ok", ""]);
    assert_eq!(cells, ["controller-manager", "scheduler", "etcd-0"].map(well));

    let one = api.get(&format!("{PATH}/etcd-0")).await;
    assert_eq!(one.warnings(), deprecated);
    let one = one.ok();
    assert_eq!(
        (&one["kind"], &one["metadata"]["name"]),
        (&json!("ComponentStatus"), &json!("etcd-0"))
    );
    let healthy = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    assert_eq!(one["conditions"], healthy);
    assert_eq!(api.get(&format!("{PATH}/other")).await.code, 404);
    assert_eq!(api.delete(&format!("{PATH}/etcd-0")).await.code, 405);
    for (selector, expected) in
        [("fieldSelector=metadata.name%3Dscheduler", 1), ("labelSelector=a", 0)]
    {
        let list = api.get(&format!("{PATH}?{selector}")).await.ok();
        assert_eq!(list["kind"], "ComponentStatusList");
        assert_eq!(list["items"].as_array().unwrap().len(), expected, "{selector}");
    }
}

#[tokio::test]
async fn a_scale_is_shown_as_a_table() {
    let api = Api::start().await;
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let created = api.post(deployments, &deployment).await.ok();
    let path = format!("{deployments}/web/scale");
    let table = api.get_as(&path, TABLE).await.ok();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    let revision = &created["metadata"]["resourceVersion"];
    assert_eq!(&table["metadata"]["resourceVersion"], revision);
    let row = &table["rows"][0];
    assert_eq!(row["cells"].as_array().unwrap()[..3], [json!("web"), json!(3), json!(0)]);
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(&row["object"]["metadata"]["resourceVersion"], revision);
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let partial = api.get_as(&path, partial).await.ok();
    assert_eq!(partial["metadata"]["uid"], created["metadata"]["uid"]);
}
