//! The controllers: one folder each, one loop for all (see `control`).
//!
//! Start at [`start`]; the reference to copy is [`replicaset`]. A controller is three things: which
//! changes make it look at which key (`mod.rs`), what it looks at (`observe`, there as well) and what
//! it decides (`plan.rs`, pure). Controllers never import each other.

mod addon;
mod availability;
pub mod certificates;
pub mod cronjob;
pub mod customresource;
pub mod daemonset;
mod definition;
pub mod deployment;
pub mod disruption;
mod disruption_target;
pub mod endpoint;
mod endpoint_slices;
mod endpoint_subsets;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod ephemeralvolume;
pub mod garbagecollector;
mod hash;
mod history;
pub mod ingress;
pub mod job;
mod job_end;
mod kinds;
mod metadata;
pub mod namespace;
mod node_addresses;
pub mod nodeaddress;
pub mod nodeipam;
pub mod nodelifecycle;
mod ownership;
pub mod persistentvolume;
mod pod_template;
mod pod_writes;
pub mod podautoscaler;
pub mod podgc;
pub mod replicaset;
pub mod resourcequota;
pub mod rootcacertpublisher;
pub mod service;
mod service_pods;
pub mod serviceaccount;
pub mod servicecidrs;
mod share;
mod slow_start;
pub mod statefulset;
pub mod tainteviction;
pub mod tokencleaner;
pub mod ttlafterfinished;
pub mod volumeexpand;
pub mod volumeprotection;

pub use kinds::KindEntry;

use crate::client::{Cache, Client, EventRecorder, Reporter, Selection};
use crate::control::{ClientExecutor, Controller, Queue, run};
use crate::stdx::{Clock, Tasks};
use certificates::{CertificateController, Signers};
use cronjob::CronJobController;
use customresource::CustomResourceController;
use daemonset::DaemonSetController;
use definition::Definition;
use deployment::DeploymentController;
use disruption::DisruptionController;
use endpoint::EndpointController;
use endpointslice::EndpointSliceController;
use endpointslicemirroring::EndpointSliceMirroringController;
use ephemeralvolume::EphemeralVolumeController;
use garbagecollector::GarbageCollector;
use ingress::IngressController;
use ipnet::IpNet;
use job::JobController;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use kinds::Kinds;
use metadata::MetadataFeed;
use namespace::NamespaceController;
use nodeaddress::NodeAddressController;
use nodeipam::{NodeIpamController, NodeRange};
use nodelifecycle::NodeLifecycleController;
use persistentvolume::PersistentVolumeController;
use podautoscaler::PodAutoscalerController;
use podgc::PodGarbageCollector;
use replicaset::{ReplicaSetController, ReplicationControllerController};
use resourcequota::ResourceQuotaController;
use rootcacertpublisher::{ROOT_CA_CONFIG_MAP, RootCaCertPublisher};
use service::{HostPort, ServiceController};
use serviceaccount::ServiceAccountController;
use servicecidrs::ServiceCidrController;
use statefulset::StatefulSetController;
use std::path::PathBuf;
use std::sync::Arc;
use tainteviction::TaintEvictionController;
use tokencleaner::TokenCleaner;
use ttlafterfinished::TtlAfterFinishedController;
use volumeexpand::ExpandController;
use volumeprotection::{AttributesClassProtection, ClaimProtection, VolumeProtection};

