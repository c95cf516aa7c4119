//! Cases for strategic merge patch, in YAML for the eye.

use super::super::{Format, TypeRef, decode, types};
use super::strategic_merge_patch;
use serde_json::{Value, json};

fn yaml(text: &str) -> Value {
    let decoded = decode(text.as_bytes(), Format::Yaml).expect("test cases are YAML");
    assert!(decoded.duplicates.is_empty(), "{text}");
    decoded.value
}

fn check(of: TypeRef, original: &str, patch: &str, expected: &str) {
    let patched = strategic_merge_patch(of, yaml(original), yaml(patch)).expect(patch);
    assert_eq!(patched, yaml(expected), "\noriginal {original}\npatch    {patch}");
}

/// Patches the spec of a pod.
fn pod(original: &str, patch: &str, expected: &str) {
    let spec = |text: &str| format!("spec: {text}");
    check(types::POD, &spec(original), &spec(patch), &spec(expected));
}

/// Patches the one container of a pod, named `a`.
fn container(original: &str, patch: &str, expected: &str) {
    let of = |text: &str| format!("{{containers: [{{name: a, {text}}}]}}");
    pod(&of(original), &of(patch), &of(expected));
}

/// Patches the metadata of a ConfigMap.
fn metadata(original: &str, patch: &str, expected: &str) {
    let of = |text: &str| format!("metadata: {text}");
    check(types::CONFIG_MAP, &of(original), &of(patch), &of(expected));
}

fn refused(of: TypeRef, original: &str, patch: &str, code: u16, message: &str) {
    let error = strategic_merge_patch(of, yaml(original), yaml(patch)).expect_err(patch);
    assert_eq!((error.to_status().code, error.to_string().as_str()), (code, message));
}

#[test]
fn scalars_are_set_and_null_removes_them() {
    pod("{nodeName: n1}", "{nodeName: n2}", "{nodeName: n2}");
    pod("{}", "{nodeName: n1}", "{nodeName: n1}");
    pod("{nodeName: n1, hostNetwork: true}", "{nodeName: null}", "{hostNetwork: true}");
    pod("{nodeName: n1}", "{hostname: null}", "{nodeName: n1}");
    pod("{activeDeadlineSeconds: 5}", "{activeDeadlineSeconds: 7}", "{activeDeadlineSeconds: 7}");
    pod("{hostNetwork: true}", "{hostNetwork: false}", "{hostNetwork: false}");
    pod("{nodeName: n1}", "{}", "{nodeName: n1}");
    check(types::POD, "spec: {nodeName: n1}", "spec: null", "{}");
    check(types::POD, "{}", "spec: {nodeName: n1, hostname: null}", "spec: {nodeName: n1}");
}

#[test]
fn a_value_of_another_kind_replaces() {
    container(
        "livenessProbe: {tcpSocket: {port: 80}}",
        "livenessProbe: {tcpSocket: {port: http}}",
        "livenessProbe: {tcpSocket: {port: http}}",
    );
    check(types::CONFIG_MAP, "data: {k: v}", "data: []", "data: []");
    check(types::CONFIG_MAP, "data: 5", "data: {k: v, gone: null}", "data: {k: v}");
}

#[test]
fn maps_of_strings_are_merged_by_key() {
    check(types::CONFIG_MAP, "data: {k: v}", "data: {l: w}", "data: {k: v, l: w}");
    check(types::CONFIG_MAP, "data: {k: v, l: w}", "data: {k: null}", "data: {l: w}");
    check(types::CONFIG_MAP, "data: {k: v}", "data: {k: null}", "data: {}");
    check(types::CONFIG_MAP, "{}", "data: {k: v, l: null}", "data: {k: v}");
    metadata(
        "{labels: {app: web}, annotations: {note: old}}",
        "{labels: {tier: front}, annotations: {note: new, other: x}}",
        "{labels: {app: web, tier: front}, annotations: {note: new, other: x}}",
    );
    pod(
        "{nodeSelector: {disk: ssd}}",
        "{nodeSelector: {zone: b}}",
        "{nodeSelector: {disk: ssd, zone: b}}",
    );
    container(
        "resources: {limits: {cpu: '1', memory: 1Gi}}",
        "resources: {limits: {cpu: '2'}, requests: {cpu: 500m}}",
        "resources: {limits: {cpu: '2', memory: 1Gi}, requests: {cpu: 500m}}",
    );
}

