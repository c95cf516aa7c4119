//! What is filled in where a pod spec says nothing.
//!
//! Follows upstream `SetDefaults_PodSpec`, `SetDefaults_Container`, `SetDefaults_Volume` and their
//! neighbours (pkg/apis/core/v1/defaults.go, v1.35). What applies to Pods alone, not to templates,
//! is in [`pod`](super::super::pod).

use super::super::claim_spec;
use crate::api::Quantity;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, PodSpec,
    PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::BTreeMap;

const TERMINATION_GRACE_SECONDS: i64 = 30;
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
const TOKEN_EXPIRATION_SECONDS: i64 = 3_600;

/// Mode of the files of a volume: `-rw-r--r--`.
const FILE_MODE: i32 = 0o644;

pub(in crate::registry::kinds) fn apply_defaults(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(TERMINATION_GRACE_SECONDS);
    default_service_account(spec);
    drop_empty(spec);
    round_up(spec.overhead.as_mut());
    if let Some(resources) = &mut spec.resources {
        default_resources(resources);
    }
    spec.volumes.iter_mut().flatten().for_each(default_volume);
    spec.init_containers.iter_mut().flatten().for_each(default_container);
    spec.containers.iter_mut().for_each(default_container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(default_ephemeral_container);
    let constraints = spec.topology_spread_constraints.iter_mut().flatten();
    for constraint in constraints {
        constraint.node_affinity_policy.take_if(|policy| policy.is_empty());
        constraint.node_taints_policy.take_if(|policy| policy.is_empty());
    }
}

pub(in crate::registry::kinds) fn apply_template_defaults(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    apply_defaults(template.spec.get_or_insert_default());
}

/// Sets a text that is absent or empty: to upstream's types, both are the same.
fn fill(field: &mut Option<String>, default: &str) {
    field.take_if(|text| text.is_empty());
    field.get_or_insert_with(|| default.to_owned());
}

/// The old name and the new name of the service account's name say the same; the new one wins
/// (upstream `Convert_v1_PodSpec_To_core_PodSpec` and its reverse).
fn default_service_account(spec: &mut PodSpec) {
    spec.service_account_name.take_if(|name| name.is_empty());
    spec.service_account.take_if(|name| name.is_empty());
    if spec.service_account_name.is_none() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

/// Empty lists, texts and refused flags are the same as absent ones to upstream's types, and are
/// stored as absent.
fn drop_empty(spec: &mut PodSpec) {
    for text in [
        &mut spec.node_name,
        &mut spec.hostname,
        &mut spec.subdomain,
        &mut spec.priority_class_name,
    ] {
        text.take_if(|text| text.is_empty());
    }
    for flag in [&mut spec.host_network, &mut spec.host_pid, &mut spec.host_ipc] {
        flag.take_if(|flag| !*flag);
    }
    spec.node_selector.take_if(|map| map.is_empty());
    spec.volumes.take_if(|list| list.is_empty());
    spec.init_containers.take_if(|list| list.is_empty());
    spec.ephemeral_containers.take_if(|list| list.is_empty());
    spec.image_pull_secrets.take_if(|list| list.is_empty());
    spec.tolerations.take_if(|list| list.is_empty());
    spec.host_aliases.take_if(|list| list.is_empty());
    spec.readiness_gates.take_if(|list| list.is_empty());
    spec.scheduling_gates.take_if(|list| list.is_empty());
    spec.resource_claims.take_if(|list| list.is_empty());
    spec.topology_spread_constraints.take_if(|list| list.is_empty());
    spec.overhead.take_if(|map| map.is_empty());
}

fn default_container(container: &mut Container) {
    let image = container.image.clone();
    fill(&mut container.image_pull_policy, pull_policy(image.as_deref().unwrap_or_default()));
    fill(&mut container.termination_message_path, TERMINATION_MESSAGE_PATH);
    fill(&mut container.termination_message_policy, "File");
    container.working_dir.take_if(|path| path.is_empty());
    for port in container.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(default_variable);
    default_resources(container.resources.get_or_insert_default());
    for probe in [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ] {
        probe.iter_mut().for_each(default_probe);
    }
    container.lifecycle.iter_mut().for_each(default_lifecycle);
    container.command.take_if(|list| list.is_empty());
    container.args.take_if(|list| list.is_empty());
    container.env.take_if(|list| list.is_empty());
    container.env_from.take_if(|list| list.is_empty());
    container.ports.take_if(|list| list.is_empty());
    container.volume_mounts.take_if(|list| list.is_empty());
    container.volume_devices.take_if(|list| list.is_empty());
}

fn default_ephemeral_container(container: &mut EphemeralContainer) {
    let image = container.image.clone();
    fill(&mut container.image_pull_policy, pull_policy(image.as_deref().unwrap_or_default()));
    fill(&mut container.termination_message_path, TERMINATION_MESSAGE_PATH);
    fill(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(default_variable);
    default_resources(container.resources.get_or_insert_default());
}

/// An image that may change under its name is always pulled.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last_segment = name.rsplit('/').next().unwrap_or(name);
    let tag = last_segment.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) => "Always",
        (None, None) if !image.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn default_variable(variable: &mut EnvVar) {
    variable.value.take_if(|value| value.is_empty());
    let Some(source) = &mut variable.value_from else {
        return;
    };
    if let Some(field) = &mut source.field_ref {
        fill(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut source.resource_field_ref {
        default_divisor(&mut resource.divisor);
    }
    if let Some(file) = &mut source.file_key_ref {
        file.optional.get_or_insert(false);
    }
}

/// A divisor is always stored; zero stands for one.
fn default_divisor(divisor: &mut Option<resource::Quantity>) {
    let quantity = divisor.get_or_insert_with(|| Quantity::ZERO.to_field());
    if let Ok(amount) = quantity.0.parse::<Quantity>() {
        *quantity = amount.to_field();
    }
}

fn default_probe(probe: &mut Probe) {
    let fill_seconds = |field: &mut Option<i32>, default| {
        field.take_if(|seconds| *seconds == 0);
        field.get_or_insert(default);
    };
    fill_seconds(&mut probe.timeout_seconds, 1);
    fill_seconds(&mut probe.period_seconds, 10);
    fill_seconds(&mut probe.success_threshold, 1);
    fill_seconds(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(default_http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_lifecycle(lifecycle: &mut Lifecycle) {
    let handlers = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
    for handler in handlers.into_iter().flatten() {
        handler.http_get.iter_mut().for_each(default_http_get);
    }
}

fn default_http_get(action: &mut HTTPGetAction) {
    fill(&mut action.path, "/");
    fill(&mut action.scheme, "HTTP");
}

fn default_resources(resources: &mut ResourceRequirements) {
    round_up(resources.limits.as_mut());
    round_up(resources.requests.as_mut());
    resources.limits.take_if(|amounts| amounts.is_empty());
    resources.requests.take_if(|amounts| amounts.is_empty());
}

/// Amounts are stored in whole thousandths and in canonical form (upstream
/// `SetDefaults_ResourceList`). What is no amount stays as it is, for validation to refuse.
pub(in crate::registry::kinds) fn round_up(
    amounts: Option<&mut BTreeMap<String, resource::Quantity>>,
) {
    for amount in amounts.into_iter().flat_map(|amounts| amounts.values_mut()) {
        if let Ok(parsed) = amount.0.parse::<Quantity>() {
            *amount = parsed.rounded_to_milli().to_field();
        }
    }
}

fn default_volume(volume: &mut Volume) {
    let without_source = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == without_source {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        for item in source.items.iter_mut().flatten() {
            if let Some(field) = &mut item.field_ref {
                fill(&mut field.api_version, "v1");
            }
            if let Some(resource) = &mut item.resource_field_ref {
                default_divisor(&mut resource.divisor);
            }
        }
    }
    if let Some(source) = &mut volume.image {
        let reference = source.reference.clone();
        fill(&mut source.pull_policy, pull_policy(reference.as_deref().unwrap_or_default()));
    }
    volume.projected.iter_mut().for_each(default_projected);
    default_legacy_volume(volume);
}

fn default_projected(source: &mut ProjectedVolumeSource) {
    source.default_mode.get_or_insert(FILE_MODE);
    source.sources.iter_mut().flatten().for_each(default_projection);
}

fn default_projection(projection: &mut VolumeProjection) {
    if let Some(token) = &mut projection.service_account_token {
        token.expiration_seconds.get_or_insert(TOKEN_EXPIRATION_SECONDS);
    }
    let items = projection.downward_api.iter_mut().flat_map(|source| source.items.iter_mut());
    for item in items.flatten() {
        if let Some(field) = &mut item.field_ref {
            fill(&mut field.api_version, "v1");
        }
        if let Some(resource) = &mut item.resource_field_ref {
            default_divisor(&mut resource.divisor);
        }
    }
}

/// Sources that only external drivers serve today (upstream has their defaults declared on the
/// types).
fn default_legacy_volume(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        fill(&mut disk.caching_mode, "ReadWrite");
        fill(&mut disk.fs_type, "ext4");
        fill(&mut disk.kind, "Shared");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale_io) = &mut volume.scale_io {
        fill(&mut scale_io.storage_mode, "ThinProvisioned");
        fill(&mut scale_io.fs_type, "xfs");
    }
    let claim = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut());
    if let Some(claim) = claim {
        claim_spec::apply_defaults(&mut claim.spec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, pointer: &str, expected: Value) {
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        apply_defaults(&mut spec);
        let value = serde_json::to_value(&spec).unwrap();
        assert_eq!(value.pointer(pointer), Some(&expected), "{value:#}");
        let before = spec.clone();
        apply_defaults(&mut spec);
        assert_eq!(spec, before, "defaults settle at once");
    }

    fn with_container(container: Value) -> Value {
        json!({"containers": [container]})
    }

    #[test]
    fn an_empty_spec_gets_its_policies() {
        let spec = json!({"containers": [{"name": "c", "image": "a:1"}], "nodeName": ""});
        check(
            spec,
            "",
            json!({
                "containers": [{
                    "name": "c", "image": "a:1", "imagePullPolicy": "IfNotPresent",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {},
                "terminationGracePeriodSeconds": 30,
            }),
        );
    }

    #[test]
    fn images_that_may_change_are_pulled_always() {
        for (image, expected) in [
            ("", "IfNotPresent"),
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0", "IfNotPresent"),
            ("nginx:latest@sha256:0", "Always"),
        ] {
            check(
                with_container(json!({"name": "c", "image": image})),
                "/containers/0/imagePullPolicy",
                json!(expected),
            );
        }
    }

    #[test]
    fn amounts_are_canonical_and_rounded_up() {
        check(
            with_container(json!({"name": "c", "resources": {
                "limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": "0.1m"},
            }})),
            "/containers/0/resources",
            json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "1m"}}),
        );
    }

    #[test]
    fn probes_and_hooks() {
        check(
            with_container(json!({"name": "c", "livenessProbe": {"httpGet": {"port": 80}}})),
            "/containers/0/livenessProbe",
            json!({
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                "failureThreshold": 3,
            }),
        );
        check(
            with_container(
                json!({"name": "c", "lifecycle": {"preStop": {"httpGet": {"port": 80}}}}),
            ),
            "/containers/0/lifecycle/preStop/httpGet/scheme",
            json!("HTTP"),
        );
    }

    #[test]
    fn variables() {
        check(
            with_container(json!({"name": "c", "env": [
                {"name": "A", "value": ""},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ]})),
            "/containers/0/env",
            json!([
                {"name": "A"},
                {"name": "B", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"divisor": "0", "resource": "limits.cpu"}}},
            ]),
        );
    }

    #[test]
    fn volumes() {
        check(
            json!({"containers": [], "volumes": [
                {"name": "a"},
                {"name": "b", "secret": {"secretName": "s"}},
                {"name": "c", "hostPath": {"path": "/x"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ]}),
            "/volumes",
            json!([
                {"name": "a", "emptyDir": {}},
                {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "c", "hostPath": {"path": "/x", "type": ""}},
                {"name": "d", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                ]}},
            ]),
        );
    }

    #[test]
    fn names_of_the_service_account_agree() {
        let spec = |old: &str, new: &str| json!({"containers": [], "serviceAccount": old, "serviceAccountName": new});
        check(spec("a", ""), "/serviceAccountName", json!("a"));
        check(spec("a", "b"), "/serviceAccount", json!("b"));
    }
}
