//! Keeps what is served as the cluster wants it: looks at Ingresses, classes, Services, endpoints and
//! certificates, and changes what the proxy works with.
//!
//! Rules are made anew as a whole when something changes that they depend on; endpoints of a backend
//! by themselves. Nobody waits for this: requests go by what is there.

use super::certificates::{Certificates, Read};
use super::endpoints::{SERVICE_NAME, endpoints};
use super::limits::SWEEP_EVERY;
use super::model::{Model, Rule, Target};
use super::plan::{Observed, Planned, plan};
use super::proxy::{Proxy, Route};
use super::router::Router;
use super::secrets::Secrets;
use super::tally::RouteName;
use super::upstream::{Backend, BackendKey, Kept};
use crate::api::ObjectKey;
use crate::api::ingress::services;
use crate::client::Cache;
use crate::stdx::monotonic;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tracing::warn;

/// What is looked at.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) ingresses: Arc<Cache<Ingress>>,
    pub(super) classes: Arc<Cache<IngressClass>>,
    pub(super) services: Arc<Cache<Service>>,
    pub(super) endpoint_slices: Arc<Cache<EndpointSlice>>,
}

/// What has changed since the last look.
#[derive(Debug, Default)]
pub(super) struct Changes {
    state: Mutex<Changed>,
    some: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    rules: bool,
    certificates: bool,
    /// Those whose endpoints are others.
    services: BTreeSet<ObjectKey>,
    /// Those that matter at all.
    named: BTreeSet<ObjectKey>,
}

impl Changes {
    fn state(&self) -> MutexGuard<'_, Changed> {
        self.state.lock().expect("no panics under this lock")
    }

    pub(super) fn certificates(&self) {
        self.state().certificates = true;
        self.some.notify_one();
    }

    fn rules(&self) {
        self.state().rules = true;
        self.some.notify_one();
    }

    fn service(&self, key: &ObjectKey) {
        let mut state = self.state();
        if state.named.contains(key) {
            state.rules = true;
            self.some.notify_one();
        }
    }

    fn endpoints(&self, slice: &EndpointSlice) {
        let Some(key) = service_of(slice) else { return };
        let mut state = self.state();
        if state.named.contains(&key) {
            state.services.insert(key);
            self.some.notify_one();
        }
    }

    async fn next(&self) -> Changed {
        loop {
            let some = self.some.notified();
            {
                let mut state = self.state();
                if state.rules || state.certificates || !state.services.is_empty() {
                    let named = state.named.clone();
                    return std::mem::replace(&mut *state, Changed { named, ..Changed::default() });
                }
            }
            some.await;
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::namespaced(slice.metadata.namespace.clone()?, name))
}

/// Backends that some rule leads to.
type Backends = Arc<Mutex<BTreeMap<BackendKey, Arc<Backend>>>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    sources: Sources,
    secrets: Secrets,
    changes: Arc<Changes>,
    proxy: Arc<Proxy>,
    certificates: Arc<Certificates>,
    read: Read,
    planned: Planned,
    backends: Backends,
    kept: Arc<Kept>,
    /// What has been told, so that it is told once.
    problems: BTreeSet<(ObjectKey, String)>,
}

impl Keeper {
    pub(super) fn new(
        sources: Sources,
        secrets: Secrets,
        changes: Arc<Changes>,
        proxy: Arc<Proxy>,
        certificates: Arc<Certificates>,
    ) -> Self {
        Self {
            sources,
            secrets,
            changes,
            proxy,
            certificates,
            read: Read::default(),
            planned: Planned::default(),
            backends: Arc::default(),
            kept: Arc::default(),
            problems: BTreeSet::new(),
        }
    }

    /// Looks at everything for the first time. Then there is something to serve.
    pub(super) async fn begin(&mut self) {
        self.listen();
        let Sources { ingresses, classes, services, endpoint_slices } = &self.sources;
        tokio::join!(
            ingresses.synced(),
            classes.synced(),
            services.synced(),
            endpoint_slices.synced()
        );
        self.make_rules();
        let secrets = self.secrets.caches();
        join_all(secrets.iter().map(|secret| secret.synced())).await;
        self.show_certificates();
    }

    /// Follows every change from then on.
    pub(super) async fn follow(mut self) {
        loop {
            let Changed { rules, certificates, services, .. } = self.changes.next().await;
            if rules {
                self.make_rules();
            }
            if rules || certificates {
                self.show_certificates();
            }
            self.update_endpoints(&services);
        }
    }

