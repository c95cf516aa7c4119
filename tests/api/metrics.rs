//! `/metrics`: what the server tells of itself.

use super::support::Api;
use serde_json::json;

fn value(text: &str, line: &str) -> Option<f64> {
    let mut values = text.lines().filter_map(|shown| shown.strip_prefix(line));
    values.next()?.trim().parse().ok()
}

#[tokio::test]
async fn requests_are_counted_by_sort_and_code() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["a", "b"] {
        api.post(maps, &json!({"metadata": {"name": name}})).await.ok();
    }
    api.post(maps, &json!({"metadata": {"name": "a"}})).await;
    api.get(&format!("{maps}/a")).await.ok();
    api.get(maps).await.ok();
    api.get("/apis/none.example.com/v1/things").await;
    api.get(&format!("{maps}/a/none")).await;
    let text = api.get("/metrics").await.text();
    let sort = |name: &str, scope: &str, verb: &str, more: &str| {
        format!(
            "{name}{{{more}component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",\
             scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}}"
        )
    };
    for (scope, verb, code, expected) in [
        ("namespace", "POST", "201", 2.0),
        ("namespace", "POST", "409", 1.0),
        ("resource", "GET", "200", 1.0),
        ("namespace", "LIST", "200", 1.0),
    ] {
        let line = sort("apiserver_request_total", scope, verb, &format!("code=\"{code}\","));
        assert_eq!(value(&text, &line), Some(expected), "{line}\n{text}");
    }
    let count = sort("apiserver_request_duration_seconds_count", "namespace", "POST", "");
    assert_eq!(value(&text, &count), Some(3.0), "{text}");
    // What is not served is not told by its name.
    assert!(!text.contains("none.example.com") && !text.contains("\"none\""), "{text}");
    let objects = "apiserver_resource_objects{group=\"\",resource=\"configmaps\"}";
    assert_eq!(value(&text, objects), Some(2.0));
    assert_eq!(value(&text, "apiserver_storage_objects{resource=\"configmaps\"}"), Some(2.0));
    let commits = "kinglet_store_request_duration_seconds_count{operation=\"commit\"}";
    assert!(value(&text, commits).unwrap() >= 2.0);
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total"] {
        assert!(value(&text, &format!("{name} ")).is_some(), "{name}");
    }
    let well = "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"}";
    assert_eq!(value(&text, well), Some(1.0));
    let slis = api.get("/metrics/slis").await.text();
    assert_eq!(value(&slis, well), Some(1.0));
}

#[tokio::test]
async fn watches_are_counted_while_they_last() {
    let api = Api::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let labels = "component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"namespace\",\
                  subresource=\"\",verb=\"WATCH\",version=\"v1\"";
    let underway = format!("apiserver_longrunning_requests{{{labels}}}");
    let mut watch = api.watch(&format!("{maps}?watch=true")).await;
    let before = api.get("/metrics").await.text();
    assert_eq!(value(&before, &underway), Some(1.0), "{before}");
    api.post(maps, &json!({"metadata": {"name": "a"}})).await.ok();
    watch.next().await;
    let during = api.get("/metrics").await.text();
    let events = "apiserver_watch_events_total{group=\"\",resource=\"configmaps\",version=\"v1\"}";
    assert_eq!(value(&during, events), Some(1.0), "{during}");
    drop(watch);
    let after = api.get("/metrics").await.text();
    assert_eq!(value(&after, &underway), Some(0.0), "{after}");
}

#[tokio::test]
async fn checks_of_health_can_be_left_out_and_asked_alone() {
    let api = Api::start().await;
    let text = api.get("/livez?verbose&exclude=etcd&exclude=none").await.text();
    assert_eq!(
        text,
        "[+]ping ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches \
         for \"none\"\nlivez check passed\n"
    );
    for path in ["/healthz", "/livez/ping", "/readyz/etcd", "/readyz/poststarthook/bootstrap"] {
        assert_eq!(api.get(path).await.text(), "ok", "{path}");
    }
    assert_eq!(api.get("/livez/none").await.code, 404);
}
