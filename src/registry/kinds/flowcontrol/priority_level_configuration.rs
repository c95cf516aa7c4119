//! PriorityLevelConfigurations: how many requests of a kind are served at once, and what becomes of
//! those that come beyond.
//!
//! Follows upstream `ValidatePriorityLevelConfiguration` (pkg/apis/flowcontrol/validation, v1.35).

use super::flow_schema::validate_condition_types;
use super::well_known::mandatory_spec;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::to_value;
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration,
    PriorityLevelConfigurationSpec, QueuingConfiguration,
};
use serde_json::Value;

const SHARES: i32 = 30;
const QUEUES: i32 = 64;
const HAND: i32 = 8;
const QUEUE_LENGTH: i32 = 50;
const QUEUES_MAX: i32 = 10_000_000;
/// A hand of queues is dealt from a hash of as many bits.
const HASH_BITS: u32 = 60;

/// The one level that is not limited.
const EXEMPT: &str = "exempt";
/// Only of use in versions that are served no more.
const ZERO_SHARES_ANNOTATION: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const NOT_NEGATIVE: &str = "must be a non-negative integer";

impl Resource for PriorityLevelConfiguration {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "prioritylevelconfiguration",
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::PRIORITY_LEVEL_CONFIGURATION;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Type", "Whether the level is limited."),
        Column::text("NominalConcurrencyShares", "Its part of the requests served at once."),
        Column::text("Queues", "How many queues there are."),
        Column::text("HandSize", "Among how many queues a flow chooses."),
        Column::text("QueueLengthLimit", "How many requests wait in a queue at most."),
        Column::AGE,
    ];

    fn resets(subresource: &str) -> Resets {
        Resets::of_bare_status(subresource)
    }

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(SHARES);
            limited.lendable_percent.get_or_insert(0);
            let response = limited.limit_response.get_or_insert_default();
            if let Some(queuing) = &mut response.queuing {
                let fill = |field: &mut Option<i32>, value| {
                    field.take_if(|number| *number == 0);
                    field.get_or_insert(value);
                };
                fill(&mut queuing.hand_size, HAND);
                fill(&mut queuing.queues, QUEUES);
                fill(&mut queuing.queue_length_limit, QUEUE_LENGTH);
            }
        }
        self.status.get_or_insert_default();
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.metadata.clone_from(&old.metadata);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let annotations = self.metadata.annotations.as_ref();
        if annotations.is_some_and(|all| all.contains_key(ZERO_SHARES_ANNOTATION)) {
            let path = FieldPath::new("metadata").child("annotations");
            let detail = format!("annotation '{ZERO_SHARES_ANNOTATION}' is forbidden");
            errors.push(FieldError::forbidden(&path, detail));
        }
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let name = self.metadata.name.as_deref().unwrap_or_default();
        errors.extend(validate_spec(&spec, name, &path));
        errors.extend(validate_fixed(&spec, name, &path));
        errors.extend(validate_status(self));
        errors
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        validate_status(self)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let limited = spec.limited.as_ref();
        let queuing = limited
            .and_then(|limited| limited.limit_response.as_ref())
            .and_then(|response| response.queuing.as_ref());
        let number =
            |number: Option<i32>| number.map_or_else(|| Value::from(cells::NONE), Value::from);
        vec![
            cells::name(&self.metadata),
            spec.type_.clone().into(),
            number(limited.and_then(|limited| limited.nominal_concurrency_shares)),
            number(queuing.and_then(|queuing| queuing.queues)),
            number(queuing.and_then(|queuing| queuing.hand_size)),
            number(queuing.and_then(|queuing| queuing.queue_length_limit)),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate_status(level: &PriorityLevelConfiguration) -> Vec<FieldError> {
    let conditions = level.status.iter().flat_map(|status| status.conditions.iter().flatten());
    validate_condition_types(conditions.map(|it| it.type_.as_deref().unwrap_or_default()))
}

/// Upstream `ValidateIfMandatoryPriorityLevelConfigurationObject`.
fn validate_fixed(
    spec: &PriorityLevelConfigurationSpec,
    name: &str,
    path: &FieldPath,
) -> Option<FieldError> {
    let mut fixed = mandatory_spec("prioritylevelconfigurations", name)?;
    let shown = to_value(spec);
    // How much the level without limits takes from others is their administrator's business.
    let except = match name {
        EXEMPT => {
            fixed["exempt"] = shown["exempt"].clone();
            " except the 'spec.exempt' field"
        }
        _ => "",
    };
    if fixed["exempt"].is_null() {
        fixed.as_object_mut()?.remove("exempt");
    }
    let detail = format!("spec of '{name}'{except} must equal the fixed value");
    (fixed != shown).then(|| FieldError::invalid(path, shown, detail))
}

/// Upstream `ValidatePriorityLevelConfigurationSpec`.
fn validate_spec(
    spec: &PriorityLevelConfigurationSpec,
    name: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind_path = path.child("type");
    let kind = spec.type_.as_str();
    if (name == EXEMPT) != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(FieldError::invalid(&kind_path, kind, detail));
    }
    let (limited_path, exempt_path) = (path.child("limited"), path.child("exempt"));
    match kind {
        "Exempt" => {
            if spec.limited.is_some() {
                let detail = "must be nil if the type is not Limited";
                errors.push(FieldError::forbidden(&limited_path, detail));
            }
            if let Some(exempt) = &spec.exempt {
                let (shares, percent) =
                    (exempt.nominal_concurrency_shares, exempt.lendable_percent);
                errors.extend(validate_shares(shares, &exempt_path));
                errors.extend(validate_lendable(percent, &exempt_path));
            }
        }
        "Limited" => {
            if spec.exempt.is_some() {
                let detail = "must be nil if the type is Limited";
                errors.push(FieldError::forbidden(&exempt_path, detail));
            }
            match &spec.limited {
                None => {
                    let detail = "must not be empty when type is Limited";
                    errors.push(FieldError::required(&limited_path, detail));
                }
                Some(limited) => errors.extend(validate_limited(limited, &limited_path)),
            }
        }
        other => {
            let kinds = &["Exempt", "Limited"];
            errors.push(FieldError::not_supported(&kind_path, other, kinds));
        }
    }
    errors
}

