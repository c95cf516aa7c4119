//! How the parts of a node reach the API: in this process on a server, over the network on an agent.

use super::config::{ClusterConfig, NodeConfig};
use crate::apiserver::Identity;
use crate::client::{ApiObject, Cache, Client, EventRecorder, Reporter, Selection};
use crate::controllers::Caches;
use crate::dns;
use crate::ingress;
use crate::pki::Acceptor;
use crate::provision;
use crate::proxy;
use crate::stdx::{Clock, Tasks};
use k8s_openapi::api::core::v1::Service;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// See the module.
pub(super) struct Access {
    /// As `system:node:NAME`: for the kubelet alone.
    pub(super) node: Client,
    pub(super) parts: Parts,
    /// What the kubelet's port shows and believes.
    pub(super) kubelet_tls: Acceptor,
    pub(super) cluster: ClusterConfig,
    /// Stands for the key that guards the node's name, where it has one.
    pub(super) node_key: Option<String>,
    /// What local volumes are made with.
    pub(super) provisioner: Option<provision::Parts>,
}

/// What the parts of a node are started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfNode<'a> {
    pub(super) config: &'a NodeConfig,
    pub(super) cluster: &'a ClusterConfig,
    pub(super) parts: &'a Parts,
    pub(super) clock: &'a Clock,
}

/// What works on a node beside the kubelet has its clients and caches from here.
pub(super) struct Parts {
    client: Box<dyn Fn(Identity) -> Client + Send + Sync>,
    /// The controllers', where they are in this process.
    caches: Option<Caches>,
    /// Those that were started for the parts, by the kind of their objects.
    started: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Parts {
    pub(super) fn new(
        client: impl Fn(Identity) -> Client + Send + Sync + 'static,
        caches: Option<Caches>,
    ) -> Self {
        Self { client: Box::new(client), caches, started: Mutex::default() }
    }

    /// A client of one part. On a server it has the identity that it is given; on an agent all parts
    /// are `kinglet:agent:NAME` of the group `kinglet:agents`, so that what a part may do stands
    /// for both in `rbac/additions.txt`. Caches that are made with it know after a restart what they
    /// knew before, also where no server is to be reached.
    pub(super) fn client(&self, identity: Identity) -> Client {
        (self.client)(identity)
    }

    /// A copy of everything of a kind: the controllers', or one that whoever wants it first reads, as
    /// `client`. Not to be waited for.
    pub(super) fn shared<K: ApiObject>(
        &self,
        client: &Client,
        tasks: &mut Tasks,
        cache: impl FnOnce(&Caches) -> &Arc<Cache<K>>,
    ) -> Arc<Cache<K>> {
        if let Some(caches) = &self.caches {
            return Arc::clone(cache(caches));
        }
        let mut started = self.started.lock().expect("no panics under this lock");
        let kept = started.entry(TypeId::of::<K>()).or_insert_with(|| {
            let everything = Selection::default();
            Cache::<K>::start_unawaited(client.clone(), everything, tasks)
        });
        Arc::clone(kept).downcast().expect("it is kept by the kind of its objects")
    }

    /// The Services of the cluster: the controllers' copy, or one that `client` reads.
    pub(super) fn services(&self, client: &Client, tasks: &mut Tasks) -> Arc<Cache<Service>> {
        self.shared(client, tasks, |caches| &caches.services)
    }

    /// What the cluster's DNS looks at: the controllers' copies, or what `client` reads.
    pub(super) fn dns_sources(&self, client: &Client, tasks: &mut Tasks) -> dns::Sources {
        let (namespace, name) = dns::CUSTOM;
        let custom = Selection {
            namespace: Some(namespace.to_owned()),
            ..Selection::fields(format!("metadata.name={name}"))
        };
        dns::Sources {
            services: self.services(client, tasks),
            endpoint_slices: self.shared(client, tasks, |caches| &caches.endpoint_slices),
            namespaces: self.shared(client, tasks, |caches| &caches.namespaces),
            nodes: self.shared(client, tasks, |caches| &caches.nodes),
            custom: Cache::start_unawaited(client.clone(), custom, tasks),
        }
    }

    /// What the ingress of a node works with. The controllers' caches serve it as well.
    pub(super) fn ingress_parts(&self, tasks: &mut Tasks) -> ingress::Parts {
        let client = self.client(Identity::service_account("kube-system", ingress::ACCOUNT));
        ingress::Parts {
            ingresses: self.shared(&client, tasks, |caches| &caches.ingresses),
            classes: self.shared(&client, tasks, |caches| &caches.ingress_classes),
            services: self.services(&client, tasks),
            endpoint_slices: self.shared(&client, tasks, |caches| &caches.endpoint_slices),
            client,
        }
    }

    /// What the proxy of a node works with. The controllers' caches serve it as well.
    pub(super) fn proxy_parts(&self, node: &str, clock: &Clock, tasks: &mut Tasks) -> proxy::Parts {
        let client = self.client(Identity::new(proxy::IDENTITY, &[]));
        let host = node.to_owned();
        let reporter = Reporter { component: proxy::COMPONENT.to_owned(), host };
        proxy::Parts {
            recorder: EventRecorder::start(client.clone(), reporter, clock.clone(), tasks),
            clock: clock.clone(),
            services: self.services(&client, tasks),
            endpoint_slices: self.shared(&client, tasks, |caches| &caches.endpoint_slices),
            nodes: self.shared(&client, tasks, |caches| &caches.nodes),
            service_cidrs: self.shared(&client, tasks, |caches| &caches.service_cidrs),
        }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Parts")
    }
}
