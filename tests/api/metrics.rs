//! `/metrics`: what the server tells of itself.

use super::support::Api;
use kinglet::apiserver::Identity;
use serde_json::json;
use std::collections::BTreeSet;

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
        ("resource", "POST", "201", 2.0),
        ("resource", "POST", "409", 1.0),
        ("resource", "GET", "200", 1.0),
        ("namespace", "LIST", "200", 1.0),
    ] {
        let line = sort("apiserver_request_total", scope, verb, &format!("code=\"{code}\","));
        assert_eq!(value(&text, &line), Some(expected), "{line}\n{text}");
    }
    let count = sort("apiserver_request_duration_seconds_count", "resource", "POST", "");
    assert_eq!(value(&text, &count), Some(3.0), "{text}");
    // What is not served is not told by its name.
    assert!(!text.contains("none.example.com") && !text.contains("\"none\""), "{text}");
    let objects = "apiserver_resource_objects{group=\"\",resource=\"configmaps\"}";
    assert_eq!(value(&text, objects), Some(2.0));
    assert_eq!(value(&text, "apiserver_storage_objects{resource=\"configmaps\"}"), Some(2.0));
    let commits = "kinglet_store_request_duration_seconds_count{operation=\"update\"}";
    assert!(value(&text, commits).unwrap() >= 2.0);
    let steps = "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",\
                 rejected=\"false\",type=\"validate\"}";
    assert!(value(&text, steps).unwrap() >= 2.0);
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total"] {
        assert!(value(&text, &format!("{name} ")).is_some(), "{name}");
    }
    assert!(text.contains("\nkubernetes_build_info{"), "{text}");
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
async fn deprecated_resources_are_told_when_they_were_asked_for() {
    let api = Api::start().await;
    let old = "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",\
               resource=\"componentstatuses\",subresource=\"\",version=\"v1\"}";
    assert_eq!(value(&api.get("/metrics").await.text(), old), None);
    api.get("/api/v1/componentstatuses").await.ok();
    assert_eq!(value(&api.get("/metrics").await.text(), old), Some(1.0));
}

/// What a Prometheus' parser insists on: each family is told once, in one piece, before its values.
#[tokio::test]
async fn the_text_is_one_that_can_be_parsed() {
    let api = Api::start().await;
    api.get("/api/v1/pods").await.ok();
    let text = api.get("/metrics").await.text();
    let (mut families, mut lines) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(current.clone()), "{current} is told twice");
        } else if !line.starts_with('#') {
            let (labelled, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(labelled.starts_with(&current), "{line} is no {current}");
            assert!(lines.insert(labelled.to_owned()), "{labelled} is told twice");
        }
    }
    for name in ["apiserver_request_total", "authentication_attempts", "process_open_fds"] {
        assert!(families.contains(name), "{name}");
    }
}

#[tokio::test]
async fn only_who_may_reads_them() {
    let api = Api::start().await;
    for path in ["/metrics", "/metrics/slis"] {
        let somebody = api.as_user(Identity::new("somebody", &["system:authenticated"]));
        assert_eq!(somebody.get(path).await.code, 403, "{path}");
        let monitor = api.as_user(Identity::new("prometheus", &["system:monitoring"]));
        assert_eq!(monitor.get(path).await.code, 200, "{path}");
    }
}
