//! Which objects a pod names, and which a volume does, read from as little of them as possible.
//!
//! Follows upstream `VisitPodSecretNames` and `VisitPodConfigmapNames` (pkg/api/v1/pod/util.go) and
//! `VisitPVSecretNames` (pkg/api/v1/persistentvolume/util.go), v1.35.

use super::graph::Target;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeSet;

/// What a pod on a node makes readable for that node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super::super) struct References {
    /// Empty where the pod is on no node.
    pub(super) node: String,
    /// By kind and name; all are in the pod's namespace.
    pub(super) objects: BTreeSet<(Target, String)>,
}

impl References {
    /// # Errors
    /// Where this is no pod.
    pub(super) fn of_pod(json: &[u8]) -> Result<Self, serde_json::Error> {
        let pod: Pod = serde_json::from_slice(json)?;
        let mut references = Self { node: pod.spec.node_name.clone(), objects: BTreeSet::new() };
        // A node makes mirror pods itself: they must not open anything to it.
        if pod.metadata.annotations.mirror.is_none() {
            references.add_pod(pod);
        }
        Ok(references)
    }

    /// What a pod names that is not on a node because of it: whether there is anything at all, in
    /// words (upstream `HasAPIObjectReference`).
    pub(in super::super::super) fn first_of_mirror(json: &[u8]) -> Option<&'static str> {
        let mut pod: Pod = serde_json::from_slice(json).ok()?;
        pod.metadata.annotations.mirror = None;
        let mut references = Self::default();
        references.add_pod(pod);
        let target = references.objects.first().map(|(target, _)| *target)?;
        Some(match target {
            Target::Account => "serviceaccounts",
            Target::Secret => "secrets",
            Target::ConfigMap => "configmaps",
            Target::Claim => "persistentvolumeclaims",
            _ => "resourceclaims",
        })
    }

    fn add(&mut self, target: Target, name: String) {
        if !name.is_empty() {
            self.objects.insert((target, name));
        }
    }

    fn add_pod(&mut self, pod: Pod) {
        let spec = pod.spec;
        self.add(Target::Account, spec.service_account_name);
        for secret in spec.image_pull_secrets {
            self.add(Target::Secret, secret.name);
        }
        let containers = spec.containers.into_iter().chain(spec.init_containers);
        for container in containers.chain(spec.ephemeral_containers) {
            self.add_container(container);
        }
        for volume in spec.volumes {
            self.add_volume(volume, &pod.metadata.name);
        }
        for claim in spec.resource_claims {
            self.add(Target::ResourceClaim, claim.resource_claim_name);
        }
        for claim in pod.status.resource_claim_statuses {
            self.add(Target::ResourceClaim, claim.resource_claim_name);
        }
    }

    fn add_container(&mut self, container: Container) {
        for source in container.env_from {
            self.add(Target::Secret, source.secret_ref.name);
            self.add(Target::ConfigMap, source.config_map_ref.name);
        }
        for variable in container.env {
            self.add(Target::Secret, variable.value_from.secret_key_ref.name);
            self.add(Target::ConfigMap, variable.value_from.config_map_key_ref.name);
        }
    }

    fn add_volume(&mut self, volume: Volume, pod: &str) {
        self.add(Target::Secret, volume.secret.secret_name);
        self.add(Target::ConfigMap, volume.config_map.name);
        for source in volume.projected.sources {
            self.add(Target::Secret, source.secret.name);
            self.add(Target::ConfigMap, source.config_map.name);
        }
        self.add(Target::Claim, volume.persistent_volume_claim.claim_name);
        if volume.ephemeral.is_some() {
            self.add(Target::Claim, format!("{pod}-{}", volume.name));
        }
        let names = [
            volume.azure_file.secret_name,
            volume.csi.node_publish_secret_ref.name,
            volume.cephfs.secret_ref.name,
            volume.cinder.secret_ref.name,
            volume.flex_volume.secret_ref.name,
            volume.rbd.secret_ref.name,
            volume.scale_io.secret_ref.name,
            volume.iscsi.secret_ref.name,
            volume.storageos.secret_ref.name,
        ];
        for name in names {
            self.add(Target::Secret, name);
        }
    }
}