fn validate_shares(shares: Option<i32>, path: &FieldPath) -> Option<FieldError> {
    let shares = shares.filter(|shares| *shares < 0)?;
    Some(FieldError::invalid(&path.child("nominalConcurrencyShares"), shares, NOT_NEGATIVE))
}

fn validate_lendable(percent: Option<i32>, path: &FieldPath) -> Option<FieldError> {
    let percent = percent.filter(|percent| !(0..=100).contains(percent))?;
    let detail = "must be between 0 and 100, inclusive";
    Some(FieldError::invalid(&path.child("lendablePercent"), percent, detail))
}

/// Upstream `ValidateLimitedPriorityLevelConfiguration`.
fn validate_limited(
    limited: &LimitedPriorityLevelConfiguration,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(validate_shares(limited.nominal_concurrency_shares, path));
    let response = limited.limit_response.clone().unwrap_or_default();
    errors.extend(validate_response(&response, &path.child("limitResponse")));
    errors.extend(validate_lendable(limited.lendable_percent, path));
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let path = path.child("borrowingLimitPercent");
        let detail = format!("if specified, {NOT_NEGATIVE}");
        errors.push(FieldError::invalid(&path, percent, detail));
    }
    errors
}

/// Upstream `ValidateLimitResponse`, words included.
fn validate_response(response: &LimitResponse, path: &FieldPath) -> Vec<FieldError> {
    let queuing_path = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", None) => Vec::new(),
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            vec![FieldError::forbidden(&queuing_path, detail)]
        }
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            vec![FieldError::required(&queuing_path, detail)]
        }
        ("Queue", Some(queuing)) => validate_queuing(queuing, &queuing_path),
        (other, _) => {
            let kinds = &["Queue", "Reject"];
            vec![FieldError::not_supported(&path.child("type"), other, kinds)]
        }
    }
}

/// Upstream `ValidatePriorityLevelQueuingConfiguration`.
fn validate_queuing(queuing: &QueuingConfiguration, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut refuse = |field: &str, value: i32, detail: String| {
        errors.push(FieldError::invalid(&path.child(field), value, detail));
    };
    let positive = || "must be positive".to_owned();
    let length = queuing.queue_length_limit.unwrap_or_default();
    if length <= 0 {
        refuse("queueLengthLimit", length, positive());
    }
    let queues = queuing.queues.unwrap_or_default();
    if queues <= 0 {
        refuse("queues", queues, positive());
    } else if queues > QUEUES_MAX {
        refuse("queues", queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    let hand = queuing.hand_size.unwrap_or_default();
    if hand <= 0 {
        refuse("handSize", hand, positive());
    } else if hand > queues {
        refuse("handSize", hand, format!("should not be greater than queues ({queues})"));
    } else if bits_needed(queues, hand) > f64::from(HASH_BITS) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater \
             than {HASH_BITS}"
        );
        refuse("handSize", hand, detail);
    }
    errors
}

