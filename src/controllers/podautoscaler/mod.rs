//! Gives a workload as many replicas as what its pods use asks for.
//!
//! Start at [`plan()`]; what usage asks for is in [`usage`], how far that may go in [`limits`]. An
//! autoscaler acts when it changes and every fifteen seconds, and only while there is one.

mod limits;
mod plan;
mod ratio;
#[cfg(test)]
mod tests;
mod usage;

pub use limits::History;
pub use plan::{Observed, ObservedDue, ScaleTarget, plan};
pub use usage::PodUsage;

use super::Caches;
use super::kinds::Kinds;
use super::ownership::{matches, queue_of};
use crate::api::labels::Selector;
use crate::api::{ObjectKey, Quantity};
use crate::client::{Cache, Client, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::{chain, monotonic};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use plan::{SYNC_PERIOD, decide};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Looks at autoscalers, what they scale and what that uses.
#[derive(Debug)]
pub struct PodAutoscalerController {
    client: Client,
    kinds: Kinds,
    autoscalers: Arc<Cache<HorizontalPodAutoscaler>>,
    pods: Arc<Cache<Pod>>,
    memory: Mutex<BTreeMap<ObjectKey, Memory>>,
}

/// What is remembered of an autoscaler.
#[derive(Debug, Default)]
struct Memory {
    /// When it acted last, and by what specification.
    acted: Option<(Instant, HorizontalPodAutoscalerSpec)>,
    history: History,
    selector: Option<Selector>,
}

impl PodAutoscalerController {
    /// `client` is asked for scales and metrics.
    #[must_use]
    pub(super) fn new(client: Client, caches: &Caches, kinds: Kinds) -> Self {
        Self {
            client,
            kinds,
            autoscalers: Arc::clone(&caches.autoscalers),
            pods: Arc::clone(&caches.pods),
            memory: Mutex::default(),
        }
    }

    /// Queues an autoscaler when it changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        queue_of(&self.autoscalers)
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Memory>> {
        self.memory.lock().expect("no panics under this lock")
    }

    /// How long an autoscaler that has acted waits: its own status is no reason to act again.
    fn too_soon(&self, key: &ObjectKey, spec: &HorizontalPodAutoscalerSpec) -> Option<Duration> {
        let memory = self.memory();
        let (at, of) = memory.get(key)?.acted.as_ref()?;
        let left = (*at + SYNC_PERIOD).saturating_duration_since(monotonic());
        (of == spec && !left.is_zero()).then_some(left)
    }

    async fn target(
        &self,
        namespace: &str,
        spec: &HorizontalPodAutoscalerSpec,
    ) -> Result<ScaleTarget, String> {
        let reference = &spec.scale_target_ref;
        let version = reference.api_version.as_deref().unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let found = self.kinds.find(group, &reference.kind).ok_or_else(|| {
            format!("no matches for kind {:?} in group {group:?}", reference.kind)
        })?;
        let (resource, key) =
            (found.resource.clone(), ObjectKey::namespaced(namespace, reference.name.clone()));
        let path = resource.object_path(&key, Some("scale"));
        let answer = self.client.request(Method::GET, &path, None).await;
        let answer = answer.map_err(|error| chain(&error))?;
        let scale: Scale = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        Ok(ScaleTarget { resource, key, scale })
    }

    async fn usage(
        &self,
        namespace: &str,
        selector: &str,
    ) -> Result<BTreeMap<String, PodUsage>, String> {
        let selector = utf8_percent_encode(selector, NON_ALPHANUMERIC);
        let path = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}"
        );
        let answer = self.client.request(Method::GET, &path, None).await;
        let answer = answer.map_err(|error| {
            format!("unable to fetch metrics from resource metrics API: {}", chain(&error))
        })?;
        let list: PodMetricsList =
            serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        if list.items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        Ok(list.items.into_iter().map(PodMetrics::into_usage).collect())
    }

    /// The autoscalers of the namespace that select some of the pods.
    fn selecting(&self, key: &ObjectKey, selector: &Selector, pods: &[Arc<Pod>]) -> Vec<ObjectKey> {
        let mut memory = self.memory();
        memory.entry(key.clone()).or_default().selector = Some(selector.clone());
        let is_about = |of: &Memory| {
            of.selector
                .as_ref()
                .is_some_and(|selector| pods.iter().any(|pod| matches(selector, &pod.metadata)))
        };
        let here = memory.iter().filter(|(other, _)| other.namespace == key.namespace);
        here.filter(|(_, of)| is_about(of)).map(|(other, _)| other.clone()).collect()
    }
}

impl Controller for PodAutoscalerController {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let Some(autoscaler) = self.autoscalers.get(key) else {
            self.memory().remove(key);
            return None;
        };
        let spec = autoscaler.spec.clone()?;
        if let Some(left) = self.too_soon(key, &spec) {
            return Some(Observed::TooSoon { left });
        }
        let namespace = key.namespace.as_deref()?;
        let target = self.target(namespace, &spec).await;
        let selector = target.as_ref().ok().and_then(ScaleTarget::selector);
        let (mut pods, mut selecting) = (Vec::new(), Vec::new());
        let mut usage = Err("the target has no selector".to_owned());
        if let Some(text) = selector
            && let Ok(selector) = text.parse::<Selector>()
        {
            pods = self.pods.list_where(namespace, |pod| matches(&selector, &pod.metadata));
            selecting = self.selecting(key, &selector, &pods);
            usage = self.usage(namespace, text).await;
        }
        let mut memory = self.memory();
        let remembered = memory.entry(key.clone()).or_default();
        remembered.acted = Some((monotonic(), spec));
        if let Ok(target) = &target {
            remembered.history.begin(target.replicas(), attempt.now);
        }
        let history = remembered.history.clone();
        let current = target.as_ref().map_or(0, ScaleTarget::replicas);
        let observed = ObservedDue { autoscaler, target, usage, pods, selecting, history, attempt };
        // What is decided is remembered here, since the decision itself has no memory.
        let decision = decide(&observed);
        if let Some(recommended) = decision.recommended {
            let change = decision.rescale.map_or(0, |rescale| rescale.replicas - current);
            remembered.history.note(recommended, change, observed.attempt.now);
        }
        Some(Observed::Due(Box::new(observed)))
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![
            (
                ResourceType::of::<HorizontalPodAutoscaler>(),
                Arc::clone(&self.autoscalers) as Arc<dyn Seen>,
            ),
            (ResourceType::of::<Pod>(), Arc::clone(&self.pods) as Arc<dyn Seen>),
        ]
    }
}

/// `PodMetricsList` of metrics.k8s.io/v1beta1, as much as matters.
#[derive(Deserialize)]
struct PodMetricsList {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: MetricsMetadata,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct MetricsMetadata {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, resource::Quantity>,
}

impl PodMetrics {
    fn into_usage(self) -> (String, PodUsage) {
        let milli = |usage: BTreeMap<String, resource::Quantity>| {
            let amounts = usage.into_iter();
            amounts.map(|(name, amount)| (name, Quantity::of(&amount).milli_units())).collect()
        };
        let containers = self.containers.into_iter().map(|it| (it.name, milli(it.usage))).collect();
        let window = crate::api::duration::parse(&self.window).unwrap_or(SignedDuration::ZERO);
        (self.metadata.name, PodUsage { timestamp: self.timestamp, window, containers })
    }
}
