//! The cluster that these tests run on.

use crate::support::{Api, DEADLINE, eventually};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kinglet::api::pod::{is_active, is_ready};
use kinglet::api::{ObjectKey, Revision};
use kinglet::apiserver::Identity;
use kinglet::client::{
    ApiObject, Cache, Client, DeleteOptions, Patch, Propagation, Selection, key_of,
};
use kinglet::controllers::certificates::Signers;
use kinglet::controllers::{self, Caches, Caller, KindEntry};
use kinglet::pki::Pki;
use kinglet::registry::stored_kinds;
use kinglet::stdx::{Clock, Tasks};
use kinglet::storage::Store as _;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pods of this image never become ready.
pub(crate) const BROKEN: &str = "broken";
/// Pods of this image end well at once.
pub(crate) const SUCCEEDS: &str = "succeeds";
/// Pods of this image fail at once.
pub(crate) const FAILS: &str = "fails";

pub(crate) struct Cluster {
    pub(crate) api: Api,
    /// May do everything.
    pub(crate) client: Client,
    pub(crate) pods: Arc<Cache<Pod>>,
    /// Where manifests are that are applied by themselves.
    pub(crate) manifests: Option<PathBuf>,
    controllers: Option<Tasks>,
    _node: Tasks,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with_manifests(None).await
    }

    pub(crate) async fn with_manifests(manifests: Option<PathBuf>) -> Self {
        let api = Api::start().await;
        let client = Client::new(api.server.local(Identity::new("a", &["system:masters"])), "test");
        let mut node = Tasks::default();
        let pods = Cache::start(client.clone(), Selection::default(), &mut node);
        start_kubelet(&client, &pods, &mut node);
        let mut cluster = Self { api, client, pods, manifests, controllers: None, _node: node };
        cluster.start_controllers();
        cluster
    }

    pub(crate) fn start_controllers(&mut self) {
        let mut tasks = Tasks::default();
        let client = |caller: Caller<'_>| {
            let identity = match caller {
                Caller::ApiServer => Identity::new("system:apiserver", &["system:masters"]),
                Caller::ControllerManager => Identity::new("system:kube-controller-manager", &[]),
                Caller::Manifests => Identity::new("system:addons", &["system:masters"]),
                Caller::ServiceAccount(name) => Identity::service_account("kube-system", name),
            };
            Client::new(self.api.server.local(identity), "kinglet")
        };
        let config = controllers::Config {
            clock: Clock::system(),
            kinds: stored_kinds().map(|kind| KindEntry::of(&kind.facts)).collect(),
            node_ranges: vec![
                controllers::nodeipam::NodeRange::new("10.42.0.0/16".parse().unwrap(), 24).unwrap(),
            ],
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            root_ca: Arc::from("the authority"),
            signers: signers(),
            load_balancer: Some(controllers::LoadBalancer { reserved: Vec::new() }),
            has_ingress: true,
            manifests: self.manifests.clone(),
        };
        let caches = Caches::start(&client(Caller::ControllerManager), &mut tasks);
        controllers::start(client, &caches, config, &mut tasks);
        self.controllers = Some(tasks);
    }

    pub(crate) async fn stop_controllers(&mut self) {
        let tasks = self.controllers.take().expect("they run");
        tasks.stop(Duration::from_secs(5)).await.unwrap();
    }

    /// Creates a Deployment, or changes the one there is.
    pub(crate) async fn apply(&self, name: &str, spec: &Value) {
        let key = ObjectKey::namespaced("default", name);
        let mut deployment = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata":
                {"labels": {"app": name}}}},
        });
        json_merge(&mut deployment["spec"], spec);
        let patch = Patch::Strategic(json!({"spec": spec}));
        match self.client.patch::<Deployment>(&key, &patch, None).await {
            Err(error) if error.is_not_found() => {
                let deployment: Deployment = serde_json::from_value(deployment).unwrap();
                self.client.create(&deployment).await.unwrap();
            }
            other => drop(other.unwrap()),
        }
    }

    /// As [`Cluster::apply`], of as many pods of an image.
    pub(crate) async fn deploy(&self, name: &str, image: &str, replicas: i32) {
        self.apply(name, &json!({"replicas": replicas, "template": template(image)})).await;
    }

    pub(crate) async fn deployment(&self, name: &str) -> Deployment {
        self.client.get(&ObjectKey::namespaced("default", name)).await.unwrap()
    }

    /// Waits until the Deployment is of its newest generation and `is_reached`.
    pub(crate) async fn reached(
        &self,
        name: &str,
        is_reached: impl Fn(&Deployment) -> bool,
    ) -> Deployment {
        let mut last = None;
        let reached = tokio::time::timeout(DEADLINE, async {
            loop {
                let deployment = self.deployment(name).await;
                let observed = deployment.status.as_ref().and_then(|it| it.observed_generation);
                if observed == deployment.metadata.generation && is_reached(&deployment) {
                    return deployment;
                }
                last = Some(deployment.status);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        reached.await.unwrap_or_else(|_| panic!("not in time; last was {last:#?}"))
    }

    /// Waits until all pods of the Deployment are new and available, and no others are left.
    pub(crate) async fn rolled_out(&self, name: &str) -> Deployment {
        self.reached(name, |deployment| {
            let wanted = deployment.spec.as_ref().unwrap().replicas.filter(|count| *count != 0);
            let status = deployment.status.clone().unwrap_or_default();
            let complete = [status.updated_replicas, status.replicas, status.available_replicas];
            let left = status.terminating_replicas.unwrap_or_default();
            complete.iter().all(|count| *count == wanted)
                && left == 0
                && condition(deployment, "Progressing")
                    .is_none_or(|reason| reason == "NewReplicaSetAvailable")
        })
        .await
    }

    /// Creates a workload whose pods have the label `app` with its name.
    pub(crate) async fn make<K: ApiObject>(&self, name: &str, spec: Value) -> K {
        let mut object = json!({
            "apiVersion": K::API_VERSION, "kind": K::KIND,
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata":
                {"labels": {"app": name}}}},
        });
        json_merge(&mut object["spec"], &spec);
        self.client.create::<K>(&serde_json::from_value(object).unwrap()).await.unwrap()
    }

    pub(crate) async fn patch<K: ApiObject>(&self, name: &str, patch: Value) {
        let key = ObjectKey::namespaced("default", name);
        self.client.patch::<K>(&key, &Patch::Strategic(patch), None).await.unwrap();
    }

    /// Waits until the object is as wanted.
    pub(crate) async fn until<K: ApiObject>(
        &self,
        name: &str,
        is_reached: impl Fn(&K) -> bool,
    ) -> K {
        let key = ObjectKey::namespaced("default", name);
        let mut last = None;
        let reached = tokio::time::timeout(DEADLINE, async {
            loop {
                let object = self.client.get::<K>(&key).await.unwrap();
                if is_reached(&object) {
                    return object;
                }
                last = Some(object);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        reached.await.unwrap_or_else(|_| panic!("not in time; last was {last:#?}"))
    }

    pub(crate) async fn list<K: ApiObject>(&self) -> Vec<K> {
        self.client.list(&Selection::namespace("default")).await.unwrap().items
    }

    /// The sets of a Deployment with their sizes, the oldest first.
    pub(crate) async fn sets(&self, deployment: &str) -> Vec<(ReplicaSet, i32)> {
        let mut sets = self.list::<ReplicaSet>().await;
        sets.retain(|set| {
            let owners = set.metadata.owner_references.iter().flatten();
            owners.into_iter().any(|owner| owner.name == deployment)
        });
        sets.sort_by_key(|set| revision(&set.metadata));
        sets.into_iter()
            .map(|set| {
                let size = set.spec.as_ref().unwrap().replicas.unwrap();
                (set, size)
            })
            .collect()
    }

    pub(crate) async fn delete<K: ApiObject>(&self, name: &str, propagation: Propagation) {
        let key = ObjectKey::namespaced("default", name);
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        self.client.delete::<K>(&key, &options).await.unwrap();
    }

    /// Waits until there are this many objects of a kind in the namespace `default`.
    pub(crate) async fn counted<K: ApiObject>(&self, count: usize) -> Vec<K> {
        eventually(&format!("{count} {}", K::URL_PATH_SEGMENT), async || {
            Some(self.list::<K>().await).filter(|objects| objects.len() == count)
        })
        .await
    }

    /// The reasons and messages of the events about an object, oldest first.
    pub(crate) async fn events(&self, about: &str) -> Vec<(String, String)> {
        let mut events = self.list::<Event>().await;
        events.retain(|event| event.involved_object.name.as_deref() == Some(about));
        events.sort_by_key(|event| {
            event.metadata.resource_version.as_ref().unwrap().parse::<u64>().unwrap()
        });
        let text = |text: Option<String>| text.unwrap();
        events.into_iter().map(|event| (text(event.reason), text(event.message))).collect()
    }

    /// Waits until nothing is written any more, and says at which revision that is.
    pub(crate) async fn at_rest(&self) -> Revision {
        let mut last = Revision::default();
        eventually("nothing is written any more", async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.api.store.revision();
            std::mem::replace(&mut last, now).eq(&now).then_some(now)
        })
        .await
    }
}

/// Authorities that last as long as the cluster.
fn signers() -> Signers {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), Clock::system().now()).unwrap();
    Signers { client: pki.client_issuer(), server: pki.server_issuer() }
}

