//! The volume by which a pod knows the API server and can speak to it: a token, the authority, and
//! the pod's namespace (upstream `mountServiceAccountToken` and `TokenVolumeSource`,
//! plugin/pkg/admission/serviceaccount, v1.35).

use super::super::super::metadata::generated_name;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, PodSpec, ProjectedVolumeSource, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

/// Client libraries look here.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const VOLUME_NAME_PREFIX: &str = "kube-api-access-";

/// An hour and seven seconds: by the seven, tokens that were asked for like this are known
/// (upstream `WarnOnlyBoundTokenExpirationSeconds`).
const TOKEN_SECONDS: i64 = 60 * 60 + 7;

/// The mode of the files, as the API defaults it (octal 0644).
const DEFAULT_MODE: i32 = 0o644;

/// What the pod says counts, else what its account says.
pub(super) fn is_wanted(spec: &PodSpec, account: &ServiceAccount) -> bool {
    let own = spec.automount_service_account_token;
    own.or(account.automount_service_account_token).unwrap_or(true)
}

/// Mounts the volume into every container that has nothing else in its place.
pub(super) fn mount(spec: &mut PodSpec, entropy: u128) {
    let volumes = spec.volumes.iter().flatten();
    let known = volumes.map(|volume| &volume.name).find(|it| it.starts_with(VOLUME_NAME_PREFIX));
    let is_there = known.is_some();
    let name = known.cloned().unwrap_or_else(|| generated_name(VOLUME_NAME_PREFIX, entropy));
    let mut is_needed = false;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        if !has_mount(container) {
            is_needed = true;
            container.volume_mounts.get_or_insert_default().push(VolumeMount {
                name: name.clone(),
                read_only: Some(true),
                mount_path: MOUNT_PATH.to_owned(),
                ..VolumeMount::default()
            });
        }
    }
    if is_needed && !is_there {
        spec.volumes.get_or_insert_default().push(Volume {
            name,
            projected: Some(source()),
            ..Volume::default()
        });
    }
}

fn has_mount(container: &Container) -> bool {
    container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == MOUNT_PATH)
}

fn source() -> ProjectedVolumeSource {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        audience: None,
    };
    let authority = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath {
            key: "ca.crt".to_owned(),
            path: "ca.crt".to_owned(),
            mode: None,
        }]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.namespace".to_owned(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let downward_api = DownwardAPIProjection { items: Some(vec![namespace]) };
    let projection = VolumeProjection::default;
    ProjectedVolumeSource {
        default_mode: Some(DEFAULT_MODE),
        sources: Some(vec![
            VolumeProjection { service_account_token: Some(token), ..projection() },
            VolumeProjection { config_map: Some(authority), ..projection() },
            VolumeProjection { downward_api: Some(downward_api), ..projection() },
        ]),
    }
}

/// Whether some volume has a token of the pod's account.
pub(super) fn is_projected(spec: &PodSpec) -> bool {
    let volumes = spec.volumes.iter().flatten();
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref());
    sources.flatten().any(|source| source.service_account_token.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The containers' mounts and the pod's volumes afterwards, by name.
    fn check(spec: &Value, expected: &str) {
        let mut spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        mount(&mut spec, 0);
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mounts: Vec<String> = all
            .map(|container| {
                let mounts = container.volume_mounts.iter().flatten();
                mounts.map(|mount| mount.name.as_str()).collect::<Vec<_>>().join("+")
            })
            .collect();
        let volumes: Vec<_> = spec.volumes.iter().flatten().map(|it| it.name.as_str()).collect();
        assert_eq!(format!("{} | {}", mounts.join(" "), volumes.join(" ")), expected);
    }

    #[test]
    fn every_container_has_the_volume() {
        let named = |name: &str| json!({"name": name});
        let taken =
            json!({"name": "t", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]});
        let other = json!({"name": "o", "volumeMounts": [{"name": "x", "mountPath": "/x"}]});
        let one = "kube-api-access-bbbbb";
        check(&json!({"containers": [named("a")]}), &format!("{one} | {one}"));
        check(
            &json!({"initContainers": [named("i")], "containers": [other, taken.clone()]}),
            &format!("{one} x+{one} own | {one}"),
        );
        check(&json!({"containers": [taken]}), "own | ");
        check(
            &json!({"containers": [named("a")], "volumes": [{"name": "kube-api-access-mine"}]}),
            "kube-api-access-mine | kube-api-access-mine",
        );
    }

    #[test]
    fn the_volume_is_upstreams() {
        let expected = json!({"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
            {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
        ]});
        assert_eq!(serde_json::to_value(source()).unwrap(), expected);
    }

    #[test]
    fn the_pod_has_the_last_word() {
        for (pod, account, expected) in [
            (None, None, true),
            (None, Some(false), false),
            (Some(true), Some(false), true),
            (Some(false), Some(true), false),
        ] {
            let spec = PodSpec { automount_service_account_token: pod, ..PodSpec::default() };
            let account = ServiceAccount {
                automount_service_account_token: account,
                ..ServiceAccount::default()
            };
            assert_eq!(is_wanted(&spec, &account), expected);
        }
    }
}