#[test]
fn structs_are_merged_field_by_field() {
    pod(
        "{securityContext: {runAsUser: 1, fsGroup: 2}}",
        "{securityContext: {runAsUser: 3}}",
        "{securityContext: {runAsUser: 3, fsGroup: 2}}",
    );
    pod(
        "{dnsConfig: {options: [{name: ndots}]}}",
        "{dnsConfig: {}}",
        "{dnsConfig: {options: [{name: ndots}]}}",
    );
    container(
        "lifecycle: {preStop: {exec: {command: [x]}}}",
        "lifecycle: {postStart: {exec: {command: [w]}}}",
        "lifecycle: {preStop: {exec: {command: [x]}}, postStart: {exec: {command: [w]}}}",
    );
    check(
        types::DEPLOYMENT,
        "spec: {replicas: 1, template: {spec: {hostNetwork: true}}}",
        "spec: {template: {spec: {hostPID: true}}}",
        "spec: {replicas: 1, template: {spec: {hostNetwork: true, hostPID: true}}}",
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    container("args: [a, b]", "args: [c]", "args: [c]");
    container("args: [a]", "args: []", "args: []");
    container("command: [a], workingDir: /", "command: null", "workingDir: /");
    pod("{tolerations: [{key: a}]}", "{tolerations: [{key: b}]}", "{tolerations: [{key: b}]}");
    pod(
        "{tolerations: [{key: a}]}",
        "{tolerations: [{key: b, value: null}, {$patch: replace}]}",
        "{tolerations: [{key: b}]}",
    );
    check(types::NODE, "spec: {taints: [{key: a}]}", "spec: {taints: []}", "spec: {taints: []}");
    pod(
        "{dnsConfig: {searches: [x]}}",
        "{dnsConfig: {searches: [w]}}",
        "{dnsConfig: {searches: [w]}}",
    );
}

#[test]
fn lists_of_objects_are_merged_by_key() {
    pod(
        "{containers: [{name: a, image: x}, {name: b, image: x}]}",
        "{containers: [{name: b, image: w}]}",
        "{containers: [{name: a, image: x}, {name: b, image: w}]}",
    );
    pod(
        "{containers: [{name: a}]}",
        "{containers: [{name: b, image: x}]}",
        "{containers: [{name: b, image: x}, {name: a}]}",
    );
    pod("{containers: []}", "{containers: [{name: a}]}", "{containers: [{name: a}]}");
    pod("{}", "{containers: [{name: a, image: null}]}", "{containers: [{name: a}]}");
    pod("{containers: [{name: a}]}", "{containers: []}", "{containers: [{name: a}]}");
    pod("{containers: [{name: a}]}", "{containers: null}", "{}");
    pod(
        "{containers: [{name: a, image: x, workingDir: /}]}",
        "{containers: [{name: a, workingDir: null}]}",
        "{containers: [{name: a, image: x}]}",
    );
    pod(
        "{initContainers: [{name: i, image: x}]}",
        "{initContainers: [{name: i, image: w}]}",
        "{initContainers: [{name: i, image: w}]}",
    );
    container(
        "env: [{name: A, value: one}, {name: B, value: two}]",
        "env: [{name: B, value: three}]",
        "env: [{name: A, value: one}, {name: B, value: three}]",
    );
    container(
        "env: [{name: A, value: one}]",
        "env: [{name: A, value: null, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]",
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]",
    );
    container(
        "volumeMounts: [{mountPath: /a, name: v}]",
        "volumeMounts: [{mountPath: /a, readOnly: true}]",
        "volumeMounts: [{mountPath: /a, name: v, readOnly: true}]",
    );
    pod(
        "{hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]}",
        "{hostAliases: [{ip: 10.0.0.1, hostnames: [b]}]}",
        "{hostAliases: [{ip: 10.0.0.1, hostnames: [b]}]}",
    );
    pod(
        "{imagePullSecrets: [{name: one}]}",
        "{imagePullSecrets: [{name: one}]}",
        "{imagePullSecrets: [{name: one}]}",
    );
}

