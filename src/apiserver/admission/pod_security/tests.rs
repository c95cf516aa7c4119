//! Tables of pods and what each standard has against them.

use super::checks::{Subject, details, evaluate};
use super::policy::{Level, Standard, Version};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A pod that a restricted namespace takes.
fn restricted() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}}}],
    }})
}

#[track_caller]
fn check(level: Level, version: Version, change: &Value, expected: &str) {
    let mut pod = restricted();
    json_patch::merge(&mut pod, change);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let subject = Subject::of(&pod.metadata, pod.spec.as_ref().unwrap());
    let found = details(&evaluate(Standard { level, version }, &subject));
    assert_eq!(found, expected, "{change}");
}

#[track_caller]
fn baseline(change: &Value, expected: &str) {
    check(Level::Baseline, Version::Latest, change, expected);
    check(Level::Privileged, Version::Latest, change, "");
}

fn container(security: &Value) -> Value {
    json!({"spec": {"containers": [{"name": "a", "securityContext": security}]}})
}

#[test]
fn the_baseline_keeps_pods_off_their_node() {
    baseline(&json!({}), "");
    baseline(
        &json!({"spec": {"hostNetwork": true, "hostPID": true}}),
        "host namespaces (hostNetwork=true, hostPID=true)",
    );
    baseline(
        &json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
        "hostPath volumes (volume \"v\")",
    );
    let ports =
        json!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 443}]);
    baseline(
        &json!({"spec": {"containers": [{"name": "a", "ports": ports}]}}),
        "hostPort (container \"a\" uses hostPorts 443, 80)",
    );
    baseline(
        &container(&json!({"privileged": true})),
        "privileged (container \"a\" must not set securityContext.privileged=true)",
    );
    baseline(
        &container(&json!({"procMount": "Unmasked"})),
        "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
    );
    baseline(
        &json!({"spec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}}),
        "forbidden sysctls (kernel.msgmax)",
    );
    baseline(
        &json!({"spec": {"initContainers": [{"name": "i", "securityContext":
            {"capabilities": {"add": ["NET_RAW", "CHOWN", "SYS_ADMIN"]}}}]}}),
        "non-default capabilities (container \"i\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
    );
    baseline(
        &json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}),
        "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    baseline(
        &container(&json!({"appArmorProfile": {"type": "Unconfined"}})),
        "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
    );
    baseline(
        &json!({"spec": {"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}}}),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
    );
    baseline(
        &json!({"spec": {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h", "port": 1}}}]}}),
        "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
    );
}

#[test]
fn the_restricted_standard_wants_hardening() {
    let latest = |change: &Value, expected: &str| {
        check(Level::Restricted, Version::Latest, change, expected);
    };
    latest(&json!({}), "");
    latest(
        &json!({"spec": {"securityContext": null, "containers": [{"name": "a"}, {"name": "b"}]}}),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    latest(
        &json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}},
            {"name": "w", "nfs": {"server": "s", "path": "/"}}, {"name": "x", "emptyDir": {}}]}}),
        "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
    );
    latest(
        &json!({"spec": {"securityContext": {"runAsUser": 0, "runAsNonRoot": false}}}),
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)",
    );
    let adding = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}});
    latest(
        &container(&adding),
        "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
    );
}

#[test]
fn standards_are_as_of_their_version() {
    let at = |minor, change: &Value, expected: &str| {
        check(Level::Restricted, Version::Minor(minor), change, expected);
    };
    let tcp = json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}});
    at(31, &tcp, "forbidden sysctls (net.ipv4.tcp_rmem)");
    at(32, &tcp, "");
    at(99, &tcp, "");
    let windows = json!({"spec": {"os": {"name": "windows"}, "containers": [{"name": "a"}]}});
    let escalates = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)";
    at(25, &windows, "");
    at(21, &windows, escalates);
    // Before the restricted check there was, the baseline's counted.
    let adding = json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["SYS_ADMIN"]}});
    at(
        21,
        &container(&adding),
        "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
    );
    let annotation = json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}});
    at(
        18,
        &annotation,
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
    );
    at(19, &annotation, "");
}
