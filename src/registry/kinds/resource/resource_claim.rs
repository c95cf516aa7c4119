//! ResourceClaims: the devices that somebody asks for, and those that he was given.
//!
//! Start at [`claim::validate`] and [`status::validate`]. Follows upstream
//! pkg/registry/resource/resourceclaim (v1.35). Who may have access as an administrator is
//! admission's.

use super::{claim, status};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{immutable, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves, metadata,
};
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::Value;

impl Resource for ResourceClaim {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "resourceclaim",
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::RESOURCE_CLAIM;
    const RETURNS_DELETED: bool = true;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("State", "Whether devices are allocated and somebody uses them."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        claim::apply_defaults(&mut self.spec);
        self.status.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        claim::drop_disabled(&mut self.spec);
    }

    fn prepare_update(&mut self, _old: &Self) {
        claim::drop_disabled(&mut self.spec);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        metadata::keep_for_status(&mut self.metadata, &old.metadata);
        let before = old.status.clone().unwrap_or_default();
        status::prepare(self.status.get_or_insert_default(), &before);
    }

    fn validate(&self) -> Vec<FieldError> {
        claim::validate(&self.spec, &FieldPath::new("spec"))
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let spec = |claim: &Self| to_value(&claim.spec);
        immutable(&FieldPath::new("spec"), spec(self), &spec(old)).into_iter().collect()
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        status::validate(self, old)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![cells::name(&self.metadata), state(self).into(), cells::age(&self.metadata, now)]
    }
}

