//! The decision about an autoscaler: how many replicas its target is to have.
//!
//! Follows upstream `reconcileAutoscaler` (pkg/controller/podautoscaler/horizontal.go, v1.35).

use super::limits::{History, Limited, Wish, limit};
use super::ratio::Tolerance;
use super::usage::{PodUsage, Proposal, Source, Target, Workload, propose};
use crate::api::labels::Selector;
use crate::api::{ObjectKey, Quantity};
use crate::client::{Content, ResourceType, object_reference};
use crate::control::{Attempt, Detail, Plan, Planned, Report, Write};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An autoscaler acts this often: upstream's `--horizontal-pod-autoscaler-sync-period`.
pub(super) const SYNC_PERIOD: Duration = Duration::from_secs(15);

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub enum Observed {
    /// It has acted not long ago.
    TooSoon {
        left: Duration,
    },
    Due(Box<ObservedDue>),
}

/// An autoscaler that is to act, and what there is to know.
#[derive(Clone, Debug)]
pub struct ObservedDue {
    pub autoscaler: Arc<HorizontalPodAutoscaler>,
    /// What is scaled, or why that cannot be told.
    pub target: Result<ScaleTarget, String>,
    /// What its pods use, by their names, or why that cannot be told.
    pub usage: Result<BTreeMap<String, PodUsage>, String>,
    pub pods: Vec<Arc<Pod>>,
    /// Autoscalers that select some of these pods, this one included.
    pub selecting: Vec<ObjectKey>,
    pub history: History,
    pub attempt: Attempt,
}

/// What is scaled.
#[derive(Clone, Debug)]
pub struct ScaleTarget {
    pub resource: ResourceType,
    pub key: ObjectKey,
    pub scale: Scale,
}

impl ScaleTarget {
    pub(super) fn replicas(&self) -> i32 {
        self.scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default()
    }

    pub(super) fn selector(&self) -> Option<&str> {
        let selector = self.scale.status.as_ref()?.selector.as_deref();
        selector.filter(|selector| !selector.is_empty())
    }
}

pub fn plan(observed: &Observed) -> Plan {
    match observed {
        Observed::TooSoon { left } => Plan { recheck_after: Some(*left), ..Plan::default() },
        Observed::Due(observed) => plan_due(observed),
    }
}

fn plan_due(observed: &ObservedDue) -> Plan {
    let autoscaler = &*observed.autoscaler;
    let decision = decide(observed);
    let mut plan = Plan {
        regarding: object_reference(autoscaler),
        reports: decision.reports,
        recheck_after: Some(SYNC_PERIOD),
        ..Plan::default()
    };
    if let (Some(rescale), Ok(target)) = (&decision.rescale, &observed.target) {
        plan.then([rescale_write(target, rescale)]);
    }
    if autoscaler.status.as_ref() != Some(&decision.status) {
        let status = Some(decision.status);
        let reported = HorizontalPodAutoscaler { status, ..autoscaler.clone() };
        plan.then([Write::update_status(&reported)]);
    }
    plan
}

/// Whatever revision the target is at: nobody else is meant to say how many replicas it has.
fn rescale_write(target: &ScaleTarget, rescale: &Rescale) -> Planned {
    let mut scale = target.scale.clone();
    scale.metadata.resource_version = None;
    scale.spec.get_or_insert_default().replicas = Some(rescale.replicas);
    let (count, reason) = (rescale.replicas, &rescale.reason);
    let told = format!("New size: {count}; reason: {reason}");
    Planned {
        write: Write::Update {
            resource: target.resource.clone(),
            key: target.key.clone(),
            subresource: Some("scale"),
            body: Content::json(&scale).bytes,
        },
        succeeded: Some(Report::normal("SuccessfulRescale", told.clone())),
        failed: Some(Report::warning("FailedRescale", told + "; error: ").with(Detail::Error)),
    }
}

/// A new number of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rescale {
    pub(super) replicas: i32,
    pub(super) reason: String,
}

