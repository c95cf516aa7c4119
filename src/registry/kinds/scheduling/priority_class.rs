//! PriorityClasses: which pods matter more.
//!
//! Follows upstream `ValidatePriorityClass` (pkg/apis/scheduling/validation, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{immutable, one_of};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;
use std::borrow::Cow;

/// The highest priority that users may give out.
const USER_PRIORITY_MAX: i32 = 1_000_000_000;

const SYSTEM_PREFIX: &str = "system-";

/// The classes that every cluster has, and their values.
const SYSTEM_CLASSES: &[(&str, i32)] = &[
    ("system-node-critical", 2 * USER_PRIORITY_MAX + 1000),
    ("system-cluster-critical", 2 * USER_PRIORITY_MAX),
];

impl Resource for PriorityClass {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "priorityclass",
        short_names: &[Cow::Borrowed("pc")],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::PRIORITY_CLASS;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::integer("Value", "Priority of the pods of this class."),
        Column::boolean("Global-Default", "Whether pods without a class are of this one."),
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether pods of this class displace others."),
    ];

    fn apply_defaults(&mut self) {
        self.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
        self.global_default.take_if(|is_default| !*is_default);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = validate_value(self).into_iter().collect();
        let path = FieldPath::new("preemptionPolicy");
        match self.preemption_policy.as_deref() {
            None => {}
            Some("") => errors.push(FieldError::required(&path, "")),
            Some(policy) => {
                errors.extend(one_of(&path, policy, &["PreemptLowerPriority", "Never"]));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.value != old.value {
            let detail = "may not be changed in an update.";
            errors.push(FieldError::forbidden(&FieldPath::new("value"), detail));
        }
        let path = FieldPath::new("preemptionPolicy");
        let policy = |class: &Self| Value::from(class.preemption_policy.clone());
        errors.extend(immutable(&path, policy(self), &policy(old)));
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(&self.metadata),
            self.value.into(),
            self.global_default.unwrap_or_default().into(),
            cells::age(&self.metadata, now),
            self.preemption_policy.clone().unwrap_or_default().into(),
        ]
    }
}

fn validate_value(class: &PriorityClass) -> Option<FieldError> {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    if !name.starts_with(SYSTEM_PREFIX) {
        let detail =
            format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        let path = FieldPath::new("value");
        return (class.value > USER_PRIORITY_MAX).then(|| FieldError::forbidden(&path, detail));
    }
    let problem = match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
        None => format!("{name} is not a known system priority class"),
        Some((_, value)) if *value != class.value => {
            format!("value of {name} PriorityClass must be {value}")
        }
        Some(_) if class.global_default == Some(true) => {
            format!("globalDefault of {name} PriorityClass must be false")
        }
        Some(_) => return None,
    };
    let detail = format!(
        "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {problem}"
    );
    Some(FieldError::forbidden(&FieldPath::new("metadata").child("name"), detail))
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    fn class(name: &str, value: i64) -> Case {
        Case::of("priorityclasses", json!({"metadata": {"name": name}, "value": value}))
    }

    #[test]
    fn values() {
        check(&class("high", 1_000_000_000), &[]);
        check(&class("system-node-critical", 2_000_001_000), &[]);
        check(
            &class("high", 1_000_000_001),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        );
        check(
            &class("system-mine", 1),
            &[
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
            ],
        );
        check(
            &class("a", 1).with(json!({"preemptionPolicy": "Always"})),
            &[
                "preemptionPolicy: Unsupported value: \"Always\": supported values: \"Never\", \"PreemptLowerPriority\"",
            ],
        );
    }

    #[test]
    fn value_and_policy_stay() {
        check_update(
            &class("a", 1),
            &class("a", 2).with(json!({"preemptionPolicy": "Never"})),
            &[
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"Never\": field is immutable",
            ],
        );
    }
}
