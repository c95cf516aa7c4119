//! Objects that are written and applied to by several people, and who owns what of them then.

use super::*;
use crate::registry::schema::structural::Structural;
use crate::registry::schema::{BUILT_IN, TypeRef, types};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug)]
struct OneVersion;

impl Versions for OneVersion {
    fn place(&self, _: &str) -> Option<Place<'_>> {
        None
    }

    fn convert(&self, _: Value, version: &str) -> Result<Value, String> {
        Err(format!("no version {version}"))
    }
}

/// An object and who manages it.
#[derive(Clone, Debug)]
struct World {
    of: TypeRef,
    version: &'static str,
    kind: &'static str,
    object: Option<Value>,
    managed: Option<String>,
    now: i64,
}

impl World {
    fn new(of: TypeRef, version: &'static str, kind: &'static str) -> Self {
        Self { of, version, kind, object: None, managed: None, now: 0 }
    }

    fn config_map() -> Self {
        Self::new(types::CONFIG_MAP, "v1", "ConfigMap")
    }

    fn frame(&self, subresource: &str) -> Frame<'static> {
        Frame {
            place: Place::root(&BUILT_IN, self.of),
            version: self.version,
            resets: Resets::of_halves(subresource),
            versions: &OneVersion,
        }
    }

    fn writer(manager: &'static str, now: i64) -> Writer<'static> {
        let (manager, subresource) = manager.split_once('/').unwrap_or((manager, ""));
        Writer { manager, subresource, now: Timestamp::from_second(now).unwrap() }
    }

    fn typed(&self, mut object: Value) -> Value {
        object["apiVersion"] = json!(self.version);
        object["kind"] = json!(self.kind);
        object["metadata"]["name"] = json!("a");
        object
    }

    /// Somebody writes the object. A slash is before the subresource.
    #[track_caller]
    fn write(&mut self, manager: &'static str, object: Value) {
        self.write_with(manager, object, None);
    }

    #[track_caller]
    fn write_with(&mut self, manager: &'static str, object: Value, submitted: Option<&str>) {
        self.now += 1;
        let object = self.typed(object);
        let live = self.object.as_ref().map(|object| object.to_string().into_bytes());
        let new = object.to_string().into_bytes();
        let writer = Self::writer(manager, self.now);
        let known = Known { stored: self.managed.as_deref(), submitted };
        let frame = self.frame(writer.subresource);
        let managed = after_write(&frame, (live.as_deref(), &new), known, &writer).unwrap();
        (self.object, self.managed) = (Some(object), managed);
    }

    /// Somebody applies; what is refused is told.
    fn try_apply(&mut self, manager: &'static str, config: Value, force: bool) -> String {
        self.now += 1;
        let config = self.typed(config);
        let live = self.object.as_ref().map(|object| object.to_string().into_bytes());
        let writer = Self::writer(manager, self.now);
        let managed = self.managed.clone();
        let application = Application {
            live: live.as_deref(),
            managed: managed.as_deref(),
            config: &config,
            kind: self.kind,
            force,
        };
        match super::apply(&self.frame(writer.subresource), &application, &writer) {
            Ok(applied) => {
                let mut object = applied.object;
                prune_null(&mut object);
                (self.object, self.managed) = (Some(object), applied.managed);
                String::new()
            }
            Err(Refused::Conflicts(conflicts)) => conflicts.to_string(),
            Err(Refused::BadRequest(why) | Refused::Failed(why)) => why,
        }
    }

    #[track_caller]
    fn apply(&mut self, manager: &'static str, config: Value) {
        assert_eq!(self.try_apply(manager, config, false), "");
    }

    /// Who owns what: `time manager operation: paths`.
    fn owners(&self) -> Vec<String> {
        let entries = entries::parse(self.managed.as_deref().unwrap_or("[]")).unwrap();
        let shown = entries.into_iter().map(|entry| {
            let time = entry.time.map_or(0, Timestamp::as_second);
            let Owner { manager, operation, subresource, .. } = entry.owner;
            let slash = if subresource.is_empty() { "" } else { "/" };
            let paths = entry.fields.paths().join(" ");
            format!("{time} {manager}{slash}{subresource} {operation:?}: {paths}")
        });
        shown.collect()
    }

    fn fields(&self, index: usize) -> Value {
        let managed: Value = serde_json::from_str(self.managed.as_deref().unwrap()).unwrap();
        managed[index]["fieldsV1"].clone()
    }

    fn at(&self, path: &str) -> Value {
        self.object.as_ref().and_then(|object| object.pointer(path)).cloned().unwrap_or_default()
    }
}

