//! Whole pod specs, good and bad; the parts have their own tables beside them.

use super::{apply_defaults, validate};
use crate::api::FieldPath;
use crate::registry::kinds::testing::compare;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// The errors of a pod with one good container and these changes.
#[track_caller]
fn check(changes: Value, expected: &[&str]) {
    let mut value = json!({"containers": [{"name": "c", "image": "i"}]});
    json_patch::merge(&mut value, &changes);
    let mut spec: PodSpec = serde_json::from_value(value).unwrap();
    apply_defaults(&mut spec);
    let pod = ObjectMeta { name: Some("web".to_owned()), ..ObjectMeta::default() };
    compare(validate(&spec, Some(&pod), &FieldPath::new("spec")), expected);
}

/// As [`check`], for changes of the one container.
#[track_caller]
fn check_container(changes: Value, expected: &[&str]) {
    let mut container = json!({"name": "c", "image": "i"});
    json_patch::merge(&mut container, &changes);
    check(json!({"containers": [container]}), expected);
}

#[test]
fn a_pod_needs_a_container() {
    check(json!({}), &[]);
    check(json!({"containers": []}), &["spec.containers: Required value"]);
}

#[test]
fn names_and_images_of_containers() {
    check_container(
        json!({"name": "", "image": ""}),
        &["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"],
    );
    check_container(
        json!({"name": "A", "imagePullPolicy": "Sometimes", "terminationMessagePolicy": "Log"}),
        &[
            "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
            "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Log\": supported values: \"FallbackToLogsOnError\", \"File\"",
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    let container = json!({"name": "c", "image": "i"});
    check(
        json!({"containers": [container, container], "initContainers": [container], "ephemeralContainers": [container]}),
        &[
            "spec.containers[1].name: Duplicate value: \"c\"",
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
        ],
    );
}

#[test]
fn ports_of_containers() {
    check_container(
        json!({"ports": [
            {"containerPort": 0, "name": "a"}, {"containerPort": 70000, "name": "a", "hostPort": -1},
            {"containerPort": 80, "name": "TOO_LONG_FOR_A_PORT", "protocol": "ICMP"},
        ]}),
        &[
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[2].name: Invalid value: \"TOO_LONG_FOR_A_PORT\": must be no more than 15 characters",
            "spec.containers[0].ports[2].name: Invalid value: \"TOO_LONG_FOR_A_PORT\": must contain only alpha-numeric",
            "spec.containers[0].ports[2].name: Invalid value: \"TOO_LONG_FOR_A_PORT\": must contain at least one letter",
            "spec.containers[0].ports[2].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    let serves = |name: &str| json!({"name": name, "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]});
    check(
        json!({"containers": [serves("a"), serves("b")], "initContainers": [serves("c")]}),
        &["spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//80\""],
    );
    check(
        json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]}]}),
        &[
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
        ],
    );
}

#[test]
fn restarts_of_containers() {
    check_container(json!({"restartPolicy": "Never"}), &[]);
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    check_container(json!({"restartPolicy": "Never", "restartPolicyRules": [rule]}), &[]);
    check_container(
        json!({"restartPolicyRules": [rule, {"action": "Stop"}]}),
        &[
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            "spec.containers[0].restartPolicyRules[1].action: Unsupported value: \"Stop\": supported values: \"Restart\"",
            "spec.containers[0].restartPolicyRules[1].exitCodes: Required value: must be specified",
        ],
    );
    check_container(
        json!({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "Maybe"}]}),
        &[
            "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
            "spec.containers[0].resizePolicy: Unsupported value: \"Maybe\": supported values: \"NotRequired\", \"RestartContainer\"",
        ],
    );
}