    /// Closes connections to endpoints that have been kept for long enough.
    pub(super) fn sweep(&self) -> impl Future<Output = ()> + Send + 'static {
        let (kept, backends) = (Arc::clone(&self.kept), Arc::clone(&self.backends));
        let sweep = move |now: Instant| {
            let all: Vec<_> = lock(&backends).values().cloned().collect();
            all.iter().filter_map(|backend| backend.sweep(now)).min()
        };
        async move {
            loop {
                kept.more().await;
                while let Some(due) = sweep(monotonic()) {
                    sleep_until(due.max(monotonic() + SWEEP_EVERY).into()).await;
                }
            }
        }
    }

    fn listen(&self) {
        let Sources { ingresses, classes, services, endpoint_slices } = &self.sources;
        let changes = || Arc::clone(&self.changes);
        let changed = changes();
        ingresses.on_change(move |_| changed.rules());
        let changed = changes();
        classes.on_change(move |_| changed.rules());
        let changed = changes();
        services.on_change(move |change| changed.service(&change.key));
        let changed = changes();
        endpoint_slices.on_change(move |change| {
            change.old.iter().chain(&change.new).for_each(|slice| changed.endpoints(slice));
        });
    }

    fn make_rules(&mut self) {
        let ingresses = self.sources.ingresses.list();
        let named: BTreeSet<ObjectKey> = ingresses.iter().flat_map(|it| services(it)).collect();
        // Said before they are looked at, so that no change of them is missed.
        self.changes.state().named.clone_from(&named);
        let found = named.into_iter().filter_map(|key| {
            let service = self.sources.services.get(&key)?;
            Some((key, service))
        });
        let services = found.collect();
        let classes = self.sources.classes.list();
        self.planned = plan(&Observed { ingresses, classes, services });
        self.secrets.watch(&self.planned.secrets);
        self.make_backends();
        self.make_router();
        let problems = self.planned.problems.clone();
        self.tell(problems, |source, problem| warn!("Ingress {source}: {problem}"));
    }

    fn make_backends(&mut self) {
        let wanted: BTreeSet<BackendKey> =
            rules(&self.planned.model).filter_map(key_of_backend).collect();
        let mut backends = lock(&self.backends);
        let gone: Vec<_> =
            backends.extract_if(.., |key, _| !wanted.contains(key)).map(|(_, gone)| gone).collect();
        let mut new = Vec::new();
        for key in wanted {
            backends.entry(key).or_insert_with_key(|key| {
                let backend = Arc::new(Backend::new(key.clone(), Arc::clone(&self.kept)));
                new.push(Arc::clone(&backend));
                backend
            });
        }
        drop(backends);
        gone.iter().for_each(|backend| backend.leave());
        new.iter().for_each(|backend| self.find_endpoints(backend));
    }

    fn make_router(&self) {
        let backends = lock(&self.backends);
        let tally = &self.proxy.tally;
        let router = Router::new(&self.planned.model, |rule| {
            let (backend, id) = match &rule.target {
                Target::Backend(id) => {
                    let key = (id.clone(), rule.settings.protocol);
                    let backend = Arc::clone(&backends[&key]);
                    (Ok(backend), Some(id.clone()))
                }
                Target::Nothing(why) => (Err(Arc::clone(why)), None),
            };
            let name = RouteName { source: Some(rule.source.clone()), backend: id };
            Route {
                backend,
                settings: Arc::clone(&rule.settings),
                source: rule.source.clone(),
                counted: tally.route(name),
            }
        });
        let before = {
            let mut own = self.proxy.router.write().expect("no panics under this lock");
            std::mem::replace(&mut *own, Arc::new(router))
        };
        drop(before);
        tally.forget_unused();
    }

    fn update_endpoints(&self, services: &BTreeSet<ObjectKey>) {
        let changed: Vec<_> = {
            let backends = lock(&self.backends);
            let all = backends.values().filter(|backend| services.contains(&backend.id.service));
            all.cloned().collect()
        };
        changed.iter().for_each(|backend| self.find_endpoints(backend));
    }

    fn find_endpoints(&self, backend: &Backend) {
        let ObjectKey { namespace, name } = &backend.id.service;
        let is_own = |slice: &EndpointSlice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(SERVICE_NAME)) == Some(name)
        };
        let namespace = namespace.as_deref().unwrap_or_default();
        let slices = self.sources.endpoint_slices.list_where(namespace, is_own);
        backend.set(&endpoints(&backend.id.port, slices.iter().map(|slice| &**slice)));
    }

    fn show_certificates(&mut self) {
        let problems = self.read.update(&self.secrets.known());
        self.certificates.show(&self.read, &self.planned.model.certificates);
        let problems = problems.into_iter().chain(self.planned.problems.iter().cloned()).collect();
        self.tell(problems, |secret, problem| {
            warn!("the certificate in Secret {secret} is not shown: {problem}");
        });
    }

    /// Tells what is new of it.
    fn tell(&mut self, problems: BTreeSet<(ObjectKey, String)>, tell: impl Fn(&ObjectKey, &str)) {
        for (source, problem) in problems.difference(&self.problems) {
            tell(source, problem);
        }
        self.problems = problems;
    }
}

fn lock(backends: &Backends) -> MutexGuard<'_, BTreeMap<BackendKey, Arc<Backend>>> {
    backends.lock().expect("no panics under this lock")
}

/// All rules of a model.
fn rules(model: &Model) -> impl Iterator<Item = &Rule> {
    let of_hosts = model.hosts.values().flat_map(|host| host.rules.values().chain(&host.fallback));
    of_hosts.chain(&model.fallback)
}

fn key_of_backend(rule: &Rule) -> Option<BackendKey> {
    match &rule.target {
        Target::Backend(id) => Some((id.clone(), rule.settings.protocol)),
        Target::Nothing(_) => None,
    }
}