/// As decoding into a type does: null is absence.
fn prune_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune_null);
        }
        Value::Array(list) => list.iter_mut().for_each(prune_null),
        _ => {}
    }
}

#[test]
fn whoever_creates_owns_what_there_is() {
    let mut world = World::config_map();
    world.write("me", json!({"metadata": {"labels": {"a": "1"}}, "data": {"x": "1", "y.z": "2"}}));
    let expected = concat!(
        r#"[{"manager":"me","operation":"Update","apiVersion":"v1","time":"1970-01-01T00:00:01Z","#,
        r#""fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:x":{},"f:y.z":{}},"#,
        r#""f:metadata":{"f:labels":{".":{},"f:a":{}}}}}]"#,
    );
    assert_eq!(world.managed.as_deref(), Some(expected));
}

/// As kube-apiserver 1.35 shows it of such a deployment.
#[test]
fn structs_that_go_always_shows_are_no_members() {
    let mut world = World::new(types::DEPLOYMENT, "apps/v1", "Deployment");
    world.write(
        "kubectl",
        json!({"spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {
                    "containers": [{
                        "name": "web", "image": "nginx",
                        "ports": [
                            {"containerPort": 443, "protocol": "TCP"},
                            {"containerPort": 80, "protocol": "TCP"},
                        ],
                        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
                    }],
                    "securityContext": {},
                    "tolerations": [{"key": "a"}],
                },
            },
        }, "status": {"replicas": 7}}),
    );
    let port = json!({".": {}, "f:containerPort": {}, "f:protocol": {}});
    assert_eq!(
        world.fields(0),
        json!({"f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:strategy": {
                "f:rollingUpdate": {".": {}, "f:maxSurge": {}},
                "f:type": {},
            },
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"web\"}": {
                        ".": {},
                        "f:env": {".": {}, "k:{\"name\":\"A\"}": {
                            ".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}},
                        }},
                        "f:image": {},
                        "f:name": {},
                        "f:ports": {
                            ".": {},
                            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": port,
                            "k:{\"containerPort\":443,\"protocol\":\"TCP\"}": port,
                        },
                        "f:resources": {},
                    }},
                    "f:securityContext": {},
                    "f:tolerations": {},
                },
            },
        }})
    );
    let managed = world.managed.unwrap();
    assert!(managed.find("containerPort\\\":80") < managed.find("containerPort\\\":443"));
}

#[test]
fn an_update_takes_what_it_changes() {
    let mut world = World::config_map();
    world.write("one", json!({"data": {"a": "1", "b": "1", "c": "1"}}));
    world.write("two", json!({"data": {"a": "2", "b": "1", "d": "2"}}));
    assert_eq!(world.owners(), ["1 one Update: .data .data.b", "2 two Update: .data.a .data.d"]);
    world.write("two", json!({"data": {"a": "2", "b": "1"}}));
    assert_eq!(world.owners(), ["1 one Update: .data .data.b", "2 two Update: .data.a"]);
    world.write("two", json!({"data": {"a": "3", "b": "1"}}));
    assert_eq!(world.owners(), ["1 one Update: .data .data.b", "4 two Update: .data.a"]);
    world.write("three", json!({}));
    assert!(world.owners().is_empty());
}