/// Upstream `resourceClaimState`.
fn state(claim: &ResourceClaim) -> String {
    let is_deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.clone().unwrap_or_default();
    let is_reserved = status.reserved_for.is_some_and(|users| !users.is_empty());
    let is_allocated = status.allocation.is_some();
    [
        (is_deleted, "deleted"),
        (!is_allocated && !is_deleted, "pending"),
        (is_allocated, "allocated"),
        (is_allocated && is_reserved, "reserved"),
    ]
    .into_iter()
    .filter_map(|(is_so, word)| is_so.then_some(word))
    .collect::<Vec<_>>()
    .join(",")
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn claim(devices: Value) -> Case {
        let metadata = json!({"name": "x", "namespace": "ns"});
        Case::of("resourceclaims", json!({"metadata": metadata, "spec": {"devices": devices}}))
    }

    fn request(exactly: Value) -> Value {
        json!({"name": "r", "exactly": exactly})
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let created = claim(json!({"requests": [
            request(json!({"deviceClassName": "c"})),
            request(json!({"deviceClassName": "c", "allocationMode": "All", "count": 0})),
            {"name": "s", "firstAvailable": [{"name": "a", "deviceClassName": "c"}]},
        ]}))
        .created()
        .to_value();
        let requests = &created["spec"]["devices"]["requests"];
        assert_eq!(requests[0]["exactly"]["allocationMode"], "ExactCount");
        assert_eq!(requests[0]["exactly"]["count"], 1);
        assert_eq!(requests[1]["exactly"].get("count"), None);
        assert_eq!(requests[2]["firstAvailable"][0]["count"], 1);
        assert_eq!(created["status"], json!({}));
    }

    #[test]
    fn a_request_is_exact_or_has_alternatives() {
        check(&claim(json!({"requests": [request(json!({"deviceClassName": "c"}))]})), &[]);
        check(
            &claim(json!({"requests": [
                {"name": "R"}, request(json!({"deviceClassName": "", "count": -1})),
                {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All", "count": 2},
                    "firstAvailable": [
                        {"name": "a", "deviceClassName": "C", "allocationMode": "Most"},
                        {"name": "a", "deviceClassName": "c", "count": 0},
                    ]},
            ]})),
            &[
                "spec.devices.requests[0].name: Invalid value: \"R\": a lowercase RFC 1123 label",
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1].exactly.deviceClassName: Required value",
                "spec.devices.requests[1].exactly.count: Invalid value: -1: must be greater than zero",
                "spec.devices.requests[2].firstAvailable[0].deviceClassName: Invalid value: \"C\"",
                "spec.devices.requests[2].firstAvailable[0].allocationMode: Unsupported value: \"Most\": supported values: \"All\", \"ExactCount\"",
                "spec.devices.requests[2].firstAvailable[1].name: Duplicate value: \"a\"",
                "spec.devices.requests[2].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                "spec.devices.requests[2]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
                "spec.devices.requests[2].name: Duplicate value: \"r\"",
            ],
        );
        let many: Vec<_> = (0..33)
            .map(|n| json!({"name": format!("r{n}"), "exactly": {"deviceClassName": "c"}}))
            .collect();
        check(
            &claim(json!({"requests": many})),
            &["spec.devices.requests: Too many: 33: must have at most 32 items"],
        );
    }

    #[test]
    fn tolerations_are_whole() {
        let tolerations = json!([
            {"operator": "Exists"}, {"operator": "Equal", "key": "a", "value": "b", "effect": "NoExecute"},
            {"key": "-", "operator": "Exists", "value": "x", "effect": "Never"},
            {"operator": "Equal", "value": "-"}, {}, {"operator": "Like"},
        ]);
        let at = "spec.devices.requests[0].exactly.tolerations";
        check(
            &claim(json!({"requests": [
                request(json!({"deviceClassName": "c", "tolerations": tolerations})),
            ]})),
            &[
                &format!("{at}[2].key: Invalid value: \"-\": name part must consist of"),
                &format!(
                    "{at}[2].value: Invalid value: \"x\": must be empty for operator `Exists`"
                ),
                &format!(
                    "{at}[2].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\""
                ),
                &format!("{at}[3].value: Invalid value: \"-\": a valid label must be"),
                &format!("{at}[4].operator: Required value"),
                &format!(
                    "{at}[5].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\""
                ),
            ],
        );
    }

    #[test]
    fn constraints_and_configurations_are_of_requests_that_are_there() {
        let requests = json!([
            request(json!({"deviceClassName": "c"})),
            {"name": "s", "firstAvailable": [{"name": "a", "deviceClassName": "c"}]},
        ]);
        let opaque = json!({"driver": "d.io", "parameters": {}});
        check(
            &claim(json!({
                "requests": requests,
                "constraints": [{"requests": ["r", "s/a"], "matchAttribute": "d.io/model"}],
                "config": [{"requests": ["s"], "opaque": opaque}],
            })),
            &[],
        );
        let unknown = "must be the name of a request in the claim or the name of a request and a";
        check(
            &claim(json!({
                "requests": requests,
                "constraints": [
                    {"requests": ["x", "s/b", "a/b/c", "r", "r"]},
                    {"matchAttribute": "model"}, {"distinctAttribute": "d.io/9"},
                    {"matchAttribute": ""}, {"matchAttribute": "/"},
                ],
                "config": [{"requests": ["R"], "opaque": opaque}],
            })),
            &[
                &format!(
                    "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": {unknown}"
                ),
                &format!(
                    "spec.devices.constraints[0].requests[1]: Invalid value: \"s/b\": {unknown}"
                ),
                &format!(
                    "spec.devices.constraints[0].requests[2]: Invalid value: \"a/b/c\": {unknown}"
                ),
                "spec.devices.constraints[0].requests[4]: Duplicate value: \"r\"",
                "spec.devices.constraints[0].matchAttribute: Required value",
                "spec.devices.constraints[1].matchAttribute: Invalid value: \"model\": must include a domain",
                "spec.devices.constraints[2].distinctAttribute: Invalid value: \"9\": a valid C identifier",
                "spec.devices.constraints[3].matchAttribute: Required value: name required",
                "spec.devices.constraints[4].matchAttribute: Required value: the domain must not be empty",
                "spec.devices.constraints[4].matchAttribute: Required value: the name must not be empty",
                "spec.devices.config[0].requests[0]: Invalid value: \"R\": a lowercase RFC 1123 label",
                &format!("spec.devices.config[0].requests[0]: Invalid value: \"R\": {unknown}"),
            ],
        );
    }

    #[test]
    fn what_was_asked_for_stays() {
        let old = claim(json!({"requests": [request(json!({"deviceClassName": "c"}))]}));
        check_update(&old, &old, &[]);
        check_update(
            &old,
            &claim(json!({})),
            &["spec: Invalid value: {\"devices\":{}}: field is immutable"],
        );
    }

    #[test]
    fn the_state_is_told_in_a_word() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (changes, expected) in [
            (json!({}), "pending"),
            (json!({"metadata": gone}), "deleted"),
            (json!({"status": {"allocation": {}}}), "allocated"),
            (
                json!({"status": {"allocation": {}, "reservedFor": [
                {"resource": "pods", "name": "p", "uid": "u"}]}}),
                "allocated,reserved",
            ),
            (json!({"metadata": gone, "status": {"allocation": {}}}), "deleted,allocated"),
        ] {
            let row = claim(json!({})).with(changes).decode().row(now);
            assert_eq!(row[1], expected);
        }
    }
}
