//! What upstream says of its types and fields: the sentences that `k8s-openapi` has in its schemas,
//! taken when this is built. They are in no file of ours.
//!
//! Start at [`render()`]. `registry::schema::descriptions` reads what it writes.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::WatchEvent;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::Write as _;

#[path = "values.rs"]
mod values;
use values::VALUES;

/// Has the kinds of a module, and all that they are made of, described.
macro_rules! describe {
    ($generator:ident, $($($part:ident)::+ { $($kind:ident),+ $(,)? })+) => {
        $({
            use k8s_openapi::$($part)::+ as module;
            $(describe_one::<module::$kind>($generator);)+
        })+
    };
}

fn describe_one<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// The schemas of every type that is not part of another, by their OpenAPI names.
fn schemas() -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    workloads(&mut generator);
    policies(&mut generator);
    machinery(&mut generator);
    generator.take_definitions(false)
}

fn workloads(generator: &mut SchemaGenerator) {
    describe!(generator,
        api::apps::v1 { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
        api::autoscaling::v1 { HorizontalPodAutoscaler, Scale }
        api::autoscaling::v2 { HorizontalPodAutoscaler }
        api::batch::v1 { CronJob, Job }
        api::coordination::v1 { Lease }
        api::coordination::v1alpha2 { LeaseCandidate }
        api::coordination::v1beta1 { LeaseCandidate }
        api::core::v1 {
            Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
            Service, ServiceAccount,
        }
        api::discovery::v1 { EndpointSlice }
        api::events::v1 { Event }
        api::networking::v1 { IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR }
        api::networking::v1beta1 { IPAddress, ServiceCIDR }
        api::node::v1 { RuntimeClass }
        api::resource::v1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        api::resource::v1alpha3 { DeviceTaintRule }
        api::resource::v1beta1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        api::resource::v1beta2 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        api::scheduling::v1 { PriorityClass }
        api::scheduling::v1alpha1 { Workload }
        api::storage::v1 {
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass,
        }
        api::storage::v1beta1 { VolumeAttributesClass }
    );
}

fn policies(generator: &mut SchemaGenerator) {
    describe!(generator,
        api::admissionregistration::v1 {
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        }
        api::admissionregistration::v1alpha1 {
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
        }
        api::admissionregistration::v1beta1 {
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
        }
        api::authentication::v1 { SelfSubjectReview, TokenRequest, TokenReview }
        api::authorization::v1 {
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview,
        }
        api::certificates::v1 { CertificateSigningRequest }
        api::certificates::v1alpha1 { ClusterTrustBundle }
        api::certificates::v1beta1 { ClusterTrustBundle, PodCertificateRequest }
        api::flowcontrol::v1 { FlowSchema, PriorityLevelConfiguration }
        api::policy::v1 { Eviction, PodDisruptionBudget }
        api::rbac::v1 { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
    );
}

fn machinery(generator: &mut SchemaGenerator) {
    describe!(generator,
        api::apiserverinternal::v1alpha1 { StorageVersion }
        api::storagemigration::v1beta1 { StorageVersionMigration }
        apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        apimachinery::pkg::apis::meta::v1 {
            APIGroupList, APIResourceList, APIVersions, DeleteOptions, Patch, Status,
        }
        apimachinery::pkg::version { Info }
        kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    );
    describe_one::<WatchEvent<RawExtension>>(generator);
}

/// What upstream says of this field is a paragraph of its own on its type in `k8s-openapi`.
const EVENTS_OBJECT: (&str, &str) = ("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", "object");

fn text_of(schema: Option<&Value>) -> &str {
    schema.and_then(|schema| schema["description"].as_str()).unwrap_or_default()
}

/// Texts, each once, and the number of each entry's text.
#[derive(Default)]
struct Texts {
    known: HashMap<String, u16>,
    entries: Vec<u16>,
    ends: Vec<u32>,
    text: String,
}

impl Texts {
    fn add(&mut self, text: &str) {
        // Some end with a line's end, and are shown in the midst of others.
        let text = text.trim_end();
        let number = match self.known.get(text) {
            Some(number) => *number,
            None => {
                let number = u16::try_from(self.ends.len()).expect("there are some 2000 texts");
                self.text.push_str(text);
                self.ends.push(u32::try_from(self.text.len()).expect("they are half a megabyte"));
                self.known.insert(text.to_owned(), number);
                number
            }
        };
        self.entries.push(number);
    }

    /// How many texts there are, where each ends, the texts' numbers by entry, and the texts;
    /// numbers in little endian, all of it compressed.
    fn into_bytes(self) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        let count = u32::try_from(self.ends.len()).expect("numbers of texts are 16 bits");
        let mut bytes = count.to_le_bytes().to_vec();
        bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
        bytes.extend(self.entries.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(self.text.into_bytes());
        encoder.write_all(&bytes).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }
}

/// The descriptions of the types of these names, then of all their fields, and then of values, each
/// in its order.
pub(crate) fn render(types: &[(String, Vec<&str>)]) -> Vec<u8> {
    let schemas = schemas();
    let mut texts = Texts::default();
    let of_event = text_of(schemas.get(EVENTS_OBJECT.0));
    let (of_event, of_object) = of_event.split_once("\n\n").unwrap_or((of_event, ""));
    for (name, _) in types {
        texts.add(if name == EVENTS_OBJECT.0 { of_event } else { text_of(schemas.get(name)) });
    }
    for (name, fields) in types {
        let properties = schemas.get(name).and_then(|schema| schema.get("properties"));
        for field in fields {
            let own = text_of(properties.and_then(|it| it.get(*field)));
            texts.add(if (name.as_str(), *field) == EVENTS_OBJECT { of_object } else { own });
        }
    }
    for name in VALUES {
        texts.add(text_of(schemas.get(name)));
    }
    texts.into_bytes()
}