/// What the controllers look at: one cache per kind, shared by all of them.
#[derive(Clone, Debug)]
pub struct Caches {
    pub namespaces: Arc<Cache<Namespace>>,
    pub nodes: Arc<Cache<Node>>,
    /// By which nodes say that they live. Not to be waited for.
    pub node_leases: Arc<Cache<Lease>>,
    pub pods: Arc<Cache<Pod>>,
    pub deployments: Arc<Cache<Deployment>>,
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    pub replication_controllers: Arc<Cache<ReplicationController>>,
    pub stateful_sets: Arc<Cache<StatefulSet>>,
    pub daemon_sets: Arc<Cache<DaemonSet>>,
    pub controller_revisions: Arc<Cache<ControllerRevision>>,
    pub persistent_volume_claims: Arc<Cache<PersistentVolumeClaim>>,
    /// Of all ConfigMaps only `kube-root-ca.crt` of each namespace.
    pub root_ca_config_maps: Arc<Cache<ConfigMap>>,
    /// Of all Secrets only the tokens by which machines join.
    pub bootstrap_tokens: Arc<Cache<Secret>>,
    pub resource_quotas: Arc<Cache<ResourceQuota>>,
    pub certificate_signing_requests: Arc<Cache<CertificateSigningRequest>>,
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    pub jobs: Arc<Cache<Job>>,
    pub persistent_volumes: Arc<Cache<PersistentVolume>>,
    pub storage_classes: Arc<Cache<StorageClass>>,
    pub volume_attributes_classes: Arc<Cache<VolumeAttributesClass>>,
    pub cron_jobs: Arc<Cache<CronJob>>,
    pub disruption_budgets: Arc<Cache<PodDisruptionBudget>>,
    pub autoscalers: Arc<Cache<HorizontalPodAutoscaler>>,
    pub services: Arc<Cache<Service>>,
    pub endpoints: Arc<Cache<Endpoints>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    pub service_cidrs: Arc<Cache<ServiceCIDR>>,
    pub ingresses: Arc<Cache<Ingress>>,
    pub ingress_classes: Arc<Cache<IngressClass>>,
    /// CustomResourceDefinitions without their schemas.
    pub definitions: Arc<Cache<Definition>>,
}

impl Caches {
    /// Begins to watch all of them, as [`Caller::ControllerManager`].
    pub fn start(client: &Client, tasks: &mut Tasks) -> Self {
        let everything = Selection::default;
        Self {
            namespaces: Cache::start(client.clone(), everything(), tasks),
            nodes: Cache::start(client.clone(), everything(), tasks),
            node_leases: Cache::start_unawaited(client.clone(), node_leases(), tasks),
            pods: Cache::start(client.clone(), everything(), tasks),
            deployments: Cache::start(client.clone(), everything(), tasks),
            replica_sets: Cache::start(client.clone(), everything(), tasks),
            replication_controllers: Cache::start(client.clone(), everything(), tasks),
            stateful_sets: Cache::start(client.clone(), everything(), tasks),
            daemon_sets: Cache::start(client.clone(), everything(), tasks),
            controller_revisions: Cache::start(client.clone(), everything(), tasks),
            persistent_volume_claims: Cache::start(client.clone(), everything(), tasks),
            root_ca_config_maps: Cache::start(client.clone(), root_ca_config_maps(), tasks),
            certificate_signing_requests: Cache::start(client.clone(), everything(), tasks),
            bootstrap_tokens: Cache::start(client.clone(), tokencleaner::selection(), tasks),
            resource_quotas: Cache::start(client.clone(), everything(), tasks),
            service_accounts: Cache::start(client.clone(), everything(), tasks),
            jobs: Cache::start(client.clone(), everything(), tasks),
            persistent_volumes: Cache::start(client.clone(), everything(), tasks),
            storage_classes: Cache::start(client.clone(), everything(), tasks),
            volume_attributes_classes: Cache::start(client.clone(), everything(), tasks),
            cron_jobs: Cache::start(client.clone(), everything(), tasks),
            disruption_budgets: Cache::start(client.clone(), everything(), tasks),
            autoscalers: Cache::start(client.clone(), everything(), tasks),
            services: Cache::start(client.clone(), everything(), tasks),
            endpoints: Cache::start(client.clone(), everything(), tasks),
            endpoint_slices: Cache::start(client.clone(), everything(), tasks),
            service_cidrs: Cache::start(client.clone(), everything(), tasks),
            ingresses: Cache::start(client.clone(), everything(), tasks),
            ingress_classes: Cache::start(client.clone(), everything(), tasks),
            definitions: Cache::start(client.clone(), everything(), tasks),
        }
    }
}

fn node_leases() -> Selection {
    Selection::namespace("kube-node-lease")
}

fn root_ca_config_maps() -> Selection {
    Selection::fields(format!("metadata.name={ROOT_CA_CONFIG_MAP}"))
}