/// What a volume makes readable for the nodes of the pods that use its claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VolumeReferences {
    /// `namespace/name`, or nothing where the volume is not claimed.
    pub(super) claim: Option<String>,
    /// `namespace/name` each.
    pub(super) secrets: BTreeSet<String>,
}

impl VolumeReferences {
    /// # Errors
    /// Where this is no volume.
    pub(super) fn of_volume(json: &[u8]) -> Result<Self, serde_json::Error> {
        let volume: PersistentVolume = serde_json::from_slice(json)?;
        let spec = volume.spec;
        let Some(claim) = spec.claim_ref else { return Ok(Self::default()) };
        let own = claim.namespace.clone();
        // Of the Secrets of CSI, the kubelet needs those of the node's part only.
        let mut named: Vec<_> = [
            spec.cephfs.secret_ref,
            spec.cinder.secret_ref,
            spec.flex_volume.secret_ref,
            spec.rbd.secret_ref,
            spec.scale_io.secret_ref,
            spec.iscsi.secret_ref,
            spec.storageos.secret_ref,
            spec.csi.node_publish_secret_ref,
            spec.csi.node_stage_secret_ref,
            spec.csi.node_expand_secret_ref,
        ]
        .into();
        named.push(Name {
            name: spec.azure_file.secret_name,
            namespace: spec.azure_file.secret_namespace,
        });
        let place = |secret: Name| {
            let namespace = if secret.namespace.is_empty() { &own } else { &secret.namespace };
            (!secret.name.is_empty()).then(|| format!("{namespace}/{}", secret.name))
        };
        Ok(Self {
            secrets: named.into_iter().filter_map(place).collect(),
            claim: Some(format!("{}/{}", claim.namespace, claim.name)),
        })
    }
}

