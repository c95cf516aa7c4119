//! What is told of pods, and of templates.

use crate::registry::kinds::testing::Case;
use serde_json::{Value, json};

#[track_caller]
fn check(container: Value, spec: Value, expected: &[&str]) {
    let mut pod = json!({
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let first = pod["spec"]["containers"][0].as_object_mut().unwrap();
    first.extend(container.as_object().unwrap().clone());
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    assert_eq!(Case::of("pods", pod).created().warnings(None), expected);
}

#[test]
fn of_containers() {
    let check = |container, expected| check(container, json!({}), expected);
    check(json!({}), &[]);
    check(
        json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        &[
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ],
    );
    // What is made of the older one does not hide it.
    check(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]}), &[]);
    check(
        json!({"ports": [{"containerPort": 80}, {"containerPort": 80}, {"containerPort": 80, "hostPort": 81}]}),
        &[
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
        ],
    );
    check(
        json!({"ports": [{"containerPort": 80, "hostIP": "10.0.0.1"}]}),
        &[
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}",
        ],
    );
    check(
        json!({"resources": {"limits": {"memory": "100m"}}}),
        &[
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
        ],
    );
}

#[test]
fn of_pods() {
    let check = |spec, expected| check(json!({}), spec, expected);
    check(
        json!({"nodeSelector": {"beta.kubernetes.io/arch": "amd64"}}),
        &[
            "spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        ],
    );
    check(
        json!({"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]}),
        &["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
    );
    check(
        json!({"volumes": [{"name": "v", "configMap": {"name": "m", "items": [
            {"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}, {"key": "c", "path": "xy"},
        ]}}]}),
        &["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"x/y\" with \"x\""],
    );
    check(
        json!({"imagePullSecrets": [{"name": "s"}, {"name": "s"}, {}]}),
        &[
            "spec.imagePullSecrets[1].name: duplicate name \"s\"",
            "spec.imagePullSecrets[2].name: invalid empty name \"\"",
        ],
    );
    check(
        json!({"terminationGracePeriodSeconds": -5}),
        &[
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ],
    );
    check(
        json!({"hostAliases": [{"ip": "10.0.0.01", "hostnames": ["a"]}]}),
        &[
            "spec.hostAliases[0].ip: non-standard IP address \"10.0.0.01\" will be considered invalid in a future Kubernetes release: use \"10.0.0.1\"",
        ],
    );
    check(
        json!({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
        ]}),
        &[
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ],
    );
}

#[test]
fn templates_are_told_of_when_they_change() {
    let workload = |replicas: i32, grace: i64| {
        json!({
            "metadata": {"name": "a.b", "namespace": "default", "generation": replicas},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {
                        "labels": {"a": "b"},
                        "annotations": {"container.apparmor.security.beta.kubernetes.io/c": "x"},
                    },
                    "spec": {
                        "terminationGracePeriodSeconds": grace,
                        "containers": [{"name": "c", "image": "i"}],
                    },
                },
            },
        })
    };
    let decoded = |value| Case::of("deployments", value).decode();
    let (one, two) = (decoded(workload(1, -1)), decoded(workload(2, -1)));
    let of_template = [
        "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead",
        "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
    ];
    let created = one.warnings(None);
    assert!(created[0].starts_with("metadata.name: this is used in Pod names"), "{created:?}");
    assert_eq!(created[1..], of_template);
    assert_eq!(two.warnings(Some(one.as_ref())), of_template);
    assert_eq!(one.warnings(Some(one.as_ref())), [""; 0]);
}
