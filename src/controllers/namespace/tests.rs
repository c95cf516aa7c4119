//! Tables of how namespaces go.

use super::*;
use crate::control::{Failure, Verb, Write};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;
use std::time::Duration;

/// A namespace from a few words: `going`, `marked` (its status says so), `finalized`, `told` (it has
/// conditions).
fn namespace(words: &str) -> Namespace {
    let mut namespace = json!({
        "metadata": {"name": "shop", "uid": "u", "resourceVersion": "5"},
        "spec": {"finalizers": ["kubernetes", "other"]}, "status": {"phase": "Active"},
    });
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        match word {
            "going" => namespace["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z"),
            "marked" => namespace["status"]["phase"] = json!("Terminating"),
            "finalized" => namespace["spec"]["finalizers"] = json!(["other"]),
            "told" => {
                namespace["status"]["conditions"] = json!([{"type": "NamespaceContentRemaining",
                    "status": "True", "reason": "SomeResourcesRemain", "message": "old",
                    "lastTransitionTime": "2026-11-20T11:00:00Z"}]);
            }
            _ => panic!("{word}"),
        }
    }
    serde_json::from_value(namespace).unwrap()
}

/// What is left of pods and of config maps: `objects/undeleted`, or `?` where nobody knows.
fn observed(words: &str, pods: &str, maps: &str) -> Observed {
    let left = |text: &str| {
        let (objects, undeleted) = text.split_once('/').ok_or("no answer".to_owned())?;
        let (objects, undeleted) = (objects.parse().unwrap(), undeleted.parse().unwrap());
        Ok(Left { objects, undeleted, finalizers: BTreeMap::new() })
    };
    Observed {
        namespace: Arc::new(namespace(words)),
        content: vec![
            Content { resource: ResourceType::of::<ConfigMap>(), left: left(maps) },
            Content { resource: ResourceType::of::<Pod>(), left: left(pods) },
        ],
        attempt: Attempt { now: "2026-11-20T12:00:00Z".parse().unwrap(), failure: None },
    }
}

fn brief(plan: &Plan) -> String {
    let writes = plan.writes().map(|write| match write {
        Write::DeleteCollection { resource, namespace, .. } => {
            format!("delete:{}/{resource}", namespace.as_deref().unwrap())
        }
        Write::Update { subresource: Some("finalize"), .. } => {
            format!("finalize:{}", write.body()["spec"]["finalizers"])
        }
        Write::Update { .. } => {
            let status = &write.body()["status"];
            let wrong = status["conditions"].as_array().into_iter().flatten();
            let wrong = wrong.filter(|condition| condition["status"] == "True");
            let wrong: Vec<_> =
                wrong.map(|condition| condition["reason"].as_str().unwrap().to_owned()).collect();
            format!("{}({})", status["phase"].as_str().unwrap(), wrong.join(","))
        }
        other => panic!("{other:?}"),
    });
    let recheck = plan.recheck_after.map(|_| "recheck".to_owned());
    writes.chain(recheck).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(words: &str, pods: &str, maps: &str, expected: &str) {
    assert_eq!(brief(&plan(&observed(words, pods, maps))), expected);
}

#[test]
fn namespaces_that_stay_are_left_alone() {
    check("", "1/1", "1/1", "");
    check("going finalized marked", "1/1", "1/1", "");
}

#[test]
fn content_goes_pods_first() {
    check("going", "1/1", "1/1", "Terminating()");
    check("going marked", "2/2", "1/1", "Terminating(SomeResourcesRemain) delete:shop/pods");
    check("going marked", "2/0", "1/1", "Terminating(SomeResourcesRemain)");
    check("going marked", "0/0", "3/2", "Terminating(SomeResourcesRemain) delete:shop/configmaps");
    check("going marked", "0/0", "3/0", "Terminating(SomeResourcesRemain)");
}

#[test]
fn an_empty_namespace_is_let_go() {
    check("going marked", "0/0", "0/0", r#"finalize:["other"]"#);
    // It has said that it is not empty.
    check("going marked told", "0/0", "0/0", "Terminating()");
    let mut told = observed("going marked told", "0/0", "0/0");
    let said = plan(&told).writes().next().unwrap().body();
    told.namespace = Arc::new(serde_json::from_value(said).unwrap());
    assert_eq!(brief(&plan(&told)), r#"finalize:["other"]"#);
}

#[test]
fn what_is_not_known_is_asked_again_and_does_not_count_as_gone() {
    let mut unknown = observed("going marked", "0/0", "?");
    assert_eq!(brief(&plan(&unknown)), "Terminating(ContentDeletionFailed)");
    let said = plan(&unknown).writes().next().unwrap().body();
    let conditions = &said["status"]["conditions"];
    let message = "Failed to delete all resource types, 1 remaining: no answer";
    assert_eq!(conditions[2]["message"], message);
    unknown.namespace = Arc::new(serde_json::from_value(said).unwrap());
    assert_eq!(brief(&plan(&unknown)), "recheck");
    check("going marked", "?", "1/1", "Terminating(ContentDeletionFailed)");
}

#[test]
fn failed_deletes_are_said() {
    let mut failed = observed("going marked", "0/0", "1/1");
    let resource = ResourceType::of::<ConfigMap>();
    let message = "refused".to_owned();
    failed.attempt.failure = Some(Failure { resource, verb: Verb::Delete, message });
    assert_eq!(
        brief(&plan(&failed)),
        "Terminating(ContentDeletionFailed,SomeResourcesRemain) delete:shop/configmaps"
    );
}

#[test]
fn conditions_are_upstreams() {
    let mut observed = observed("going marked told", "0/0", "3/0");
    let Ok(left) = &mut observed.content[0].left else { panic!("known") };
    left.finalizers = BTreeMap::from([("a/b".to_owned(), 2), ("c".to_owned(), 1)]);
    let plan = plan(&observed);
    let body = plan.writes().next().unwrap().body();
    let conditions = body["status"]["conditions"].as_array().unwrap();
    let brief: Vec<_> = conditions
        .iter()
        .map(|condition| {
            let text = |name: &str| condition[name].as_str().unwrap();
            let time = &text("lastTransitionTime")[11..13];
            format!("{}={} {}: {}", text("type"), text("status"), time, text("message"))
        })
        .collect();
    assert_eq!(
        brief,
        [
            "NamespaceContentRemaining=True 11: Some resources are remaining: configmaps. has 3 resource instances",
            "NamespaceDeletionDiscoveryFailure=False 12: All resources successfully discovered",
            "NamespaceDeletionGroupVersionParsingFailure=False 12: All legacy kube types successfully parsed",
            "NamespaceDeletionContentFailure=False 12: All content successfully deleted, may be waiting on finalization",
            "NamespaceFinalizersRemaining=True 12: Some content in the namespace has finalizers remaining: a/b in 2 resource instances, c in 1 resource instances",
        ]
    );
    assert_eq!(plan.recheck_after, None::<Duration>);
}