/// What comes of a look.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) status: HorizontalPodAutoscalerStatus,
    pub(super) rescale: Option<Rescale>,
    /// What the metrics ask for, to be remembered.
    pub(super) recommended: Option<i32>,
    reports: Vec<Report>,
}

/// Decides, without doing. Pure, like [`plan`].
pub(super) fn decide(observed: &ObservedDue) -> Decision {
    let mut decision = Decision {
        status: observed.autoscaler.status.clone().unwrap_or_default(),
        rescale: None,
        recommended: None,
        reports: Vec::new(),
    };
    let Some(spec) = &observed.autoscaler.spec else { return decision };
    let target = match &observed.target {
        Ok(target) => target,
        Err(problem) => {
            let message = format!(
                "the HPA controller was unable to get the target's current scale: {problem}"
            );
            decision.reports.push(Report::warning("FailedGetScale", problem.clone()));
            decision.say(observed, (ABLE, "False"), ("FailedGetScale", &message));
            return decision;
        }
    };
    let message = "the HPA controller was able to get the target's current scale";
    decision.say(observed, (ABLE, "True"), ("SucceededGetScale", message));
    let current = target.replicas();
    let min = spec.min_replicas.unwrap_or(1);
    decision.status.current_replicas = Some(current).filter(|count| *count != 0);
    let rescale =
        |replicas: i32, reason: &str| Some(Rescale { replicas, reason: reason.to_owned() });
    if current == 0 && min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        decision.say(observed, (ACTIVE, "False"), ("ScalingDisabled", message));
        decision.status.desired_replicas = 0;
        decision.status.current_metrics = None;
        return decision;
    } else if current > spec.max_replicas {
        let reason = "Current number of replicas above Spec.MaxReplicas";
        decision.rescale = rescale(spec.max_replicas, reason);
        decision.status.current_metrics = None;
    } else if current < min {
        decision.rescale = rescale(min, "Current number of replicas below Spec.MinReplicas");
        decision.status.current_metrics = None;
    } else if !decision.follow_metrics(observed, spec, current) {
        return decision;
    }
    decision.finish(observed, current);
    decision
}

impl Decision {
    fn say(
        &mut self,
        observed: &ObservedDue,
        (kind, value): (&str, &str),
        (reason, message): (&str, &str),
    ) {
        let now = Some(Time(observed.attempt.now));
        let conditions = self.status.conditions.get_or_insert_default();
        let known = conditions.iter_mut().find(|condition| condition.type_ == kind);
        let since = known.as_ref().filter(|known| known.status == value);
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since.map_or(now, |known| known.last_transition_time.clone()),
        };
        match known {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }

    /// The most that a metric asks for, within limits. Says whether there is any.
    fn follow_metrics(
        &mut self,
        observed: &ObservedDue,
        spec: &HorizontalPodAutoscalerSpec,
        current: i32,
    ) -> bool {
        let Some(asked) = self.ask_metrics(observed, spec, current) else { return false };
        self.recommended = Some(asked.replicas);
        let reason = if asked.replicas > current {
            format!("{} above target", asked.metric)
        } else {
            "All metrics below target".to_owned()
        };
        let wish = Wish {
            spec,
            history: &observed.history,
            current,
            desired: asked.replicas,
            now: observed.attempt.now,
        };
        let Limited { replicas, able, limit: why, is_limited } = limit(wish);
        self.say(observed, (ABLE, "True"), able);
        self.say(observed, (LIMITED, if is_limited { "True" } else { "False" }), why);
        self.rescale = (replicas != current).then_some(Rescale { replicas, reason });
        true
    }