#[test]
fn merge_keys_may_be_numbers() {
    container(
        "ports: [{containerPort: 80, name: web}, {containerPort: 443}]",
        "ports: [{containerPort: 443, name: tls}]",
        "ports: [{containerPort: 80, name: web}, {containerPort: 443, name: tls}]",
    );
    check(
        types::SERVICE,
        "spec: {ports: [{port: 80, nodePort: 30080}]}",
        "spec: {ports: [{port: 80, targetPort: web}]}",
        "spec: {ports: [{port: 80, nodePort: 30080, targetPort: web}]}",
    );
    check(
        types::SERVICE,
        "spec: {ports: [{port: 80, protocol: TCP}, {port: 80, protocol: UDP}]}",
        "spec: {ports: [{port: 80, name: dns}]}",
        "spec: {ports: [{port: 80, protocol: TCP, name: dns}, {port: 80, protocol: UDP}]}",
    );
    check(
        types::SERVICE,
        "spec: {ports: [{port: 80}]}",
        "spec: {ports: [{port: '80'}]}",
        "spec: {ports: [{port: '80'}, {port: 80}]}",
    );
}

#[test]
fn conditions_and_addresses_are_merged_by_type() {
    check(
        types::NODE,
        "status: {conditions: [{type: Ready, status: 'True'}, {type: DiskPressure, status: 'False'}]}",
        "status: {conditions: [{type: Ready, status: Unknown}]}",
        "status: {conditions: [{type: Ready, status: Unknown}, {type: DiskPressure, status: 'False'}]}",
    );
    check(
        types::NODE,
        "status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}",
        "status: {addresses: [{type: Hostname, address: n1}]}",
        "status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 10.0.0.1}]}",
    );
    check(
        types::DEPLOYMENT,
        "status: {conditions: [{type: Available, status: 'False'}]}",
        "status: {conditions: [{type: Available, reason: Ready}]}",
        "status: {conditions: [{type: Available, status: 'False', reason: Ready}]}",
    );
    check(
        types::POD,
        "status: {podIPs: [{ip: 10.42.0.5}]}",
        "status: {podIPs: [{ip: 10.42.0.5}, {ip: '::1'}]}",
        "status: {podIPs: [{ip: 10.42.0.5}, {ip: '::1'}]}",
    );
    metadata(
        "{ownerReferences: [{uid: u1, name: a}, {uid: u2, name: b}]}",
        "{ownerReferences: [{uid: u2, controller: true}]}",
        "{ownerReferences: [{uid: u1, name: a}, {uid: u2, name: b, controller: true}]}",
    );
    check(
        types::SERVICE_ACCOUNT,
        "secrets: [{name: one}]",
        "secrets: [{name: two}]",
        "secrets: [{name: two}, {name: one}]",
    );
}

#[test]
fn delete_directives_remove_elements() {
    pod(
        "{containers: [{name: a}, {name: b}]}",
        "{containers: [{name: a, $patch: delete}]}",
        "{containers: [{name: b}]}",
    );
    pod(
        "{containers: [{name: a}]}",
        "{containers: [{name: z, $patch: delete}]}",
        "{containers: [{name: a}]}",
    );
    pod(
        "{containers: [{name: a}]}",
        "{containers: [{$patch: delete, name: a}]}",
        "{containers: []}",
    );
    pod(
        "{containers: [{name: a, image: x}]}",
        "{containers: [{name: a, $patch: delete}, {name: b, image: w}]}",
        "{containers: [{name: b, image: w}]}",
    );
    container(
        "env: [{name: A}, {name: B}, {name: C}]",
        "env: [{name: B, $patch: delete}, {name: C, value: c}]",
        "env: [{name: A}, {name: C, value: c}]",
    );
    pod("{}", "{containers: [{name: a, $patch: delete}]}", "{containers: []}");
    metadata(
        "{ownerReferences: [{uid: u1}, {uid: u2}]}",
        "{ownerReferences: [{$patch: delete, uid: u1}], uid: id}",
        "{ownerReferences: [{uid: u2}], uid: id}",
    );
}