#[test]
fn nothing_that_changes_nothing_is_noted() {
    let mut world = World::config_map();
    world.write("one", json!({"data": {"a": "1"}}));
    let before = world.managed.clone();
    world.write("two", json!({"data": {"a": "1"}}));
    assert_eq!(world.managed, before);
    let submitted = before.clone();
    world.write_with("two", json!({"data": {"a": "1"}}), submitted.as_deref());
    assert_eq!(world.managed, before);
}

#[test]
fn status_and_specification_have_owners_of_their_own() {
    let mut world = World::new(types::REPLICA_SET, "apps/v1", "ReplicaSet");
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}});
    world.write("me", json!({"spec": spec, "status": {"replicas": 3}}));
    assert_eq!(world.owners(), ["1 me Update: .spec.replicas .spec.selector"]);
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}}});
    world.write("rs/status", json!({"spec": spec, "status": {"replicas": 4, "readyReplicas": 1}}));
    assert_eq!(
        world.owners(),
        [
            "1 me Update: .spec.replicas .spec.selector",
            "2 rs/status Update: .status.readyReplicas .status.replicas",
        ]
    );
}

#[test]
fn clients_can_write_managers_and_forget_them() {
    let mut world = World::config_map();
    let given = r#"[{"manager":"x","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:a":{}}}}]"#;
    world.write_with("me", json!({"data": {"a": "1"}}), Some(given));
    // The field is new, and so taken.
    assert_eq!(world.owners(), ["1 me Update: .data .data.a"]);
    world.write_with("me", json!({"data": {"a": "1"}}), Some(given));
    assert_eq!(world.owners(), ["0 x Apply: .data.a"]);
    world.write_with("me/status", json!({"data": {"a": "1"}}), Some("[]"));
    assert_eq!(world.owners(), ["0 x Apply: .data.a"], "not by a subresource");
    world.write_with("me", json!({"data": {"a": "2"}}), Some(r#"[{"operation":"x"}]"#));
    assert_eq!(world.owners(), ["4 me Update: .data.a"], "what is wrong is forgotten");
    world.write_with("me", json!({"data": {"a": "3"}}), Some("[]"));
    assert_eq!(world.managed, None);
    world.write("me", json!({"data": {"a": "4"}}));
    assert_eq!(world.managed, None, "nobody is noted before the first apply");
    world.apply("you", json!({"data": {"b": "1"}}));
    assert_eq!(
        world.owners(),
        ["7 you Apply: .data.b", "7 before-first-apply Update: .data .data.a"]
    );
}

#[test]
fn only_so_many_updaters_are_told_apart() {
    let mut world = World::config_map();
    let mut data = BTreeMap::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for name in names {
        data.insert(name, "1");
        world.write(name, json!({"data": data.clone()}));
    }
    let owners = world.owners();
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0], "3 ancient-changes Update: .data .data.a .data.b .data.c");
    assert_eq!(owners[9], "12 l Update: .data.l");
}

#[test]
fn applying_makes_an_object_and_changes_it() {
    let mut world = World::config_map();
    world.apply("a", json!({"metadata": {"labels": {"x": "1"}}, "data": {"a": "1", "b": "1"}}));
    assert_eq!(world.owners(), ["1 a Apply: .data.a .data.b .metadata.labels.x"]);
    world.apply("a", json!({"metadata": {"labels": {"x": "1"}}, "data": {"a": "1", "b": "1"}}));
    assert_eq!(world.owners(), ["1 a Apply: .data.a .data.b .metadata.labels.x"]);
    world.apply("a", json!({"data": {"b": "2", "c": "1"}}));
    assert_eq!(world.at("/data"), json!({"b": "2", "c": "1"}));
    assert_eq!(world.at("/metadata"), json!({"name": "a"}));
    assert_eq!(world.owners(), ["3 a Apply: .data.b .data.c"]);
}