#[test]
fn init_containers_and_sidecars() {
    let init = |changes: Value| {
        let mut container = json!({"name": "i", "image": "i"});
        json_patch::merge(&mut container, &changes);
        json!({"initContainers": [container]})
    };
    let probe = json!({"exec": {"command": ["true"]}});
    check(init(json!({"restartPolicy": "Always", "startupProbe": probe})), &[]);
    check(
        init(json!({"livenessProbe": probe, "lifecycle": {}})),
        &[
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    check(
        init(json!({"restartPolicy": "Sometimes"})),
        &[
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ],
    );
}

#[test]
fn ephemeral_containers_only_look() {
    let ephemeral = |changes: Value| {
        let mut container = json!({"name": "e", "image": "i"});
        json_patch::merge(&mut container, &changes);
        json!({"ephemeralContainers": [container]})
    };
    check(ephemeral(json!({"targetContainerName": "c"})), &[]);
    check(
        ephemeral(
            json!({"targetContainerName": "x", "ports": [{"containerPort": 80}], "image": " i", "resources": {"limits": {"cpu": "1"}}}),
        ),
        &[
            "spec.ephemeralContainers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
        ],
    );
}

#[test]
fn a_bad_volume_is_not_there_for_its_mounts() {
    check(
        json!({
            "volumes": [{"name": "v", "hostPath": {"path": ""}}],
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        }),
        &[
            "spec.volumes[0].hostPath.path: Required value",
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ],
    );
}

#[test]
fn policies_and_names() {
    check(
        json!({
            "restartPolicy": "Sometimes", "dnsPolicy": "Cluster", "nodeSelector": {"-": ""},
            "serviceAccountName": "A", "nodeName": "B", "priorityClassName": "C", "runtimeClassName": "D",
            "preemptionPolicy": "Always", "activeDeadlineSeconds": 0,
        }),
        &[
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            "spec.dnsPolicy: Unsupported value: \"Cluster\": supported values: \"ClusterFirst\", \"ClusterFirstWithHostNet\", \"Default\", \"None\"",
            "spec.nodeSelector: Invalid value: \"-\": name part must consist of",
            "spec.serviceAccountName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            "spec.nodeName: Invalid value: \"B\": a lowercase RFC 1123 subdomain",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.priorityClassName: Invalid value: \"C\": a lowercase RFC 1123 subdomain",
            "spec.runtimeClassName: Invalid value: \"D\": a lowercase RFC 1123 subdomain",
            "spec.preemptionPolicy: Unsupported value: \"Always\": supported values: \"Never\", \"PreemptLowerPriority\"",
        ],
    );
}

#[test]
fn gates_and_claims() {
    check(
        json!({"readinessGates": [{"conditionType": "-"}], "schedulingGates": [{"name": "a"}, {"name": "a"}]}),
        &[
            "spec.readinessGates[0].conditionType: Invalid value: \"-\": name part must consist of",
            "spec.schedulingGates[1]: Duplicate value: \"a\"",
        ],
    );
    check(
        json!({"resourceClaims": [
            {"name": "gpu", "resourceClaimName": "x"}, {"name": "gpu"}, {"name": "", "resourceClaimName": "X"},
        ]}),
        &[
            "spec.resourceClaims[1].name: Duplicate value: \"gpu\"",
            "spec.resourceClaims[1]: Invalid value: {\"name\":\"gpu\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            "spec.resourceClaims[2].name: Required value",
            "spec.resourceClaims[2].resourceClaimName: Invalid value: \"X\": a lowercase RFC 1123 subdomain",
        ],
    );
}

#[test]
fn users_of_its_own() {
    check(
        json!({"hostUsers": false, "hostNetwork": true, "hostPID": true, "hostIPC": true}),
        &[
            "spec.hostNetwork: Forbidden: when `hostUsers` is false",
            "spec.HostPID: Forbidden: when `hostUsers` is false",
            "spec.HostIPC: Forbidden: when `hostUsers` is false",
        ],
    );
}

#[test]
fn amounts_of_the_pod_as_a_whole() {
    check(
        json!({
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}}],
        }),
        &[
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
            "spec.resources.containers[0][memory].limits: Invalid value: \"2Gi\": must be less than or equal to pod limits of 1Gi",
        ],
    );
    check(
        json!({"resources": {"claims": []}}),
        &["spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level"],
    );
}

#[test]
fn operating_systems() {
    check(json!({"os": {"name": "linux"}}), &[]);
    check(
        json!({"os": {"name": "plan9"}}),
        &["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
    );
    check(
        json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {"hostProcess": true}}}),
        &[
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ],
    );
}

#[test]
fn variables_from_files() {
    let spec = |volume: Value| {
        json!({"volumes": [volume], "containers": [{"name": "c", "image": "i", "env": [
            {"name": "A", "valueFrom": {"fileKeyRef": {"key": "A", "path": "f", "volumeName": "v"}}},
        ]}]})
    };
    check(spec(json!({"name": "v", "emptyDir": {}})), &[]);
    let path = "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName";
    check(spec(json!({"name": "w", "emptyDir": {}})), &[&format!("{path}: Not found: \"v\"")]);
    check(
        spec(json!({"name": "v", "hostPath": {"path": "/x"}})),
        &[&format!("{path}: Invalid value: \"v\": referenced volume must be of type emptyDir")],
    );
}
