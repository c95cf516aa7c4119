//! The `kube` crate: its client, watcher, reflector and what is built on them.

use super::Served;
use crate::support::DEADLINE;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, EvictParams, GroupVersionKind, ListParams,
    Patch, PatchParams, PostParams, PropagationPolicy, ResourceExt as _, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, reflector, wait, watcher};
use kube::{Client, Config, Error};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;

async fn client(served: &Served) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&served.kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it comes in time")
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn map(name: &str, value: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"of": "kube"}}, "data": {"key": value}}))
}

#[track_caller]
fn refused<T: Debug>(answer: Result<T, Error>) -> (u16, String) {
    match answer.unwrap_err() {
        Error::Api(status) => (status.code, status.reason),
        other => panic!("no answer of the API: {other}"),
    }
}

#[tokio::test]
async fn objects_are_made_changed_and_deleted() {
    let served = Served::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&served).await);
    let created = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let again = maps.create(&PostParams::default(), &map("a", "1")).await;
    assert_eq!(refused(again), (409, "AlreadyExists".to_owned()));
    assert_eq!(refused(maps.get("none").await), (404, "NotFound".to_owned()));
    assert!(maps.get_opt("none").await.unwrap().is_none());

    let mut newer = created.clone();
    newer.data.as_mut().unwrap().insert("more".to_owned(), "2".to_owned());
    let replaced = maps.replace("a", &PostParams::default(), &newer).await.unwrap();
    assert_ne!(replaced.resource_version(), created.resource_version());
    let outdated = maps.replace("a", &PostParams::default(), &newer).await;
    assert_eq!(refused(outdated), (409, "Conflict".to_owned()));

    let merge = Patch::Merge(json!({"data": {"more": null}}));
    let merged = maps.patch("a", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(merged.data.unwrap().len(), 1);
    let ours = PatchParams::apply("kube-test");
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "9"}});
    let conflict = maps.patch("a", &ours, &Patch::Apply(&applied)).await;
    assert_eq!(refused(conflict), (409, "Conflict".to_owned()));
    let forced = maps.patch("a", &ours.clone().force(), &Patch::Apply(&applied)).await.unwrap();
    assert_eq!(forced.data.as_ref().unwrap()["key"], "9");
    assert!(forced.managed_fields().iter().any(|one| one.manager.as_deref() == Some("kube-test")));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map("dry", "1")).await.unwrap();
    assert!(maps.get_opt("dry").await.unwrap().is_none());

    for index in 0..7 {
        let map = map(&format!("many-{index}"), "1");
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let mut names = BTreeSet::new();
    let mut page = ListParams::default().labels("of=kube").limit(3);
    loop {
        let list = maps.list(&page).await.unwrap();
        names.extend(list.items.iter().map(kube::ResourceExt::name_any));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names.len(), 8);
    let metadata = maps.get_metadata("many-0").await.unwrap();
    assert_eq!(metadata.labels()["of"], "kube");
    let gone = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(gone.is_right(), "a status tells that it is gone");
    let selected = ListParams::default().labels("of=kube");
    maps.delete_collection(&DeleteParams::default(), &selected).await.unwrap();
    assert!(maps.list(&selected).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn watchers_and_reflectors_follow() {
    let served = Served::start().await;
    let client = client(&served).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for index in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("old-{index}"), "1")).await.unwrap();
    }
    let selected = watcher::Config::default().labels("of=kube").page_size(2);
    for config in [selected.clone(), selected.clone().any_semantic(), selected.streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = watcher(maps.clone(), config).default_backoff();
        let mut events = pin!(reflector::reflector(writer, stream));
        let mut initial = 0;
        loop {
            match in_time(events.next()).await.unwrap().unwrap() {
                Event::InitApply(_) => initial += 1,
                Event::InitDone => break,
                Event::Init => {}
                other => panic!("before the initial objects are there: {other:?}"),
            }
        }
        assert_eq!((initial, reader.len()), (5, 5));

        maps.create(&PostParams::default(), &map("new", "1")).await.unwrap();
        let patch = Patch::Merge(json!({"data": {"key": "2"}}));
        maps.patch("new", &PatchParams::default(), &patch).await.unwrap();
        maps.delete("new", &DeleteParams::default()).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(match in_time(events.next()).await.unwrap().unwrap() {
                Event::Apply(map) => format!("has {}", map.data.unwrap()["key"]),
                Event::Delete(map) => format!("had {}", map.data.unwrap()["key"]),
                other => panic!("not an event of an object: {other:?}"),
            });
        }
        assert_eq!(seen, ["has 1", "has 2", "had 2"]);
        assert_eq!(reader.len(), 5);
    }

    // The watch underneath, from a revision that is no more.
    let stream = maps.watch(&WatchParams::default(), "1").await.unwrap();
    let first = in_time(pin!(stream).try_next()).await.unwrap();
    if let Some(WatchEvent::Error(status)) = first {
        assert_eq!(status.code, 410);
    }
}