    /// Upstream `computeReplicasForMetrics`.
    fn ask_metrics(
        &mut self,
        observed: &ObservedDue,
        spec: &HorizontalPodAutoscalerSpec,
        current: i32,
    ) -> Option<Asked> {
        if let Err((reason, of_condition, message)) = check_selector(observed) {
            self.reports.push(Report::warning(reason, message.clone()));
            self.say(observed, (ACTIVE, "False"), (of_condition, &message));
            self.reports.push(Report::warning("FailedComputeMetricsReplicas", message));
            self.status.current_metrics = None;
            return None;
        }
        let metrics = spec.metrics.as_deref().unwrap_or_default();
        let (mut best, mut failures, mut statuses) = (None::<Asked>, Vec::new(), Vec::new());
        for metric in metrics {
            match ask(observed, spec, metric, current) {
                Ok((asked, status)) => {
                    statuses.push(status);
                    if best.as_ref().is_none_or(|best| asked.replicas > best.replicas) {
                        best = Some(asked);
                    }
                }
                Err(failure) => {
                    statuses.push(MetricStatus::default());
                    self.reports.push(Report::warning(failure.reason, failure.problem.clone()));
                    failures.push(failure);
                }
            }
        }
        // One for each metric, in their order: one that tells nothing stays empty, as upstream's.
        self.status.current_metrics = (!statuses.is_empty()).then_some(statuses);
        // Without all of them, fewer replicas would be a guess.
        let best = best.filter(|best| failures.is_empty() || best.replicas >= current);
        let Some(best) = best else {
            let first = failures.first()?;
            let message =
                format!("the HPA was unable to compute the replica count: {}", first.problem);
            self.say(observed, (ACTIVE, "False"), (first.reason, &message));
            let message = format!(
                "invalid metrics ({} invalid out of {}), first error is: failed to get {} metric value: {}",
                failures.len(),
                metrics.len(),
                first.what,
                first.problem
            );
            self.reports.push(Report::warning("FailedComputeMetricsReplicas", message));
            return None;
        };
        let message = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            best.metric
        );
        self.say(observed, (ACTIVE, "True"), ("ValidMetricFound", &message));
        Some(best)
    }

    fn finish(&mut self, observed: &ObservedDue, current: i32) {
        let Some(Rescale { replicas, .. }) = self.rescale else {
            self.status.desired_replicas = current;
            return;
        };
        self.status.desired_replicas = replicas;
        self.status.last_scale_time = Some(Time(observed.attempt.now));
        let message =
            format!("the HPA controller was able to update the target scale to {replicas}");
        self.say(observed, (ABLE, "True"), ("SucceededRescale", &message));
    }
}

/// What a metric asks for.
#[derive(Clone, Debug)]
struct Asked {
    replicas: i32,
    metric: String,
}

/// Why a metric asks for nothing.
struct Failure {
    reason: &'static str,
    /// The sort of the metric.
    what: String,
    problem: String,
}

/// Reasons of the event and of the condition, and the message, where the pods cannot be told.
fn check_selector(observed: &ObservedDue) -> Result<(), (&'static str, &'static str, String)> {
    let selector = observed.target.as_ref().ok().and_then(ScaleTarget::selector);
    let Some(selector) = selector else {
        return Err(("SelectorRequired", "InvalidSelector", "selector is required".to_owned()));
    };
    if let Err(error) = selector.parse::<Selector>() {
        let message = format!(
            "couldn't convert selector into a corresponding internal selector object: {error}"
        );
        return Err(("InvalidSelector", "InvalidSelector", message));
    }
    if observed.selecting.len() > 1 {
        let names: Vec<_> = observed.selecting.iter().map(ToString::to_string).collect();
        let names = names.join(" ");
        let message =
            format!("pods by selector {selector} are controlled by multiple HPAs: [{names}]");
        return Err(("AmbiguousSelector", "AmbiguousSelector", message));
    }
    Ok(())
}