#[test]
fn replace_directives_replace_lists_and_maps() {
    pod(
        "{containers: [{name: a}, {name: b}]}",
        "{containers: [{name: c, image: null}, {$patch: replace}]}",
        "{containers: [{name: c}]}",
    );
    pod("{containers: [{name: a}]}", "{containers: [{$patch: replace}]}", "{containers: []}");
    metadata(
        "{labels: {app: web, tier: front}}",
        "{labels: {$patch: replace, app: db}}",
        "{labels: {app: db}}",
    );
    pod(
        "{securityContext: {runAsUser: 1, fsGroup: 2}}",
        "{securityContext: {$patch: replace, fsGroup: 3, runAsGroup: null}}",
        "{securityContext: {fsGroup: 3}}",
    );
    check(
        types::CONFIG_MAP,
        "{data: {k: v}, kind: ConfigMap}",
        "{$patch: replace, data: {l: w}}",
        "data: {l: w}",
    );
}

#[test]
fn delete_directives_empty_maps() {
    metadata("{labels: {app: web}}", "{labels: {$patch: delete}}", "{labels: {}}");
    pod(
        "{securityContext: {runAsUser: 1}}",
        "{securityContext: {$patch: delete}}",
        "{securityContext: {}}",
    );
    pod("{hostname: h}", "{securityContext: {$patch: delete}}", "{hostname: h}");
    check(types::CONFIG_MAP, "data: {k: v}", "$patch: delete", "{}");
}

#[test]
fn a_replace_strategy_replaces_structs() {
    check(
        types::POD_DISRUPTION_BUDGET,
        "spec: {selector: {matchLabels: {a: b}}, minAvailable: 1}",
        "spec: {selector: {matchLabels: {c: d}}}",
        "spec: {selector: {matchLabels: {c: d}}, minAvailable: 1}",
    );
}

#[test]
fn retain_keys_clears_what_it_does_not_name() {
    check(
        types::DEPLOYMENT,
        "spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}",
        "spec: {strategy: {$retainKeys: [type], type: Recreate}}",
        "spec: {strategy: {type: Recreate}}",
    );
    check(
        types::DEPLOYMENT,
        "spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}",
        "spec: {strategy: {$retainKeys: [type, rollingUpdate], rollingUpdate: {maxSurge: 2}}}",
        "spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 2}}}",
    );
    check(
        types::DEPLOYMENT,
        "spec: {strategy: {type: Recreate}}",
        "spec: {strategy: {$retainKeys: [type], rollingUpdate: null}}",
        "spec: {strategy: {type: Recreate}}",
    );
    check(
        types::DEPLOYMENT,
        "spec: {}",
        "spec: {strategy: {$retainKeys: [type], type: Recreate}}",
        "spec: {strategy: {type: Recreate}}",
    );
    pod(
        "{volumes: [{name: v, emptyDir: {}}]}",
        "{volumes: [{name: v, $retainKeys: [name, hostPath], hostPath: {path: /p}}]}",
        "{volumes: [{name: v, hostPath: {path: /p}}]}",
    );
    pod(
        "{volumes: [{name: v, emptyDir: {}}]}",
        "{volumes: [{name: w, $retainKeys: [name, hostPath], hostPath: {path: /p}}]}",
        "{volumes: [{name: w, hostPath: {path: /p}}, {name: v, emptyDir: {}}]}",
    );
}

#[test]
fn lists_of_scalars_are_merged_as_sets() {
    metadata("{finalizers: [a, b]}", "{finalizers: [c]}", "{finalizers: [c, a, b]}");
    metadata("{finalizers: [a, b]}", "{finalizers: [b, a]}", "{finalizers: [b, a]}");
    metadata("{finalizers: [a, b]}", "{finalizers: [b]}", "{finalizers: [a, b]}");
    metadata("{finalizers: [a, b, a]}", "{finalizers: [c]}", "{finalizers: [c, a, b]}");
    metadata("{}", "{finalizers: [a]}", "{finalizers: [a]}");
    metadata("{finalizers: [a]}", "{finalizers: null}", "{}");
    check(
        types::NODE,
        "spec: {podCIDRs: [10.42.0.0/24]}",
        "spec: {podCIDRs: ['fd00::/64']}",
        "spec: {podCIDRs: ['fd00::/64', 10.42.0.0/24]}",
    );
}

