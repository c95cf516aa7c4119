//! What every cluster has before anybody asks for it: its namespaces, two priority classes, flow
//! schemas with their priority levels, what is served as APIServices, and the
//! Service by which pods reach the API. Made at the start and whenever it is damaged, through the
//! pipeline like everything else (upstream: pkg/controlplane/controller/kubernetesservice,
//! systemnamespaces and pkg/controlplane/reconcilers, v1.35, which look every few seconds).
//!
//! Start at [`plan`].

mod plan;
mod roles;

use self::plan::{Fixture, Step, fixtures, mend};
use super::fairness::keep_conditions;
use super::identity::Identity;
use super::server::Server;
use super::{allocate, expiry, keys};
use crate::api::{ObjectKey, Status};
use crate::registry;
use crate::stdx::http::{HttpService, Request, read_whole};
use crate::stdx::{Tasks, chain};
use crate::storage::{Key, Watch, WatchError, WatchItem, WatchRequest};
use bytes::Bytes;
use futures_util::future::{FutureExt as _, select_all, try_join_all};
use http::{Method, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::warn;

/// An answer to one of these small requests is never larger.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// After something was mended, or could not be, it is looked at again only after this long, so that
/// a quarrel with somebody who damages it at once stays a slow one.
const MEND_PAUSE: Duration = Duration::from_secs(1);

/// Why the objects that every cluster has are not there.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("{method} {path} failed")]
    Refused {
        method: Method,
        path: String,
        #[source]
        status: Box<Status>,
    },
    #[error("the answer to {path} could not be read")]
    Unreadable {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// How a look at the fixtures has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Whole,
    Mended,
}

impl Server {
    /// Makes what is missing and corrects what has moved. The server is ready afterwards.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn bootstrap(self: &Arc<Self>) -> Result<(), BootstrapError> {
        self.begin_to_follow();
        let api = Api(self.local(Identity::api_server()));
        api.mend_all(&fixtures(&self.config)).await?;
        self.fixed.store(true, Ordering::Release);
        self.reconcile_roles(&api).await?;
        self.bootstrapped.store(true, Ordering::Release);
        Ok(())
    }

    /// Keeps what [`Server::bootstrap`] made as it is, and what Services are given, and lets Events go
    /// when they have had their time, until the tasks are told to stop.
    pub fn keep(self: &Arc<Self>, tasks: &mut Tasks) {
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("fixtures", async move {
            shutdown.run_until_cancelled(keep_fixtures(server)).await;
        });
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("conditions of flow schemas", async move {
            shutdown.run_until_cancelled(keep_conditions(server)).await;
        });
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("role aggregation", async move {
            shutdown.run_until_cancelled(server.collect_rules()).await;
        });
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("event expiry", async move {
            shutdown.run_until_cancelled(expiry::expire_events(server)).await;
        });
        let (server, shutdown) = (Arc::clone(self), tasks.shutdown());
        tasks.spawn("allocations of services", async move {
            shutdown.run_until_cancelled(allocate::keep_allocations(server)).await;
        });
    }
}

async fn keep_fixtures(server: Arc<Server>) {
    let api = Api(server.local(Identity::api_server()));
    let fixtures = fixtures(&server.config);
    loop {
        // Watched from before the look, so that nothing is missed after it.
        let watched = watch(&server, &fixtures).await;
        let pause = match api.mend_all(&fixtures).await {
            Ok(Found::Whole) => None,
            Ok(Found::Mended) => Some(MEND_PAUSE),
            Err(error) => {
                warn!(error = chain(&error), "what every cluster has cannot be mended for now");
                Some(MEND_PAUSE)
            }
        };
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
            continue;
        }
        let changed = match watched {
            Ok(mut watches) => changed(&mut watches).await,
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            warn!(error = chain(&error), "what every cluster has is not watched for now");
            tokio::time::sleep(MEND_PAUSE).await;
        }
    }
}

/// A watch on the keys of a kind that matter, in one namespace or of the whole cluster.
struct KeysWatch {
    keys: BTreeSet<Key>,
    watch: Box<dyn Watch>,
}

async fn watch(server: &Server, fixtures: &[Fixture]) -> Result<Vec<KeysWatch>, WatchError> {
    let after = server.store.revision();
    let mut by_prefix: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
    for fixture in fixtures {
        let key = fixture.key();
        // Of a namespace, the one object is watched: there may be many others beside it.
        let prefix = match (fixture.namespace, key.as_str().rfind('/')) {
            (None, Some(end)) => &key.as_str()[..=end],
            _ => key.as_str(),
        };
        by_prefix.entry(prefix.to_owned()).or_default().insert(key);
    }
    let mut watches = Vec::with_capacity(by_prefix.len());
    for (prefix, keys) in by_prefix {
        let request = WatchRequest { prefix, after, progress: false };
        watches.push(KeysWatch { keys, watch: server.store.watch(request).await? });
    }
    Ok(watches)
}

