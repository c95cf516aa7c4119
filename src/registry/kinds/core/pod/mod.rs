//! Pods.
//!
//! What a Pod shares with the templates of workloads is in [`podspec`].
//! Follows upstream pkg/registry/core/pod/strategy.go (v1.35).

mod changes;
mod columns;
mod create;
mod defaults;
mod ephemeral;
mod resize;
mod status;
mod validate;

pub(super) use validate::validate_annotations;

use super::podspec;
use crate::api::{FieldError, FieldPath, pod};
use crate::registry::checks::ip_warning;
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, Body, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use serde_json::Value;
use std::borrow::Cow;

/// What takes a connection over.
const CONNECT: &[&str] = &["create", "get"];

/// What hands requests on, whatever they are.
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// What is in the query of a request, and never in a body.
const fn options(kind: &'static str) -> Body {
    Body::Other { group: "", version: "", kind }
}

impl Resource for Pod {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "pod",
        short_names: &[Cow::Borrowed("po")],
        categories: ALL,
        subresources: &[
            Subresource { name: "attach", body: options("PodAttachOptions"), verbs: CONNECT },
            Subresource {
                name: "binding",
                body: Body::Other { group: "", version: "", kind: "Binding" },
                verbs: &["create"],
            },
            Subresource {
                name: "ephemeralcontainers",
                body: Body::Parent,
                verbs: &["get", "patch", "update"],
            },
            Subresource {
                name: "eviction",
                body: Body::Other { group: "policy", version: "v1", kind: "Eviction" },
                verbs: &["create"],
            },
            Subresource { name: "exec", body: options("PodExecOptions"), verbs: CONNECT },
            Subresource { name: "log", body: Body::Parent, verbs: &["get"] },
            Subresource {
                name: "portforward",
                body: options("PodPortForwardOptions"),
                verbs: CONNECT,
            },
            Subresource { name: "proxy", body: options("PodProxyOptions"), verbs: PROXY },
            Subresource { name: "resize", body: Body::Parent, verbs: &["get", "patch", "update"] },
            Subresource::STATUS,
        ],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::POD;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = columns::COLUMNS;
    const RETURNS_DELETED: bool = true;