#[test]
fn scalars_are_deleted_from_lists() {
    metadata(
        "{finalizers: [a, b]}",
        "{$deleteFromPrimitiveList/finalizers: [a]}",
        "{finalizers: [b]}",
    );
    metadata("{finalizers: [a]}", "{$deleteFromPrimitiveList/finalizers: [a]}", "{finalizers: []}");
    metadata(
        "{finalizers: [a]}",
        "{$deleteFromPrimitiveList/finalizers: [z]}",
        "{finalizers: [a]}",
    );
    metadata("{uid: u}", "{$deleteFromPrimitiveList/finalizers: [a]}", "{uid: u}");
    metadata(
        "{finalizers: [a, b]}",
        "{$deleteFromPrimitiveList/finalizers: [a], finalizers: [c]}",
        "{finalizers: [c, b]}",
    );
    metadata(
        "{finalizers: [a, b, c]}",
        "{$deleteFromPrimitiveList/finalizers: [b], $setElementOrder/finalizers: [c, a]}",
        "{finalizers: [c, a]}",
    );
    container("args: [a, b]", "$deleteFromPrimitiveList/args: [a]", "args: [b]");
    metadata("{finalizers: [a]}", "{$deleteFromPrimitiveList/finalizers: null}", "{}");
}

#[test]
fn the_patch_sets_the_order_of_elements() {
    pod(
        "{containers: [{name: a}, {name: b}, {name: c}]}",
        "{$setElementOrder/containers: [{name: c}, {name: b}, {name: a}]}",
        "{containers: [{name: c}, {name: b}, {name: a}]}",
    );
    pod(
        "{containers: [{name: a}, {name: b}]}",
        "{$setElementOrder/containers: [{name: a}, {name: c}, {name: b}], containers: [{name: c, image: x}]}",
        "{containers: [{name: a}, {name: c, image: x}, {name: b}]}",
    );
    pod(
        "{containers: [{name: a}, {name: b}]}",
        "{$setElementOrder/containers: [{name: b}], containers: [{name: a, $patch: delete}, {name: b, image: x}]}",
        "{containers: [{name: b, image: x}]}",
    );
    pod(
        "{}",
        "{$setElementOrder/containers: [{name: b}, {name: a}], containers: [{name: b}, {name: a}]}",
        "{containers: [{name: b}, {name: a}]}",
    );
    pod("{hostname: h}", "{$setElementOrder/containers: [{name: a}]}", "{hostname: h}");
    metadata(
        "{finalizers: [a, b, c]}",
        "{$setElementOrder/finalizers: [c, b, a]}",
        "{finalizers: [c, b, a]}",
    );
    metadata(
        "{finalizers: [a, b]}",
        "{$setElementOrder/finalizers: [b, c, a], finalizers: [c]}",
        "{finalizers: [b, c, a]}",
    );
}

#[test]
fn elements_the_patch_does_not_know_keep_their_place() {
    pod(
        "{containers: [{name: sidecar}, {name: a}, {name: b}]}",
        "{$setElementOrder/containers: [{name: b}, {name: a}]}",
        "{containers: [{name: sidecar}, {name: b}, {name: a}]}",
    );
    pod(
        "{containers: [{name: a}, {name: sidecar}, {name: b}]}",
        "{$setElementOrder/containers: [{name: a}, {name: new}, {name: b}], containers: [{name: new}]}",
        "{containers: [{name: a}, {name: new}, {name: sidecar}, {name: b}]}",
    );
    pod(
        "{containers: [{name: a}, {name: b}, {name: sidecar}]}",
        "{$setElementOrder/containers: [{name: b}, {name: a}]}",
        "{containers: [{name: b}, {name: a}, {name: sidecar}]}",
    );
    pod(
        "{containers: [{name: a}, {name: b}, {name: c}]}",
        "{containers: [{name: b, image: x}, {name: d}]}",
        "{containers: [{name: a}, {name: b, image: x}, {name: d}, {name: c}]}",
    );
    metadata(
        "{finalizers: [x, a, w]}",
        "{$setElementOrder/finalizers: [a, b], finalizers: [b]}",
        "{finalizers: [x, a, b, w]}",
    );
}

