//! What loops there are, how they start, and how they all die at once.

use super::Cluster;
use super::faults::Line;
use kinglet::apiserver::Identity;
use kinglet::client::{Client, EventRecorder};
use kinglet::controllers::certificates::Signers;
use kinglet::controllers::nodeipam::NodeRange;
use kinglet::controllers::{self, Caches, Caller, KindEntry};
use kinglet::pki::Pki;
use kinglet::provision;
use kinglet::registry::stored_kinds;
use kinglet::scheduler::{self, Scheduler, own, reporter};
use kinglet::stdx::{Clock, Tasks};
use std::sync::{Arc, OnceLock};

impl Cluster {
    /// All controllers, the scheduler, and a provisioner for each machine.
    pub(super) fn start_loops(&mut self) {
        let mut tasks = Tasks::default();
        let client = |caller: Caller<'_>| match caller {
            Caller::ApiServer => {
                self.client(Identity::new("system:apiserver", &["system:masters"]), "apiserver")
            }
            Caller::ControllerManager => {
                self.client(Identity::new("system:kube-controller-manager", &[]), "manager")
            }
            Caller::Manifests => {
                self.client(Identity::new("addons", &["system:masters"]), "addons")
            }
            Caller::ServiceAccount(name) => {
                self.client(Identity::service_account("kube-system", name), name)
            }
        };
        let config = controllers::Config {
            clock: self.clock.clone(),
            kinds: stored_kinds().map(|kind| KindEntry::of(&kind.facts)).collect(),
            node_ranges: vec![NodeRange::new("10.42.0.0/16".parse().unwrap(), 24).unwrap()],
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            root_ca: Arc::from("the authority"),
            signers: signers(),
            load_balancer: Some(controllers::LoadBalancer { reserved: Vec::new() }),
            has_ingress: true,
            manifests: None,
        };
        let caches = Caches::start(&client(Caller::ControllerManager), &mut tasks);
        controllers::start(client, &caches, config, &mut tasks);
        let client = self.client(Identity::new("system:kube-scheduler", &[]), "scheduler");
        let recorder =
            EventRecorder::start(client.clone(), reporter(), self.clock.clone(), &mut tasks);
        let seen = scheduler_caches(&caches, &client, &mut tasks);
        Scheduler::start(scheduler::Config { client, caches: seen, recorder }, &mut tasks);
        for machine in &self.machines {
            self.start_provisioner(&machine.name, &caches, &mut tasks);
        }
        self.loops = Some(tasks);
    }

    fn start_provisioner(&self, node: &str, caches: &Caches, tasks: &mut Tasks) {
        let identity = Identity::service_account("kube-system", provision::ACCOUNT);
        let parts = provision::Parts {
            client: self.client(identity, &format!("provisioner {node}")),
            claims: Arc::clone(&caches.persistent_volume_claims),
            volumes: Arc::clone(&caches.persistent_volumes),
            classes: Arc::clone(&caches.storage_classes),
            nodes: Arc::clone(&caches.nodes),
            class: provision::Class::Own,
        };
        let (node, root) = (node.to_owned(), self.disk(node));
        let config = provision::Config { node, root, clock: self.clock.clone() };
        provision::start(config, parts, tasks).unwrap();
    }

    /// Drops every loop where it stands, and starts them anew.
    pub(crate) fn restart_loops(&mut self) {
        drop(self.loops.take());
        self.start_loops();
    }

    fn client(&self, identity: Identity, who: &str) -> Client {
        let line = Line {
            network: Arc::clone(&self.network),
            inner: self.server.local(identity),
            who: who.to_owned(),
            started: self.started,
        };
        Client::new(Arc::new(line), "kinglet")
    }
}

fn scheduler_caches(shared: &Caches, client: &Client, tasks: &mut Tasks) -> scheduler::Caches {
    scheduler::Caches {
        pods: Arc::clone(&shared.pods),
        nodes: Arc::clone(&shared.nodes),
        namespaces: Arc::clone(&shared.namespaces),
        replica_sets: Arc::clone(&shared.replica_sets),
        stateful_sets: Arc::clone(&shared.stateful_sets),
        claims: Arc::clone(&shared.persistent_volume_claims),
        volumes: Arc::clone(&shared.persistent_volumes),
        classes: Arc::clone(&shared.storage_classes),
        services: own(client, tasks),
        replication_controllers: own(client, tasks),
        budgets: own(client, tasks),
        csi_nodes: own(client, tasks),
        csi_drivers: own(client, tasks),
        capacities: own(client, tasks),
        attachments: own(client, tasks),
    }
}

/// Authorities that last as long as the tests: keys are slow to make, and nothing depends on them.
fn signers() -> Signers {
    static SIGNERS: OnceLock<Signers> = OnceLock::new();
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), Clock::system().now()).unwrap();
        Signers { client: pki.client_issuer(), server: pki.server_issuer() }
    };
    SIGNERS.get_or_init(make).clone()
}