/// What the controllers must be told.
#[derive(Clone, Debug)]
pub struct Config {
    pub clock: Clock,
    /// Every kind that is built into the API server.
    pub kinds: Vec<KindEntry>,
    /// Where nodes get the addresses of their pods: one range, or one of each family. Empty where
    /// somebody else gives them.
    pub node_ranges: Vec<NodeRange>,
    /// Where Services get their addresses, which nodes do not get.
    pub service_cidrs: Vec<IpNet>,
    /// The certificate by which pods know the API server, as PEM.
    pub root_ca: Arc<str>,
    /// Who signs certificates that somebody asks for.
    pub signers: Signers,
    /// Nodes have an ingress: Ingresses are told where it is.
    pub has_ingress: bool,
    /// `None` where somebody else gives Services of type `LoadBalancer` their addresses.
    pub load_balancer: Option<LoadBalancer>,
    /// Where manifests are that are applied by themselves. `None`: nowhere.
    pub manifests: Option<PathBuf>,
}

/// How Services of type `LoadBalancer` get the addresses of nodes.
#[derive(Clone, Debug)]
pub struct LoadBalancer {
    /// Ports that the nodes need themselves.
    pub reserved: Vec<HostPort>,
}

/// As whom a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// `system:kube-controller-manager`, which fills the caches.
    ControllerManager,
    /// The API server itself, whose loops some upstream are.
    ApiServer,
    /// Whoever wrote the manifests of this machine, and so may do everything: a member of
    /// `system:masters`, whose right to hand out others is not asked for.
    Manifests,
    /// This service account in `kube-system`: each controller has its own.
    ServiceAccount(&'a str),
}