#[test]
fn an_added_element_takes_the_place_of_a_deleted_one() {
    pod(
        "{containers: [{name: a}, {name: b}, {name: sidecar}]}",
        "{$setElementOrder/containers: [{name: b}, {name: c}],
            containers: [{name: c}, {name: a, $patch: delete}]}",
        "{containers: [{name: b}, {name: sidecar}, {name: c}]}",
    );
    pod(
        "{containers: [{name: a}, {name: sidecar}]}",
        "{$setElementOrder/containers: [{name: b}, {name: c}],
            containers: [{name: b}, {name: c}, {name: a, $patch: delete}]}",
        "{containers: [{name: sidecar}, {name: b}, {name: c}]}",
    );
}

#[test]
fn directives_work_inside_merged_elements() {
    container(
        "ports: [{containerPort: 80}, {containerPort: 81}]",
        "$setElementOrder/ports: [{containerPort: 81}, {containerPort: 80}]",
        "ports: [{containerPort: 81}, {containerPort: 80}]",
    );
    container(
        "env: [{name: A, value: one}], image: x",
        "env: [{name: A, $patch: delete}], image: w",
        "env: [], image: w",
    );
    container(
        "securityContext: {capabilities: {add: [NET_ADMIN]}, runAsUser: 1}",
        "securityContext: {$patch: replace, runAsUser: 2}",
        "securityContext: {runAsUser: 2}",
    );
}

#[test]
fn directives_are_taken_out_of_new_values() {
    pod(
        "{hostname: h}",
        "{containers: [{name: a, $setElementOrder/env: [{name: A}], env: [{name: A, value: v}, {name: B, $patch: delete}]}]}",
        "{hostname: h, containers: [{name: a, env: [{name: A, value: v}]}]}",
    );
    pod(
        "{containers: [{name: b}]}",
        "{containers: [{name: a, $setElementOrder/env: [{name: A}], env: [{name: A}]}]}",
        "{containers: [{name: a, env: [{name: A}]}, {name: b}]}",
    );
    check(
        types::DEPLOYMENT,
        "{}",
        "spec: {strategy: {$retainKeys: [type], type: Recreate}}",
        "spec: {strategy: {type: Recreate}}",
    );
}

#[test]
fn free_form_json_is_merged_like_a_merge_patch() {
    check(
        types::CONTROLLER_REVISION,
        "data: {spec: {list: [1, 2], keep: 1}}",
        "data: {spec: {list: [3], other: null}}",
        "data: {spec: {list: [3], keep: 1}}",
    );
}

#[test]
fn what_kubectl_apply_sends_for_a_deployment_applies() {
    check(
        types::DEPLOYMENT,
        "{metadata: {annotations: {last: old}}, spec: {replicas: 3, template: {spec: {containers: [
            {name: web, image: 'web:1', ports: [{containerPort: 80, protocol: TCP}], terminationMessagePath: /dev/log}]}}}}",
        "{metadata: {annotations: {last: new}}, spec: {replicas: null, template: {spec: {
            $setElementOrder/containers: [{name: web}, {name: log}],
            containers: [{$setElementOrder/ports: [{containerPort: 80}, {containerPort: 81}], image: 'web:2', name: web,
                ports: [{containerPort: 81}]}, {image: 'log:1', name: log}]}}}}",
        "{metadata: {annotations: {last: new}}, spec: {template: {spec: {containers: [
            {name: web, image: 'web:2', ports: [{containerPort: 80, protocol: TCP}, {containerPort: 81}], terminationMessagePath: /dev/log},
            {name: log, image: 'log:1'}]}}}}",
    );
}

