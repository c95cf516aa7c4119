//! One file per kind, and the table that lists them.

mod admissionregistration;
pub mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod events;
mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;
#[cfg(test)]
mod testing;
mod webhook_address;

pub use self::apiregistration::{Priority, priority};
pub use self::core::service_address_errors;
pub use self::flowcontrol::{Required, WellKnown, well_known};

use super::Kind;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler as HorizontalPodAutoscalerV1;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
    PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as EventV1;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::api::networking::v1::{
    IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::resource::v1::{
    DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

/// Every built-in kind. The order of groups is that of discovery documents, which is upstream's by
/// priority, and the first of a group's versions is the preferred one.
pub static KINDS: &[Kind] = &[
    Kind::of::<ComponentStatus>(),
    Kind::of::<ConfigMap>(),
    Kind::of::<Endpoints>(),
    Kind::of::<Event>(),
    Kind::of::<LimitRange>(),
    Kind::of::<Namespace>(),
    Kind::of::<Node>(),
    Kind::of::<PersistentVolumeClaim>(),
    Kind::of::<PersistentVolume>(),
    Kind::of::<Pod>(),
    Kind::of::<PodTemplate>(),
    Kind::of::<ReplicationController>(),
    Kind::of::<ResourceQuota>(),
    Kind::of::<Secret>(),
    Kind::of::<ServiceAccount>(),
    Kind::of::<Service>(),
    Kind::of::<APIService>(),
    Kind::of::<ControllerRevision>(),
    Kind::of::<DaemonSet>(),
    Kind::of::<Deployment>(),
    Kind::of::<ReplicaSet>(),
    Kind::of::<StatefulSet>(),
    Kind::version_of::<EventV1>(),
    Kind::of::<SelfSubjectReview>(),
    Kind::of::<TokenReview>(),
    Kind::of::<LocalSubjectAccessReview>(),
    Kind::of::<SelfSubjectAccessReview>(),
    Kind::of::<SelfSubjectRulesReview>(),
    Kind::of::<SubjectAccessReview>(),
    Kind::of::<HorizontalPodAutoscaler>(),
    Kind::version_of::<HorizontalPodAutoscalerV1>(),
    Kind::of::<CronJob>(),
    Kind::of::<Job>(),
    Kind::of::<CertificateSigningRequest>(),
    Kind::of::<IngressClass>(),
    Kind::of::<Ingress>(),
    Kind::of::<IPAddress>(),
    Kind::of::<NetworkPolicy>(),
    Kind::of::<ServiceCIDR>(),
    Kind::of::<PodDisruptionBudget>(),
    Kind::of::<ClusterRoleBinding>(),
    Kind::of::<ClusterRole>(),
    Kind::of::<RoleBinding>(),
    Kind::of::<Role>(),
    Kind::of::<CSIDriver>(),
    Kind::of::<CSINode>(),
    Kind::of::<CSIStorageCapacity>(),
    Kind::of::<StorageClass>(),
    Kind::of::<VolumeAttachment>(),
    Kind::of::<VolumeAttributesClass>(),
    Kind::of::<MutatingWebhookConfiguration>(),
    Kind::of::<ValidatingAdmissionPolicy>(),
    Kind::of::<ValidatingAdmissionPolicyBinding>(),
    Kind::of::<ValidatingWebhookConfiguration>(),
    Kind::of::<CustomResourceDefinition>(),
    Kind::of::<PriorityClass>(),
    Kind::of::<Lease>(),
    Kind::of::<RuntimeClass>(),
    Kind::of::<EndpointSlice>(),
    Kind::of::<DeviceClass>(),
    Kind::of::<ResourceClaim>(),
    Kind::of::<ResourceClaimTemplate>(),
    Kind::of::<ResourceSlice>(),
    Kind::of::<FlowSchema>(),
    Kind::of::<PriorityLevelConfiguration>(),
];