#[test]
fn conflicts_name_who_and_what() {
    let mut world = World::config_map();
    world.apply("a", json!({"data": {"x": "1", "y": "1"}}));
    world.write("b", json!({"data": {"x": "1", "y": "1", "z": "1"}}));
    assert_eq!(
        world.try_apply("c", json!({"data": {"x": "2"}}), false),
        "Apply failed with 1 conflict: conflict with \"a\": .data.x"
    );
    assert_eq!(
        world.try_apply("c", json!({"data": {"x": "2", "y": "2", "z": "2"}}), false),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .data.x\n- .data.y\n\
         conflicts with \"b\" using v1:\n- .data.z"
    );
    assert_eq!(world.try_apply("c", json!({"data": {"x": "2", "z": "2"}}), true), "");
    assert_eq!(world.owners(), ["1 a Apply: .data.y", "5 c Apply: .data.x .data.z"]);
}

#[test]
fn what_two_apply_stays_until_both_let_go() {
    let mut world = World::config_map();
    world.apply("a", json!({"data": {"x": "1", "y": "1"}}));
    world.apply("b", json!({"data": {"x": "1"}}));
    assert_eq!(world.owners(), ["0 b Apply: .data.x", "1 a Apply: .data.x .data.y"]);
    world.apply("a", json!({"data": {"y": "1"}}));
    assert_eq!(world.at("/data"), json!({"x": "1", "y": "1"}));
    world.apply("b", json!({}));
    assert_eq!(world.at("/data"), json!({"y": "1"}));
    assert_eq!(world.owners(), ["1 a Apply: .data.y"]);
}

#[test]
fn what_an_update_has_taken_stays_when_it_is_not_applied_any_more() {
    let mut world = World::config_map();
    world.apply("a", json!({"data": {"x": "1", "y": "1"}}));
    world.write("b", json!({"data": {"x": "2", "y": "1"}}));
    world.apply("a", json!({"data": {"y": "1"}}));
    assert_eq!(world.at("/data"), json!({"x": "2", "y": "1"}));
    assert_eq!(world.owners(), ["1 a Apply: .data.y", "2 b Update: .data.x"]);
}

fn container(name: &str, rest: Value) -> Value {
    let mut container = json!({"name": name});
    container.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    container
}

fn pod(containers: &[Value]) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn elements_of_lists_are_merged_by_their_keys() {
    let mut world = World::new(types::POD, "v1", "Pod");
    let ports = |ports: &[u16]| -> Vec<Value> {
        ports.iter().map(|port| json!({"containerPort": port})).collect()
    };
    world.apply("a", pod(&[container("x", json!({"image": "1", "ports": ports(&[80])}))]));
    assert_eq!(
        world.owners(),
        ["1 a Apply: .spec.containers[name=\"x\"] \
          .spec.containers[name=\"x\"].image .spec.containers[name=\"x\"].name \
          .spec.containers[name=\"x\"].ports[containerPort=80,protocol=\"TCP\"] \
          .spec.containers[name=\"x\"].ports[containerPort=80,protocol=\"TCP\"].containerPort"]
    );
    world.apply("b", pod(&[container("y", json!({})), container("x", json!({"tty": true}))]));
    assert_eq!(world.at("/spec/containers/0/name"), "y");
    assert_eq!(world.at("/spec/containers/1/image"), "1");
    world.apply("b", pod(&[container("y", json!({}))]));
    assert_eq!(world.at("/spec/containers/1/tty"), Value::Null);
    world.apply("b", pod(&[]));
    let left = json!([{"name": "x", "image": "1", "ports": ports(&[80])}]);
    assert_eq!(world.at("/spec/containers"), left);
}