/// Starts all controllers. `client` makes a client for each of them.
pub fn start(
    client: impl Fn(Caller<'_>) -> Client,
    caches: &Caches,
    config: Config,
    tasks: &mut Tasks,
) {
    let kinds = Kinds::new(config.kinds.iter().cloned());
    let feed = MetadataFeed::new(kinds.clone(), Arc::clone(&caches.definitions));
    let mut starter = Starter { client: &client, clock: &config.clock, tasks };

    starter.start_workloads(caches);

    starter.start_jobs(caches);
    starter.start_nodes(caches);

    let own_client = starter.client::<DisruptionController>();
    let controller = DisruptionController::new(own_client, caches, kinds.clone());
    let queue = controller.queue();
    starter.start(controller, queue);

    let own_client = starter.client::<PodAutoscalerController>();
    let controller = PodAutoscalerController::new(own_client, caches, kinds.clone());
    let queue = controller.queue();
    starter.start(controller, queue);

    let own_client = starter.client::<NamespaceController>();
    let controller = NamespaceController::new(own_client, caches, kinds.clone());
    let queue = controller.queue(&feed);
    starter.start(controller, queue);

    let controller = GarbageCollector::new(starter.client::<GarbageCollector>(), &feed);
    let queue = controller.queue();
    starter.start(controller, queue);

    let own_client = starter.client::<ResourceQuotaController>();
    let controller = ResourceQuotaController::new(own_client, caches, kinds.clone());
    let queue = controller.queue(&feed);
    starter.start(controller, queue);

    let controller = CustomResourceController::new(client(Caller::ApiServer), caches);
    let queue = controller.queue(&feed);
    starter.start_as(Caller::ApiServer, controller, queue);

    start_credentials(&mut starter, caches, &config);
    start_storage(&mut starter, caches);
    starter.start_services(caches, config.load_balancer);
    let own_client = starter.client::<ServiceCidrController>();
    let controller = ServiceCidrController::new(own_client, caches);
    let queue = controller.queue(&feed);
    starter.start(controller, queue);

    if config.has_ingress {
        let controller = IngressController::new(caches);
        let queue = controller.queue();
        starter.start(controller, queue);
    }

    if !config.node_ranges.is_empty() {
        let controller = NodeIpamController::new(caches, config.node_ranges, config.service_cidrs);
        let queue = controller.queue();
        starter.start(controller, queue);
    }
    feed.start(&client(Caller::ControllerManager), tasks);
    if let Some(directory) = config.manifests {
        addon::start(client(Caller::Manifests), caches, &config.clock, directory, tasks);
    }
}

/// The controllers of what people, machines and pods show to be believed.
fn start_credentials<F: Fn(Caller<'_>) -> Client>(
    starter: &mut Starter<'_, F>,
    caches: &Caches,
    config: &Config,
) {
    let own_client = starter.client::<CertificateController>();
    let controller = CertificateController::new(own_client, caches, config.signers.clone());
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = TokenCleaner::new(caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = ServiceAccountController::new(caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = RootCaCertPublisher::new(caches, Arc::clone(&config.root_ca));
    let queue = controller.queue();
    starter.start(controller, queue);
}

/// The controllers of claims and volumes.
fn start_storage<F: Fn(Caller<'_>) -> Client>(starter: &mut Starter<'_, F>, caches: &Caches) {
    let own_client = starter.client::<PersistentVolumeController>();
    let controller = PersistentVolumeController::new(own_client, caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = ClaimProtection::new(starter.client::<ClaimProtection>(), caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = VolumeProtection::new(caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let own_client = starter.client::<AttributesClassProtection>();
    let controller = AttributesClassProtection::new(own_client, caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = EphemeralVolumeController::new(caches);
    let queue = controller.queue();
    starter.start(controller, queue);

    let controller = ExpandController::new(caches);
    let queue = controller.queue();
    starter.start(controller, queue);
}

/// Starts one controller after the other.
struct Starter<'a, F> {
    client: &'a F,
    clock: &'a Clock,
    tasks: &'a mut Tasks,
}

impl<F: Fn(Caller<'_>) -> Client> Starter<'_, F> {
    fn client<C: Controller>(&self) -> Client {
        (self.client)(Caller::ServiceAccount(C::ACCOUNT))
    }

    /// Those who keep pods running.
    fn start_workloads(&mut self, caches: &Caches) {
        let controller = ReplicaSetController::new(self.client::<ReplicaSetController>(), caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = DeploymentController::new(self.client::<DeploymentController>(), caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let client = self.client::<ReplicationControllerController>();
        let controller = ReplicationControllerController::new(client, caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let client = self.client::<DaemonSetController>();
        let controller = DaemonSetController::new(client, caches, self.clock.clone());
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = StatefulSetController::new(self.client::<StatefulSetController>(), caches);
        let queue = controller.queue();
        self.start(controller, queue);
    }

    /// Those who say where Services lead, and by which addresses they are reached.
    fn start_services(&mut self, caches: &Caches, load_balancer: Option<LoadBalancer>) {
        let controller = EndpointSliceController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = EndpointController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = EndpointSliceMirroringController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);

        if let Some(LoadBalancer { reserved }) = load_balancer {
            let controller = ServiceController::new(caches, reserved);
            let queue = controller.queue();
            self.start(controller, queue);
        }
    }

    /// Those who notice when nodes are away, or in each other's place.
    fn start_nodes(&mut self, caches: &Caches) {
        let controller = NodeLifecycleController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = TaintEvictionController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = NodeAddressController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);
    }

    /// Those who run Jobs, and clear away what they and others leave.
    fn start_jobs(&mut self, caches: &Caches) {
        let controller = JobController::new(self.client::<JobController>(), caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = CronJobController::new(self.client::<CronJobController>(), caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = TtlAfterFinishedController::new(caches);
        let queue = controller.queue();
        self.start(controller, queue);

        let controller = PodGarbageCollector::new(self.client::<PodGarbageCollector>(), caches);
        let queue = controller.queue();
        self.start(controller, queue);
    }

    fn start<C: Controller>(&mut self, controller: C, queue: Queue<C::Key>) {
        self.start_as(Caller::ServiceAccount(C::ACCOUNT), controller, queue);
    }

    fn start_as<C: Controller>(&mut self, caller: Caller<'_>, controller: C, queue: Queue<C::Key>) {
        let client = (self.client)(caller);
        let reporter = Reporter { component: C::NAME.to_owned(), host: String::new() };
        let events = EventRecorder::start(client.clone(), reporter, self.clock.clone(), self.tasks);
        let executor = ClientExecutor { client, events };
        let shutdown = self.tasks.shutdown();
        self.tasks.spawn(C::NAME, run(controller, queue, executor, self.clock.clone(), shutdown));
    }
}
