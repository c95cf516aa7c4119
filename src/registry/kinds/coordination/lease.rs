//! Leases: who leads, and who is alive.
//!
//! Follows upstream `ValidateLease` (pkg/apis/coordination/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, not_negative};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use serde_json::Value;

impl Resource for Lease {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "lease", ..BuiltIn::NAMESPACED });
    const SCHEMA: TypeRef = types::LEASE;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::text("Holder", "Who holds the lease."), Column::AGE];
    const CREATES_ON_UPDATE: bool = true;
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn apply_defaults(&mut self) {
        self.spec.get_or_insert_default();
    }

    /// Electing by strategy is behind a gate upstream, which is closed.
    fn prepare_create(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.strategy = None;
            spec.preferred_holder = None;
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        let old = old.spec.clone().unwrap_or_default();
        if let Some(spec) = &mut self.spec {
            spec.strategy.take_if(|_| old.strategy.is_none());
            spec.preferred_holder.take_if(|_| old.preferred_holder.is_none());
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        self.spec.as_ref().map(validate_spec).unwrap_or_default()
    }

    /// Renewals by the same holder are no more. A change of holders is what others wait for.
    fn without_heartbeat(&self) -> Option<Self> {
        let mut lease = self.clone();
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = None;
        }
        Some(lease)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        vec![
            cells::name(&self.metadata),
            holder.unwrap_or_default().into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate_spec(spec: &LeaseSpec) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let path = path.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
    errors.extend(not_negative(&path.child("leaseTransitions"), spec.lease_transitions));
    let strategy = spec.strategy.as_deref();
    if let Some(strategy) = strategy {
        let path = path.child("strategy").child("strategy");
        if strategy.contains('/') {
            errors.extend(invalid(&path, strategy, names::qualified_name(strategy)));
        } else if strategy != "OldestEmulationVersion" {
            let known = &["OldestEmulationVersion"];
            errors.push(FieldError::not_supported(&path, strategy, known));
        }
    }
    let has_preference = spec.preferred_holder.as_ref().is_some_and(|holder| !holder.is_empty());
    if has_preference && strategy.unwrap_or_default().is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    fn lease() -> Case {
        Case::of(
            "leases",
            json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {
                "holderIdentity": "x", "renewTime": "2026-01-01T00:00:00.000000Z",
            }}),
        )
    }

    #[test]
    fn durations_and_transitions() {
        check(&lease(), &[]);
        check(
            &lease().with(json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}})),
            &[
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ],
        );
    }

    #[test]
    fn only_a_renewal_by_the_holder_is_a_heartbeat() {
        let old = lease().decode();
        let renewed = lease().with(json!({"spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}}));
        assert!(renewed.decode().is_heartbeat(&*old));
        let taken = renewed.with(json!({"spec": {"holderIdentity": "y"}}));
        assert!(!taken.decode().is_heartbeat(&*old));
    }
}