#[test]
fn the_order_of_a_list_is_the_configurations_as_far_as_it_has_one() {
    let mut world = World::new(types::POD, "v1", "Pod");
    let list = |names: &str| -> Vec<Value> {
        names.chars().map(|name| container(&name.to_string(), json!({}))).collect()
    };
    let order = |world: &World| -> String {
        let names = world.at("/spec/containers");
        let names = names.as_array().unwrap().iter();
        names.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    for (live, config, expected) in [
        ("abc", "abc", "abc"),
        ("abc", "cb", "acb"),
        ("abc", "ca", "bca"),
        ("abcd", "da", "bcda"),
        ("abc", "x", "abcx"),
        ("abc", "xa", "xabc"),
        ("abc", "axc", "abxc"),
        ("", "ba", "ba"),
    ] {
        world.object = None;
        world.managed = None;
        world.write("live", pod(&list(live)));
        world.apply("me", pod(&list(config)));
        assert_eq!(order(&world), expected, "{live} {config}");
    }
}

#[test]
fn sets_and_atomic_lists() {
    let mut world = World::new(types::SERVICE_ACCOUNT, "v1", "ServiceAccount");
    world.apply("a", json!({"metadata": {"finalizers": ["x/1", "x/2"]}}));
    world.apply("b", json!({"metadata": {"finalizers": ["x/3", "x/1"]}}));
    assert_eq!(world.at("/metadata/finalizers"), json!(["x/3", "x/1", "x/2"]));
    world.apply("a", json!({"metadata": {"finalizers": []}}));
    assert_eq!(world.at("/metadata/finalizers"), json!(["x/3", "x/1"]));
    assert_eq!(
        world.owners(),
        ["2 b Apply: .metadata.finalizers[=\"x/1\"] .metadata.finalizers[=\"x/3\"]"]
    );

    let mut world = World::new(types::POD, "v1", "Pod");
    let with = |args: Value| pod(&[container("x", json!({"args": args}))]);
    world.apply("a", with(json!(["1", "2"])));
    assert_eq!(
        world.try_apply("b", with(json!(["2"])), false),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.containers[name=\"x\"].args"
    );
    world.apply("b", with(json!(["1", "2"])));
}

#[test]
fn atomic_structs_are_owned_as_a_whole() {
    let mut world = World::new(types::DEPLOYMENT, "apps/v1", "Deployment");
    let selector = |labels: Value| json!({"spec": {"selector": {"matchLabels": labels}}});
    world.apply("a", selector(json!({"x": "1"})));
    assert_eq!(world.owners(), ["1 a Apply: .spec.selector"]);
    assert_eq!(
        world.try_apply("b", selector(json!({"y": "1"})), false),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.selector"
    );
}

#[test]
fn configurations_of_another_type_are_refused() {
    let mut world = World::new(types::DEPLOYMENT, "apps/v1", "Deployment");
    let prefix = "failed to create typed patch object (/a; apps/v1, Kind=Deployment): ";
    for (spec, expected) in [
        (json!({"replica": 1}), ".spec.replica: field not declared in schema"),
        (json!({"replicas": "1"}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"paused": 1}), ".spec.paused: expected boolean, got &{1}"),
        (json!({"selector": [1]}), ".spec.selector: expected map, got &{[1]}"),
        (
            json!({"strategy": {"type": 1}, "template": 7}),
            "errors:\n  .spec.strategy.type: expected string, got \
             &value.valueUnstructured{Value:1}\n  .spec.template: expected map, got &{7}",
        ),
        (
            json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"template": {"spec": {"containers": {"name": "a"}}}}),
            ".spec.template.spec.containers: expected list, got &{map[name:a]}",
        ),
    ] {
        let refused = world.try_apply("a", json!({"spec": spec}), false);
        assert_eq!(refused, format!("{prefix}{expected}"));
    }
    let managed = json!({"metadata": {"managedFields": []}});
    assert_eq!(world.try_apply("a", managed, false), "metadata.managedFields must be nil");
    world.kind = "Pod";
    let frame = world.frame("");
    let config = json!({"apiVersion": "v1", "kind": "Pod"});
    let application = Application {
        live: None,
        managed: None,
        config: &config,
        kind: "Deployment",
        force: false,
    };
    assert_eq!(
        super::apply(&frame, &application, &World::writer("a", 1)),
        Err(Refused::BadRequest("invalid object type: /v1, Kind=Pod".to_owned()))
    );
}