    fn resets(subresource: &str) -> Resets {
        match subresource {
            "status" => Resets::Of(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            "ephemeralcontainers" => Resets::AllBut(&[&["spec", "ephemeralContainers"]]),
            "resize" => Resets::AllBut(&[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
                &["spec", "initContainers", "*", "resources"],
                &["spec", "initContainers", "*", "resizePolicy"],
            ]),
            _ => Resets::of_halves(subresource),
        }
    }

    fn apply_defaults(&mut self) {
        defaults::apply(self);
    }

    fn prepare_create(&mut self) {
        let labels = self.metadata.labels.clone().unwrap_or_default();
        let spec = self.spec.get_or_insert_default();
        create::resolve_label_keys(spec, &labels);
        self.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(pod::qos_class(spec).as_str().to_owned()),
            conditions: spec.scheduling_gates.as_ref().map(|_| vec![gated()]),
            ..PodStatus::default()
        });
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
        self.metadata.owner_references.clone_from(&old.metadata.owner_references);
        let status = self.status.get_or_insert_default();
        let old_status = old.status.as_ref();
        if status.qos_class.as_ref().is_none_or(String::is_empty) {
            status.qos_class = old_status.and_then(|status| status.qos_class.clone());
        }
        keep_observed_generations(status, old_status);
    }

    fn prepare_part(&mut self, subresource: &str, old: &Self) {
        match subresource {
            "ephemeralcontainers" => ephemeral::prepare(self, old),
            _ => resize::prepare(self, old),
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        validate::validate(self)
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate::validate_create(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        changes::validate(self, old)
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        status::validate(self, old)
    }

    fn validate_part(&self, subresource: &str, old: &Self) -> Vec<FieldError> {
        match subresource {
            "ephemeralcontainers" => ephemeral::validate(self, old),
            _ => resize::validate(self, old),
        }
    }

    fn deletion_grace_seconds(&self, requested: Option<i64>) -> Option<i64> {
        let spec = self.spec.as_ref();
        let wished = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let seconds = requested.or(wished).unwrap_or_default();
        if !pod::is_bound(self) || pod::is_terminal(self) {
            // Nobody runs it, so nobody has to end it.
            return Some(0);
        }
        Some(if seconds < 0 { 1 } else { seconds })
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let (spec, status) = (self.spec.as_ref(), self.status.as_ref());
        let of_spec = |pick: fn(&k8s_openapi::api::core::v1::PodSpec) -> &Option<String>| {
            spec.and_then(|spec| pick(spec).clone()).unwrap_or_default()
        };
        let of_status = |pick: fn(&PodStatus) -> &Option<String>| {
            status.and_then(|status| pick(status).clone()).unwrap_or_default()
        };
        let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
        vec![
            ("spec.nodeName", of_spec(|spec| &spec.node_name)),
            ("spec.restartPolicy", of_spec(|spec| &spec.restart_policy)),
            ("spec.schedulerName", of_spec(|spec| &spec.scheduler_name)),
            ("spec.serviceAccountName", of_spec(|spec| &spec.service_account_name)),
            ("spec.hostNetwork", host_network.to_string()),
            ("status.phase", of_status(|status| &status.phase)),
            ("status.podIP", columns::pod_ip(self).unwrap_or_default().to_owned()),
            ("status.podIPs", columns::pod_ip(self).unwrap_or_default().to_owned()),
            ("status.nominatedNodeName", of_status(|status| &status.nominated_node_name)),
            // What the node's name was called before v1.
            ("spec.host", of_spec(|spec| &spec.node_name)),
        ]
    }

    fn status_warnings(&self) -> Vec<String> {
        let Some(status) = &self.status else { return Vec::new() };
        let path = FieldPath::new("status");
        let of_pod = status.pod_ips.iter().flatten().map(|it| &it.ip).enumerate();
        let of_host = status.host_ips.iter().flatten().map(|it| &it.ip).enumerate();
        let of_pod = of_pod.map(|(index, ip)| (path.child("podIPs").index(index), ip));
        let of_host = of_host.map(|(index, ip)| (path.child("hostIPs").index(index), ip));
        let told = of_pod.chain(of_host);
        told.filter_map(|(path, ip)| ip_warning(&path.child("ip"), ip)).collect()
    }

    /// People seldom change pods themselves, and controllers do not listen.
    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let Some(spec) = self.spec.as_ref().filter(|_| old.is_none()) else { return Vec::new() };
        let name = podspec::name_warning(&self.metadata, "the Pod's hostname");
        let root = FieldPath::default();
        let others = podspec::warnings(spec, Some(&self.metadata), &root);
        name.into_iter().chain(others).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        columns::row(self, now)
    }
}

/// Puts back what no subresource changes: all but the spec (upstream `ResetObjectMetaForStatus`).
fn restore_around_spec(pod: &mut Pod, old: &Pod) {
    pod.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
    pod.metadata.deletion_grace_period_seconds = old.metadata.deletion_grace_period_seconds;
    pod.metadata.owner_references.clone_from(&old.metadata.owner_references);
    pod.metadata.labels.clone_from(&old.metadata.labels);
    pod.metadata.annotations.clone_from(&old.metadata.annotations);
    pod.metadata.finalizers.clone_from(&old.metadata.finalizers);
    pod.metadata.managed_fields.clone_from(&old.metadata.managed_fields);
    pod.status.clone_from(&old.status);
}

fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(validate::MIRROR_ANNOTATION))
}

/// The condition of a pod that waits for its gates to be taken away (upstream
/// `applySchedulingGatedCondition`).
fn gated() -> PodCondition {
    PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..PodCondition::default()
    }
}

/// Writers that do not know of observed generations do not take them away (upstream
/// `preserveOldObservedGeneration`).
fn keep_observed_generations(status: &mut PodStatus, old: Option<&PodStatus>) {
    let Some(old) = old else {
        return;
    };
    status.observed_generation.take_if(|generation| *generation == 0);
    status.observed_generation = status.observed_generation.or(old.observed_generation);
    for condition in status.conditions.iter_mut().flatten() {
        condition.observed_generation.take_if(|generation| *generation == 0);
        let known = pod::status_condition(old, &condition.type_);
        condition.observed_generation = condition
            .observed_generation
            .or_else(|| known.and_then(|condition| condition.observed_generation));
    }
}