/// How many bits of a hash it takes to deal a hand of as many queues (upstream
/// `RequiredEntropyBits`, apiserver pkg/util/shufflesharding).
fn bits_needed(queues: i32, hand: i32) -> f64 {
    (f64::from(queues).log2() * f64::from(hand)).ceil()
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update};
    use serde_json::{Value, json};

    fn level(name: &str, spec: Value) -> Case {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        Case::of("prioritylevelconfigurations", object)
    }

    fn limited(limited: Value) -> Case {
        level("x", json!({"type": "Limited", "limited": limited}))
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let case = limited(json!({"limitResponse": {"type": "Queue", "queuing": {"queues": 0}}}));
        check(&case, &[]);
        assert_eq!(
            case.created().to_value()["spec"]["limited"],
            json!({"nominalConcurrencyShares": 30, "lendablePercent": 0, "limitResponse": {
                "type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50},
            }})
        );
    }

    #[test]
    fn a_level_is_limited_or_exempt() {
        check(
            &level(
                "x",
                json!({"type": "Exempt", "exempt": {"lendablePercent": 101,
                "nominalConcurrencyShares": -1}, "limited": {"limitResponse": {"type": "Reject"}}}),
            ),
            &[
                "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
                "spec.limited: Forbidden: must be nil if the type is not Limited",
                "spec.exempt.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
                "spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ],
        );
        check(
            &level("x", json!({"type": "Limited", "exempt": {}})),
            &[
                "spec.exempt: Forbidden: must be nil if the type is Limited",
                "spec.limited: Required value: must not be empty when type is Limited",
            ],
        );
        check(
            &level("x", json!({"type": "Free"})),
            &["spec.type: Unsupported value: \"Free\": supported values: \"Exempt\", \"Limited\""],
        );
        let annotation = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
        let case = limited(json!({"limitResponse": {"type": "Reject"}}));
        check(
            &case.with(json!({"metadata": {"annotations": {annotation: ""}}})),
            &["metadata.annotations: Forbidden: annotation 'flowcontrol.k8s.io/v1beta3-preserve"],
        );
    }

    #[test]
    fn what_must_be_may_not_be_otherwise() {
        let exempt = |exempt: Value| level("exempt", json!({"type": "Exempt", "exempt": exempt}));
        check(&exempt(json!({"lendablePercent": 50})), &[]);
        check(&exempt(json!(null)), &[]);
        let limit = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}});
        check(
            &level("catch-all", limit.clone()),
            &["spec: Invalid value: {\"limited\":{\"lendablePercent\":0,"],
        );
        check(
            &level("exempt", limit),
            &[
                "spec.type: Invalid value: \"Limited\": must be 'Exempt' if and only if",
                "spec: Invalid value: {\"limited\":{\"lendablePercent\":0,",
            ],
        );
    }

    #[test]
    fn limits_are_numbers_that_make_sense() {
        check(
            &limited(json!({"nominalConcurrencyShares": -1, "lendablePercent": -1,
                "borrowingLimitPercent": -1, "limitResponse": {"type": "Wait"}})),
            &[
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
                "spec.limited.limitResponse.type: Unsupported value: \"Wait\": supported values: \"Queue\", \"Reject\"",
                "spec.limited.lendablePercent: Invalid value: -1: must be between 0 and 100, inclusive",
                "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
            ],
        );
        let at = "spec.limited.limitResponse.queuing";
        let queuing = |kind: &str, queuing: Value| {
            limited(json!({"limitResponse": {"type": kind, "queuing": queuing}}))
        };
        check(
            &queuing("Queue", json!(null)),
            &[&format!("{at}: Required value: must not be empty if limited.limitResponse.type is")],
        );
        check(
            &queuing("Reject", json!({})),
            &[&format!(
                "{at}: Forbidden: must be nil if limited.limitResponse.type is not Limited"
            )],
        );
        check(
            &queuing("Queue", json!({"queues": -1, "handSize": -1, "queueLengthLimit": -1})),
            &[
                &format!("{at}.queueLengthLimit: Invalid value: -1: must be positive"),
                &format!("{at}.queues: Invalid value: -1: must be positive"),
                &format!("{at}.handSize: Invalid value: -1: must be positive"),
            ],
        );
        for (queues, hand, expected) in [
            (64, 10, None),
            (1_024, 6, None),
            (
                64,
                11,
                Some(
                    "handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60",
                ),
            ),
            (8, 9, Some("handSize: Invalid value: 9: should not be greater than queues (8)")),
            (
                10_000_001,
                1,
                Some("queues: Invalid value: 10000001: must not be greater than 10000000"),
            ),
        ] {
            let expected: Vec<_> = expected.iter().map(|it| format!("{at}.{it}")).collect();
            let expected: Vec<_> = expected.iter().map(String::as_str).collect();
            check(&queuing("Queue", json!({"queues": queues, "handSize": hand})), &expected);
        }
    }

    #[test]
    fn conditions_have_types() {
        let old = limited(json!({"limitResponse": {"type": "Reject"}}));
        let new = old.with(json!({"status": {"conditions": [{}]}}));
        check_status_update(&old, &new, &["status.conditions[0].type: Required value"]);
    }
}