/// The node that a VolumeAttachment is for.
///
/// # Errors
/// Where this is none.
pub(super) fn node_of_attachment(json: &[u8]) -> Result<String, serde_json::Error> {
    #[derive(Deserialize)]
    struct Attachment {
        #[serde(default)]
        spec: AttachmentSpec,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct AttachmentSpec {
        node_name: String,
    }
    Ok(serde_json::from_slice::<Attachment>(json)?.spec.node_name)
}

/// Structs with as much of their namesakes as matters here.
macro_rules! sketch {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[derive(Default, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            struct $name { $($(#[$attribute])* $field: $type),* }
        )*
    };
}

sketch! {
    Pod { metadata: Metadata, spec: Spec, status: Status }
    Metadata { name: String, annotations: Annotations }
    Spec {
        node_name: String,
        service_account_name: String,
        image_pull_secrets: Vec<Name>,
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        ephemeral_containers: Vec<Container>,
        volumes: Vec<Volume>,
        resource_claims: Vec<Claim>,
    }
    Status { resource_claim_statuses: Vec<Claim> }
    Claim { resource_claim_name: String }
    Container { env: Vec<Variable>, env_from: Vec<EnvSource> }
    Variable { value_from: ValueSource }
    ValueSource { secret_key_ref: Name, config_map_key_ref: Name }
    EnvSource { secret_ref: Name, config_map_ref: Name }
    Volume {
        name: String,
        secret: SecretSource,
        config_map: Name,
        projected: Projected,
        persistent_volume_claim: ClaimSource,
        ephemeral: Option<IgnoredAny>,
        azure_file: AzureFile,
        csi: Csi,
        cephfs: WithSecret,
        cinder: WithSecret,
        flex_volume: WithSecret,
        rbd: WithSecret,
        iscsi: WithSecret,
        storageos: WithSecret,
        #[serde(rename = "scaleIO")]
        scale_io: WithSecret,
    }
    SecretSource { secret_name: String }
    ClaimSource { claim_name: String }
    Projected { sources: Vec<ProjectedSource> }
    ProjectedSource { secret: Name, config_map: Name }
    AzureFile { secret_name: String, secret_namespace: String }
    Csi { node_publish_secret_ref: Name, node_stage_secret_ref: Name, node_expand_secret_ref: Name }
    WithSecret { secret_ref: Name }
    Name { name: String, namespace: String }
    PersistentVolume { spec: VolumeSpec }
    VolumeSpec {
        claim_ref: Option<Name>,
        azure_file: AzureFile,
        csi: Csi,
        cephfs: WithSecret,
        cinder: WithSecret,
        flex_volume: WithSecret,
        rbd: WithSecret,
        iscsi: WithSecret,
        storageos: WithSecret,
        #[serde(rename = "scaleIO")]
        scale_io: WithSecret,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(pod: &Value, expected: &str) {
        let references = References::of_pod(pod.to_string().as_bytes()).unwrap();
        let objects: Vec<_> =
            references.objects.iter().map(|(target, name)| format!("{target:?} {name}")).collect();
        assert_eq!(format!("{}: {}", references.node, objects.join(", ")), expected);
    }

    #[test]
    fn everything_that_a_pod_names() {
        let container = |secret: &str| {
            json!({
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "envFrom": [{"configMapRef": {"name": format!("{secret}-map")}}],
            })
        };
        let mut pod = json!({
            "metadata": {"name": "web", "annotations": {"a": "b"}, "labels": {"c": "d"}},
            "spec": {
                "nodeName": "n", "serviceAccountName": "bot",
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [container("c")],
                "initContainers": [container("i")],
                "ephemeralContainers": [container("e")],
                "volumes": [
                    {"name": "v1", "secret": {"secretName": "s1"}},
                    {"name": "v2", "configMap": {"name": "m2"}},
                    {"name": "v3", "projected": {"sources": [
                        {"secret": {"name": "s3"}}, {"configMap": {"name": "m3"}},
                        {"serviceAccountToken": {"path": "token"}},
                    ]}},
                    {"name": "v4", "persistentVolumeClaim": {"claimName": "p4"}},
                    {"name": "v5", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "v6", "emptyDir": {}},
                    {"name": "v7", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s7"}}},
                    {"name": "v8", "scaleIO": {"secretRef": {"name": "s8"}}},
                ],
            },
            "status": {"phase": "Running"},
        });
        check(
            &pod,
            "n: Secret c, Secret e, Secret i, Secret pull, Secret s1, Secret s3, Secret s7, \
             Secret s8, ConfigMap c-map, ConfigMap e-map, ConfigMap i-map, ConfigMap m2, \
             ConfigMap m3, Claim p4, Claim web-v5, Account bot",
        );
        pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("1");
        check(&pod, "n: ");
        let named = References::first_of_mirror(pod.to_string().as_bytes());
        assert_eq!(named, Some("secrets"));
    }

    #[test]
    fn what_a_claimed_volume_names() {
        let mut volume = json!({"spec": {
            "claimRef": {"namespace": "a", "name": "b"},
            "csi": {
                "controllerPublishSecretRef": {"name": "no", "namespace": "x"},
                "nodeStageSecretRef": {"name": "yes", "namespace": "x"},
            },
            "azureFile": {"secretName": "azure"},
        }});
        let read =
            |volume: &Value| VolumeReferences::of_volume(volume.to_string().as_bytes()).unwrap();
        let references = read(&volume);
        assert_eq!(references.claim.as_deref(), Some("a/b"));
        assert_eq!(references.secrets.into_iter().collect::<Vec<_>>(), ["a/azure", "x/yes"]);
        volume["spec"]["claimRef"] = Value::Null;
        assert_eq!(read(&volume), VolumeReferences::default());
    }
}