/// Waits until one of them changes.
async fn changed(watches: &mut [KeysWatch]) -> Result<(), WatchError> {
    let each = watches.iter_mut().map(|watch| watch.changed().boxed());
    select_all(each).await.0
}

impl KeysWatch {
    /// There are other keys below the prefix, whose changes do not matter.
    async fn changed(&mut self) -> Result<(), WatchError> {
        loop {
            if let WatchItem::Event(event) = self.watch.next().await?
                && self.keys.contains(&event.key)
            {
                return Ok(());
            }
        }
    }
}

impl Fixture {
    fn key(&self) -> Key {
        let kind = registry::find(self.group, "v1", self.plural).expect("fixtures are built in");
        let namespace = self.namespace.map(str::to_owned);
        keys::of(kind, &ObjectKey { namespace, name: self.name.to_string() })
    }

    fn collection_path(&self) -> String {
        let Self { group, plural, .. } = self;
        let mut path =
            if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        if let Some(namespace) = self.namespace {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        format!("{path}/{plural}")
    }
}

/// The server's own way in.
struct Api(Arc<dyn HttpService>);

impl Api {
    /// Those of the whole cluster first, on which others rest: namespaces, the range of Services.
    async fn mend_all(&self, fixtures: &[Fixture]) -> Result<Found, BootstrapError> {
        let mut found = Found::Whole;
        for is_of_cluster in [true, false] {
            let stage = fixtures.iter().filter(|it| it.namespace.is_none() == is_of_cluster);
            // Side by side, so that they share commits.
            let mended = try_join_all(stage.map(|fixture| self.mend(fixture))).await?;
            if mended.contains(&Found::Mended) {
                found = Found::Mended;
            }
        }
        Ok(found)
    }

    async fn mend(&self, fixture: &Fixture) -> Result<Found, BootstrapError> {
        let own = format!("{}/{}", fixture.collection_path(), fixture.name);
        let mut found = Found::Whole;
        for step in mend(fixture, self.get(&own).await?.as_ref()) {
            found = Found::Mended;
            self.take(fixture, &own, step).await?;
        }
        Ok(found)
    }

    /// What somebody else has done meanwhile is as good, or is looked at again.
    async fn take(&self, fixture: &Fixture, own: &str, step: Step) -> Result<(), BootstrapError> {
        let (method, path, object, lost) = match step {
            Step::Create(object) => {
                (Method::POST, fixture.collection_path(), Some(object), StatusCode::CONFLICT)
            }
            Step::Update(object) => {
                (Method::PUT, own.to_owned(), Some(object), StatusCode::CONFLICT)
            }
            Step::Delete => (Method::DELETE, own.to_owned(), None, StatusCode::NOT_FOUND),
        };
        let (code, body) = self.ask(method.clone(), &path, object.as_ref()).await?;
        if code.is_success() || code == lost {
            return Ok(());
        }
        Err(refused(method, &path, code, &body))
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, BootstrapError> {
        let (code, body) = self.ask(Method::GET, path, None).await?;
        match code {
            StatusCode::NOT_FOUND => Ok(None),
            code if code.is_success() => match serde_json::from_slice(&body) {
                Ok(object) => Ok(Some(object)),
                Err(error) => {
                    Err(BootstrapError::Unreadable { path: path.to_owned(), source: error.into() })
                }
            },
            code => Err(refused(Method::GET, path, code, &body)),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), BootstrapError> {
        let body = object.map(Value::to_string).unwrap_or_default();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("the paths here are constants");
        let unreadable = |source| BootstrapError::Unreadable { path: path.to_owned(), source };
        let response = self.0.call(request).await.map_err(unreadable)?;
        let code = response.status();
        let body = read_whole(response.into_body(), ANSWER_BYTES_MAX).await.map_err(unreadable)?;
        Ok((code, body))
    }
}

fn refused(method: Method, path: &str, code: StatusCode, body: &[u8]) -> BootstrapError {
    let status = serde_json::from_slice(body).unwrap_or_else(|_| Status::internal(code));
    BootstrapError::Refused { method, path: path.to_owned(), status: Box::new(status) }
}