#[test]
fn kubectl_takes_over_from_itself() {
    let mut world = World::config_map();
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1", "y": "<1>"}});
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    let metadata = json!({"annotations": annotations});
    world.write(
        "kubectl-client-side-apply",
        json!({"metadata": metadata, "data": {"x": "1", "y": "<1>", "z": "1"}}),
    );
    assert_eq!(
        world.try_apply("other", json!({"data": {"x": "2"}}), false),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.x"
    );
    assert_eq!(
        world.try_apply("kubectl", json!({"data": {"x": "2", "z": "2"}}), false),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.z"
    );
    world.apply("kubectl", json!({"data": {"x": "2", "y": "<2>"}}));
    let path = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
    assert_eq!(
        world.at(path),
        "{\"apiVersion\":\"v1\",\"data\":{\"x\":\"2\",\"y\":\"\\u003c2\\u003e\"},\
         \"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n"
    );
    assert_eq!(world.owners()[0], "4 kubectl Apply: .data.x .data.y");
}

#[test]
fn a_scale_shows_who_owns_the_replicas() {
    let mut world = World::new(types::DEPLOYMENT, "apps/v1", "Deployment");
    let spec = |replicas: i64| json!({"spec": {"replicas": replicas, "paused": true}});
    world.write("me", spec(1));
    let scaled = Scaled { version: "apps/v1", replicas: &["spec", "replicas"] };
    let shown = of_scale(world.managed.as_deref(), scaled).unwrap();
    assert!(shown.contains("autoscaling/v1"), "{shown}");
    let same = of_workload(world.managed.as_deref(), Some(&shown), scaled);
    assert_eq!(same, world.managed);

    let mut scale = World::new(types::SCALE, "autoscaling/v1", "Scale");
    scale.object = Some(scale.typed(json!({"spec": {"replicas": 1}})));
    (scale.managed, scale.now) = (Some(shown), 6);
    scale.write("hpa/scale", json!({"spec": {"replicas": 2}}));
    world.managed = of_workload(world.managed.as_deref(), scale.managed.as_deref(), scaled);
    assert_eq!(world.owners(), ["1 me Update: .spec.paused", "7 hpa/scale Update: .spec.replicas"]);
    assert!(!world.managed.unwrap().contains("autoscaling"));
}

#[test]
fn of_what_has_no_schema_the_metadata_is_known() {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = Structural::new(&serde_json::from_value(schema).unwrap()).unwrap();
    let mut world = World::new(types::CONFIG_MAP, "example.com/v1", "Bird");
    let frame = Frame { place: Place::root_of_custom(&schema), ..world.frame("") };
    let bird = world.typed(json!({
        "metadata": {"finalizers": ["x/y"]}, "spec": {"wings": [1, 2], "sub": {"n": 1}},
    }));
    let application =
        Application { live: None, managed: None, config: &bird, kind: "Bird", force: false };
    let writer = World::writer("me", 1);
    world.managed = super::apply(&frame, &application, &writer).unwrap().managed;
    assert_eq!(
        world.owners(),
        ["1 me Apply: .spec .metadata.finalizers[=\"x/y\"] .spec.sub .spec.wings .spec.sub.n"]
    );
}

#[test]
fn elements_that_come_twice_are_owned_together() {
    let mut world = World::new(types::POD, "v1", "Pod");
    let env = |names: &[&str]| {
        let env: Vec<_> = names.iter().map(|n| json!({"name": n, "value": "1"})).collect();
        pod(&[container("x", json!({"env": env}))])
    };
    let owned = |world: &World| {
        let owners = world.owners().join("\n");
        owners.matches("env[name=\"A\"]").count()
    };
    world.write("me", env(&["A", "B", "A"]));
    assert_eq!(owned(&world), 1, "{:?}", world.owners());
    world.write("me", env(&["A", "B"]));
    assert_eq!(owned(&world), 3, "{:?}", world.owners());
}