fn json_merge(into: &mut Value, patch: &Value) {
    json_patch::merge(into, patch);
}

pub(crate) fn template(image: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 1}})
}

/// The reason of a condition.
pub(crate) fn condition(deployment: &Deployment, kind: &str) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)?.reason.clone()
}

pub(crate) fn revision(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> u64 {
    let annotations = metadata.annotations.as_ref().unwrap();
    annotations["deployment.kubernetes.io/revision"].parse().unwrap()
}

/// Binds pods, says that they are ready unless they are [`BROKEN`], and lets them go.
fn start_kubelet(client: &Client, pods: &Arc<Cache<Pod>>, tasks: &mut Tasks) {
    let (changed, mut changes) = mpsc::unbounded_channel::<Arc<Pod>>();
    pods.on_change(move |change| {
        if let Some(pod) = &change.new {
            // The receiver goes when the test is over.
            changed.send(Arc::clone(pod)).ok();
        }
    });
    let client = client.clone();
    tasks.spawn("kubelet", async move {
        while let Some(pod) = changes.recv().await {
            follow(&client, &pod).await;
        }
    });
}

/// The node that the pod is pinned to, or any.
fn wanted_node(pod: &Pod) -> String {
    let spec = serde_json::to_value(&pod.spec).unwrap();
    let pinned = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/\
        nodeSelectorTerms/0/matchFields/0/values/0";
    spec.pointer(pinned).and_then(Value::as_str).unwrap_or("n1").to_owned()
}

fn how_it_ends(pod: &Pod) -> Option<(&'static str, i32)> {
    match pod.spec.as_ref()?.containers[0].image.as_deref() {
        Some(SUCCEEDS) => Some(("Succeeded", 0)),
        Some(FAILS) => Some(("Failed", 1)),
        _ => None,
    }
}

async fn follow(client: &Client, pod: &Pod) {
    let key = key_of(&pod.metadata);
    let uid = pod.metadata.uid.clone();
    let spec = pod.spec.as_ref().unwrap();
    let result = if pod.metadata.deletion_timestamp.is_some() {
        let options = DeleteOptions { grace_seconds: Some(0), uid, ..DeleteOptions::default() };
        client.delete::<Pod>(&key, &options).await
    } else if spec.node_name.is_none() {
        let path =
            format!("/api/v1/namespaces/{}/pods/{}/binding", key.namespace.unwrap(), key.name);
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": key.name, "uid": uid}, "target": {"kind": "Node", "name": wanted_node(pod)}});
        client.post::<_, Value>(&path, &binding).await.map(drop)
    } else if let Some((phase, code)) = how_it_ends(pod).filter(|_| is_active(pod)) {
        let now = Clock::system().now();
        let ended = json!({"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": now}}});
        let status = json!({"metadata": {"uid": uid},
            "status": {"phase": phase, "containerStatuses": [ended]}});
        client.patch::<Pod>(&key, &Patch::Merge(status), Some("status")).await.map(drop)
    } else if is_active(pod)
        && !is_ready(pod)
        && spec.containers[0].image.as_deref() != Some(BROKEN)
    {
        let now = Clock::system().now();
        let ready = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        let status = json!({"metadata": {"uid": uid}, "status": {"phase": "Running", "podIP": "10.42.0.9",
            "conditions": [ready("Ready"), ready("ContainersReady")]}});
        client.patch::<Pod>(&key, &Patch::Merge(status), Some("status")).await.map(drop)
    } else {
        Ok(())
    };
    match result {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            panic!("{}: {error}", pod.metadata.name.as_deref().unwrap())
        }
        _ => {}
    }
}
