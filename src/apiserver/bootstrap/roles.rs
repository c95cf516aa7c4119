//! The default roles and bindings: made at the start where they are missing, and completed; and the
//! rules of roles that collect those of others, kept while the server runs.
//!
//! What has to be done is decided in [`rbac`](super::super::rbac). Follows upstream
//! pkg/registry/rbac/rest/storage_rbac.go and pkg/controller/clusterroleaggregation (v1.35).

use super::super::rbac::{Change, Reconcile, aggregate, defaults};
use super::super::{errors, keys};
use super::{Api, BootstrapError, Server, refused};
use crate::api::Status;
use crate::registry;
use crate::stdx::chain;
use crate::stdx::json;
use crate::storage::{ListRequest, WatchError, WatchItem, WatchRequest};
use futures_util::stream::{self, StreamExt as _};
use http::{Method, StatusCode};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

const GROUP: &str = "rbac.authorization.k8s.io";

/// So many are written side by side at the first start, so that they share commits.
const WRITES_SIDE_BY_SIDE: usize = 64;

/// After a role has changed, others may follow; all of them are looked at once.
const CHANGES_PAUSE: Duration = Duration::from_millis(50);

/// After something could not be read or written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Which kind of roles or bindings an object is of.
trait Row: k8s_openapi::Metadata<Ty = ObjectMeta> + Reconcile + Serialize + DeserializeOwned {
    const PLURAL: &'static str;
}

macro_rules! rows {
    ($($type:ident $plural:literal)*) => {
        $(impl Row for k8s_openapi::api::rbac::v1::$type {
            const PLURAL: &'static str = $plural;
        })*
    };
}

rows! {
    ClusterRole "clusterroles"
    Role "roles"
    ClusterRoleBinding "clusterrolebindings"
    RoleBinding "rolebindings"
}

/// One thing to be done.
struct Work {
    path: String,
    name: String,
    change: Change<Value>,
}

impl Server {
    /// Makes what is missing.
    pub(super) async fn reconcile_roles(&self, api: &Api) -> Result<(), BootstrapError> {
        let defaults = defaults().with_collected_rules();
        let mut work = self.compare(&defaults.cluster_roles).await?;
        work.extend(self.compare(&defaults.roles).await?);
        work.extend(self.compare(&defaults.cluster_role_bindings).await?);
        work.extend(self.compare(&defaults.role_bindings).await?);
        let mut doing = stream::iter(work.into_iter().map(|work| api.perform(work)))
            .buffer_unordered(WRITES_SIDE_BY_SIDE);
        while let Some(done) = doing.next().await {
            done?;
        }
        Ok(())
    }

    async fn compare<T: Row>(&self, expected: &[T]) -> Result<Vec<Work>, BootstrapError> {
        let existing = self.stored::<T>().await.map_err(|status| BootstrapError::Refused {
            method: Method::GET,
            path: collection::<T>(None),
            status: Box::new(status),
        })?;
        let mut work = Vec::new();
        for object in expected {
            let own = object.metadata();
            let is_it = |other: &&T| {
                let other = other.metadata();
                other.name == own.name && other.namespace == own.namespace
            };
            let change = match object.reconcile(existing.iter().find(is_it)) {
                Change::Nothing => continue,
                Change::Create(object) => Change::Create(to_value(&object)),
                Change::Update(object) => Change::Update(to_value(&object)),
                Change::Replace(object) => Change::Replace(to_value(&object)),
            };
            let path = collection::<T>(own.namespace.as_deref());
            work.push(Work { path, name: own.name.clone().unwrap_or_default(), change });
        }
        Ok(work)
    }

    /// Every object of a kind, with its revision.
    async fn stored<T: Row>(&self) -> Result<Vec<T>, Status> {
        let kind = registry::find(GROUP, "v1", T::PLURAL).expect("a built-in kind");
        let prefix = keys::prefix(kind, None);
        let request = ListRequest { prefix, after: None, limit: None, at: None };
        let page = self.store.list(request).await.map_err(|error| errors::of_read(&error))?;
        let decode = |entry: crate::storage::Entry| {
            let mut object: T = serde_json::from_slice(&entry.value).map_err(Status::internal)?;
            object.metadata_mut().resource_version = Some(entry.revision.to_string());
            Ok(object)
        };
        page.entries.into_iter().map(decode).collect()
    }

    /// Gives roles that collect others their rules, whenever one changes. Never ends.
    pub(super) async fn collect_rules(self: Arc<Self>) {
        let identity =
            super::Identity::service_account("kube-system", "clusterrole-aggregation-controller");
        let api = Api(self.local(identity));
        loop {
            if let Err(error) = self.collect_until_lost(&api).await {
                warn!(error = chain(&error), "ClusterRoles are not aggregated for now");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn collect_until_lost(&self, api: &Api) -> Result<(), CollectError> {
        let prefix = format!("/{GROUP}/{}/", ClusterRole::PLURAL);
        let request = WatchRequest { prefix, after: self.store.revision(), progress: false };
        let mut watch = self.store.watch(request).await?;
        loop {
            self.collect(api).await?;
            while !matches!(watch.next().await?, WatchItem::Event(_)) {}
            tokio::time::sleep(CHANGES_PAUSE).await;
            // What has happened meanwhile is looked at together.
            while let Some(item) = futures_util::FutureExt::now_or_never(watch.next()) {
                item?;
            }
        }
    }

    async fn collect(&self, api: &Api) -> Result<(), CollectError> {
        let roles = self
            .stored::<ClusterRole>()
            .await
            .map_err(|status| CollectError::Read(Box::new(status)))?;
        for role in &roles {
            let Some(rules) = aggregate(role, &roles) else { continue };
            if rules.as_slice() != role.rules.as_deref().unwrap_or_default() {
                let changed = ClusterRole { rules: Some(rules), ..role.clone() };
                let (path, name) = (
                    collection::<ClusterRole>(None),
                    role.metadata.name.clone().unwrap_or_default(),
                );
                let change = Change::Update(to_value(&changed));
                api.perform(Work { path, name, change }).await?;
            }
        }
        Ok(())
    }
}

/// Why roles are not aggregated for now.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error("ClusterRoles cannot be read")]
    Read(#[source] Box<Status>),
    #[error("ClusterRoles are not watched")]
    Watch(#[from] WatchError),
    #[error("a ClusterRole cannot be written")]
    Write(#[from] BootstrapError),
}

impl Api {
    /// What somebody else has done meanwhile is as good.
    async fn perform(&self, work: Work) -> Result<(), BootstrapError> {
        let own = format!("{}/{}", work.path, work.name);
        match work.change {
            Change::Nothing => Ok(()),
            Change::Create(object) => self.write(Method::POST, &work.path, Some(&object)).await,
            Change::Update(object) => self.write(Method::PUT, &own, Some(&object)).await,
            Change::Replace(object) => {
                self.write(Method::DELETE, &own, None).await?;
                self.write(Method::POST, &work.path, Some(&object)).await
            }
        }
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<(), BootstrapError> {
        let (code, body) = self.ask(method.clone(), path, object).await?;
        match code {
            code if code.is_success() => Ok(()),
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(()),
            code => Err(refused(method, path, code, &body)),
        }
    }
}

fn collection<T: Row>(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("/apis/{GROUP}/v1/namespaces/{namespace}/{}", T::PLURAL),
        None => format!("/apis/{GROUP}/v1/{}", T::PLURAL),
    }
}

fn to_value(object: &impl Serialize) -> Value {
    json::to_value(object)
}
