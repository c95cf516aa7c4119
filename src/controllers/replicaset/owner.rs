//! What is the same in ReplicaSets and ReplicationControllers. Upstream converts the one into the
//! other (pkg/controller/replication/conversion.go, v1.35).

use crate::api::labels::Selector;
use crate::client::{ApiObject, Cache};
use crate::controllers::Caches;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition,
    ReplicationControllerStatus,
};
use std::sync::Arc;

/// Keeps so many pods of one template.
pub trait Replicated: ApiObject + PartialEq {
    /// The name of its controller.
    const CONTROLLER: &'static str;

    fn cache(caches: &Caches) -> Arc<Cache<Self>>;

    /// `None` where nobody can read it, which validation does not let in.
    fn selector(&self) -> Option<Selector>;

    fn template(&self) -> Option<&PodTemplateSpec>;

    fn replicas(&self) -> Option<i32>;

    fn min_ready_seconds(&self) -> i32;

    /// The conditions in its status.
    fn conditions(&self) -> Vec<ReplicaSetCondition>;

    /// The object with this status, as far as its kind has the fields.
    #[must_use]
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn cache(caches: &Caches) -> Arc<Cache<Self>> {
        Arc::clone(&caches.replica_sets)
    }

    fn selector(&self) -> Option<Selector> {
        Selector::of_object(Some(&self.spec.as_ref()?.selector)).ok()
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn replicas(&self) -> Option<i32> {
        self.spec.as_ref()?.replicas
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        let status = self.status.as_ref();
        status.and_then(|status| status.conditions.clone()).unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn cache(caches: &Caches) -> Arc<Cache<Self>> {
        Arc::clone(&caches.replication_controllers)
    }

    fn selector(&self) -> Option<Selector> {
        let labels = self.spec.as_ref()?.selector.as_ref()?;
        Some(Selector::of_labels(labels)).filter(|selector| !selector.is_everything())
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn replicas(&self) -> Option<i32> {
        self.spec.as_ref()?.replicas
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let convert = |condition: &ReplicationControllerCondition| ReplicaSetCondition {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_transition_time: condition.last_transition_time.clone(),
        };
        conditions.map(convert).collect()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let convert = |condition: ReplicaSetCondition| ReplicationControllerCondition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(convert).collect()),
        };
        Self { status: Some(status), ..self.clone() }
    }
}