#[tokio::test]
async fn everything_that_is_served_is_discovered_and_listed() {
    let served = Served::start().await;
    let client = client(&served).await;
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");
    let discovery = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let plain = Discovery::new(client.clone()).run().await.unwrap();
    let mut listed = 0;
    for group in discovery.groups() {
        assert!(plain.has_group(group.name()), "{} is found both ways", group.name());
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let list = all.list(&ListParams::default().limit(2)).await;
            let list = list.unwrap_or_else(|error| panic!("{}: {error}", resource.plural));
            let is_namespaced = capabilities.scope == Scope::Namespaced;
            for item in list.items {
                assert_eq!(item.namespace().is_some(), is_namespaced, "{}", resource.plural);
            }
            listed += 1;
        }
    }
    assert!(listed > 50, "{listed}");
}

#[tokio::test]
async fn custom_resources_are_defined_waited_for_and_owned() {
    let served = Served::start().await;
    let client = client(&served).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.clux.dev"},
        "spec": {
            "group": "clux.dev", "scope": "Namespaced",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["info"], "properties": {
                        "info": {"type": "string", "minLength": 3}}},
                    "status": {"type": "object", "properties": {"is_bad": {"type": "boolean"}}},
                }}},
            }],
        },
    });
    let apply = PatchParams::apply("crd-apply").force();
    definitions.patch("foos.clux.dev", &apply, &Patch::Apply(&definition)).await.unwrap();
    let established = wait::conditions::is_crd_established();
    let condition = wait::await_condition(definitions.clone(), "foos.clux.dev", established);
    in_time(condition).await.unwrap();

    let kind = GroupVersionKind::gvk("clux.dev", "v1", "Foo");
    let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let foos: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
    let foo = DynamicObject::new("a", &resource).data(json!({"spec": {"info": "unpatched"}}));
    let created = foos.create(&PostParams::default(), &foo).await.unwrap();
    let bad = DynamicObject::new("b", &resource).data(json!({"spec": {"info": "x"}}));
    let answer = foos.create(&PostParams::default(), &bad).await;
    assert_eq!(refused(answer), (422, "Invalid".to_owned()));
    let status = Patch::Merge(json!({"status": {"is_bad": true}}));
    let patched = foos.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(patched.data["status"], json!({"is_bad": true}));

    // What belongs to it goes with it.
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut owned = map("owned", "1");
    owned.metadata.owner_references = Some(vec![object(json!({
        "apiVersion": "clux.dev/v1", "kind": "Foo", "name": "a", "uid": created.uid().unwrap(),
        "controller": true}))]);
    let owned = maps.create(&PostParams::default(), &owned).await.unwrap();
    foos.delete("a", &DeleteParams::default()).await.unwrap();
    let uid = owned.uid().unwrap();
    let gone = wait::await_condition(maps, "owned", wait::conditions::is_deleted(&uid));
    in_time(gone).await.unwrap();
    definitions.delete("foos.clux.dev", &DeleteParams::default()).await.unwrap();
    let uid = definitions.get_opt("foos.clux.dev").await.unwrap().and_then(|one| one.uid());
    if let Some(uid) = uid {
        let is_deleted = wait::conditions::is_deleted(&uid);
        in_time(wait::await_condition(definitions, "foos.clux.dev", is_deleted)).await.unwrap();
    }
    assert_eq!(refused(foos.list(&ListParams::default()).await).0, 404);
}

#[tokio::test]
async fn workloads_are_scaled_and_evicted() {
    let served = Served::start().await;
    let client = client(&served).await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let labels = json!({"app": "web"});
    let web: Deployment = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "fine"}]}}},
    }));
    let apply = PatchParams::apply("kube-test");
    deployments.patch("web", &apply, &Patch::Apply(&web)).await.unwrap();
    let complete = wait::conditions::is_deployment_completed();
    in_time(wait::await_condition(deployments.clone(), "web", complete)).await.unwrap();

    let two = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let scale = deployments.patch_scale("web", &PatchParams::default(), &two).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    let complete = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.available_replicas == Some(2))
    };
    in_time(wait::await_condition(deployments.clone(), "web", complete)).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let list = pods.list(&ListParams::default().labels("app=web")).await.unwrap();
    assert_eq!(list.items.len(), 2);
    let first = &list.items[0];
    pods.evict(&first.name_any(), &EvictParams::default()).await.unwrap();
    let uid = first.uid().unwrap();
    let is_deleted = wait::conditions::is_deleted(&uid);
    in_time(wait::await_condition(pods.clone(), &first.name_any(), is_deleted)).await.unwrap();

    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let uid = deployments.get("web").await.unwrap().uid().unwrap();
    deployments.delete("web", &foreground).await.unwrap();
    let is_deleted = wait::conditions::is_deleted(&uid);
    in_time(wait::await_condition(deployments, "web", is_deleted)).await.unwrap();
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());

    let namespaces: Api<Namespace> = Api::all(client);
    let team: Namespace = object(json!({"metadata": {"generateName": "team-"}}));
    let team = namespaces.create(&PostParams::default(), &team).await.unwrap();
    let going = namespaces.delete(&team.name_any(), &DeleteParams::default()).await.unwrap();
    assert!(going.is_left(), "it is there until its content is gone");
    let resource = ApiResource::erase::<Namespace>(&());
    assert_eq!((resource.api_version.as_str(), resource.plural.as_str()), ("v1", "namespaces"));
}