#[test]
fn malformed_patches_are_bad_requests() {
    let refused = |patch: &str, message: &str| {
        refused(types::POD, "spec: {containers: [{name: a}]}", patch, 400, message);
    };
    refused("[]", "invalid JSON document");
    refused("$patch: upsert", "unknown patch type: upsert in map: map[]");
    refused("$patch: merge", "unknown patch type: merge in map: map[]");
    refused("$patch: 5", "unknown patch type: 5 in map: map[]");
    refused(
        "spec: {containers: [{name: a, $patch: merge}]}",
        "merging lists cannot yet be specified in the patch",
    );
    refused(
        "spec: {containers: [{$patch: odd, name: a}]}",
        "unknown patch type: odd in map: map[$patch:odd name:a]",
    );
    refused("spec: {$retainKeys: containers}", "invalid patch format of retainKeys");
    refused("spec: {$retainKeys: [hostname], nodeName: n}", "invalid patch format of retainKeys");
    refused(
        "spec: {$setElementOrder/containers: {name: a}}",
        "expected a []interface {}, but received a map[string]interface {}",
    );
    refused(
        "spec: {$setElementOrder: [{name: a}]}",
        "invalid patch format of setElementOrder list",
    );
    refused("spec: {$deleteFromPrimitiveList: [a]}", "invalid patch format of primitive list");
}

#[test]
fn patches_that_do_not_fit_are_unprocessable() {
    let refused = |original: &str, patch: &str, message: &str| {
        refused(types::POD, original, patch, 422, message);
    };
    refused(
        "spec: {containers: [{name: a}]}",
        "spec: {containers: [{image: x}]}",
        "map: map[image:x] does not contain declared merge key: name",
    );
    refused(
        "spec: {containers: [{name: a}]}",
        "spec: {containers: [{$patch: delete}]}",
        "map: map[$patch:delete] does not contain declared merge key: name",
    );
    refused(
        "spec: {containers: [{name: a}]}",
        "spec: {containers: [a]}",
        "list element types are not identical: [[map[name:a]] [a]]",
    );
    refused(
        "metadata: {finalizers: [[a]]}",
        "metadata: {finalizers: [[b]]}",
        "lists of lists are not supported",
    );
    refused(
        "spec: {containers: [{name: a}, {name: b}]}",
        "spec: {$setElementOrder/containers: [{name: a}, {name: b}], containers: [{name: b}, {name: a}]}",
        "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] map[name:b]]\n",
    );
}

/// Quadratic work would take hours here.
#[test]
fn long_lists_are_merged_in_time() {
    const ELEMENTS: usize = 150_000;
    let finalizers = |from: usize| {
        let names: Vec<_> = (from..from + ELEMENTS).map(|at| format!("a/{at}")).collect();
        json!({"metadata": {"finalizers": names}})
    };
    let ports = |from: usize| {
        let ports: Vec<_> = (from..from + ELEMENTS).map(|port| json!({"port": port})).collect();
        json!({"spec": {"ports": ports}})
    };
    for (of, list, make) in [
        (types::CONFIG_MAP, "/metadata/finalizers", &finalizers as &dyn Fn(usize) -> Value),
        (types::SERVICE, "/spec/ports", &ports),
    ] {
        let patched = strategic_merge_patch(of, make(0), make(ELEMENTS / 2)).unwrap();
        let merged = patched.pointer(list).unwrap().as_array().unwrap();
        assert_eq!(merged.len(), ELEMENTS / 2 * 3);
    }
}

#[test]
fn a_long_list_is_not_merged_once_for_each_time_that_its_element_is_named() {
    let env: Vec<_> = (0..20_000).map(|index| json!({"name": format!("e{index}")})).collect();
    let pod = json!({"spec": {"containers": [{"name": "a", "env": env}]}});
    let again = |list: Value| json!({"spec": {"containers": vec![list; 20_000]}});
    for element in [
        json!({"name": "a", "env": [{"name": "x"}]}),
        json!({"name": "a", "$deleteFromPrimitiveList/env": []}),
    ] {
        let error = strategic_merge_patch(types::POD, pod.clone(), again(element)).unwrap_err();
        let problem = "the patch merges more than 2000000 elements of lists";
        assert_eq!(error.to_string(), problem);
    }
    let once = json!({"spec": {"containers": [{"name": "a", "env": env}]}});
    assert_eq!(strategic_merge_patch(types::POD, pod.clone(), once), Ok(pod));
}