fn ask(
    observed: &ObservedDue,
    spec: &HorizontalPodAutoscalerSpec,
    metric: &MetricSpec,
    current: i32,
) -> Result<(Asked, MetricStatus), Failure> {
    let (name, container, target, reason) = match (&metric.resource, &metric.container_resource) {
        (Some(source), _) => (&source.name, None, &source.target, "FailedGetResourceMetric"),
        (None, Some(source)) => {
            let container = Some(source.container.as_str());
            (&source.name, container, &source.target, "FailedGetContainerResourceMetric")
        }
        (None, None) => return Err(unserved(metric, observed)),
    };
    let what = match container {
        Some(container) => format!("{container} container"),
        None => format!("{name} resource"),
    };
    let failure = |problem: String| Failure { reason, what: what.clone(), problem };
    let (aim, measured) = aim_of(target).ok_or_else(|| {
        failure(
            "invalid resource metric source: neither an average utilization target nor an \
                 average value (usage) target was set"
                .to_owned(),
        )
    })?;
    let usage = observed.usage.as_ref().map_err(|problem| {
        failure(format!(
            "failed to get {name} {measured}: unable to get metrics for resource {name}: {problem}"
        ))
    })?;
    let workload = Workload {
        pods: &observed.pods,
        usage,
        replicas: current,
        tolerance: Tolerance::of(spec.behavior.as_ref()),
        now: observed.attempt.now,
    };
    let proposal = propose(workload, Source { resource: name, container }, aim)
        .map_err(|problem| failure(format!("failed to get {name} {measured}: {problem}")))?;
    let metric_name = match aim {
        Target::Utilization(_) if container.is_some() => {
            format!("{name} container resource utilization (percentage of request)")
        }
        Target::Utilization(_) => format!("{name} resource utilization (percentage of request)"),
        Target::Average(_) => format!("{name} resource"),
    };
    let asked = Asked { replicas: proposal.replicas, metric: metric_name };
    Ok((asked, status_of(name, container, proposal)))
}

fn aim_of(target: &MetricTarget) -> Option<(Target, &'static str)> {
    if let Some(average) = &target.average_value {
        return Some((Target::Average(Quantity::of(average).milli_units()), "usage"));
    }
    target.average_utilization.map(|percent| (Target::Utilization(percent), "utilization"))
}

fn status_of(name: &str, container: Option<&str>, proposal: Proposal) -> MetricStatus {
    // In the suffixes of the metrics (upstream `buildQuantity`).
    let average = match name {
        "memory" => Quantity::binary(proposal.average / 1_000),
        _ => Quantity::milli(proposal.average),
    };
    let current = MetricValueStatus {
        average_utilization: proposal.percent,
        average_value: Some(average.to_field()),
        value: None,
    };
    match container {
        None => MetricStatus {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricStatus { name: name.to_owned(), current }),
            ..MetricStatus::default()
        },
        Some(container) => MetricStatus {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(ContainerResourceMetricStatus {
                name: name.to_owned(),
                container: container.to_owned(),
                current,
            }),
            ..MetricStatus::default()
        },
    }
}

/// Metrics of an adapter, of which there is none: upstream's words where none is registered.
fn unserved(metric: &MetricSpec, observed: &ObservedDue) -> Failure {
    const CUSTOM: &str = "unable to fetch metrics from custom metrics API: no custom metrics API \
                          (custom.metrics.k8s.io) registered";
    let namespace = observed.autoscaler.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(source) = &metric.object {
        let (name, about) = (&source.metric.name, &source.described_object);
        let (kind, of) = (&about.kind, &about.name);
        return Failure {
            reason: "FailedGetObjectMetric",
            what: "object".to_owned(),
            problem: format!("unable to get metric {name}: {CUSTOM} on {kind} {namespace}/{of}"),
        };
    }
    if let Some(source) = &metric.pods {
        let name = &source.metric.name;
        return Failure {
            reason: "FailedGetPodsMetric",
            what: "pods".to_owned(),
            problem: format!("unable to get metric {name}: {CUSTOM}"),
        };
    }
    let name = metric.external.as_ref().map(|source| source.metric.name.as_str());
    let name = name.unwrap_or_default();
    Failure {
        reason: "FailedGetExternalMetric",
        what: format!("{name} external"),
        problem: format!(
            "unable to get external metric {namespace}/{name}: unable to fetch metrics from external \
             metrics API: the server could not find the requested resource (get \
             {name}.external.metrics.k8s.io)"
        ),
    }
}
