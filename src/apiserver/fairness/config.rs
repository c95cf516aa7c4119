//! FlowSchemas and PriorityLevelConfigurations as what the server goes by. Pure.
//!
//! Follows upstream `lockAndDigestConfigObjects` (apiserver pkg/util/flowcontrol/apf_controller.go,
//! v1.35): a schema whose level is not there counts for nothing, what is wrong in itself does not
//! exist, and the mandatory ones are imagined where they are missing.

use super::classify::{Digest, Distinguisher, Schema};
use super::queues::Shape;
use super::seats::LevelPlan;
use super::shares::Shares;
use crate::registry::kinds::{Required, WellKnown, well_known};
use crate::stdx::json;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

const EXEMPT: &str = "exempt";
/// What has no flow schema of its own goes here.
const CATCH_ALL: &str = "catch-all";
const SCHEMAS: &str = "flowschemas";

/// By name.
pub(super) type Schemas = BTreeMap<String, FlowSchema>;
/// By name.
pub(super) type Levels = BTreeMap<String, PriorityLevelConfiguration>;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// In the order in which they are tried.
    pub(super) schemas: Vec<Schema>,
    pub(super) levels: Vec<LevelPlan>,
}

impl Config {
    /// What these objects say.
    pub(super) fn of(schemas: &Schemas, levels: &Levels) -> Self {
        let mut plans: Vec<_> =
            levels.iter().filter_map(|(name, level)| plan(name, level)).collect();
        let mut known: Vec<_> = schemas.iter().filter_map(|(name, of)| schema(name, of)).collect();
        known.retain(|schema| plans.iter().any(|level| level.name == schema.level));
        for it in well_known().into_iter().filter(|it| it.required == Required::Mandatory) {
            if it.plural == SCHEMAS {
                if known.iter().all(|schema| &*schema.name != it.name) {
                    known.extend(schema(it.name, &object(&it)));
                }
            } else if plans.iter().all(|level| &*level.name != it.name) {
                plans.extend(plan(it.name, &object(&it)));
            }
        }
        known.sort_by(Schema::compare);
        Self { schemas: known, levels: plans }
    }

    /// The schema that a request belongs to. There is one for each that anybody makes: where it has
    /// not even a group, it is the last.
    pub(super) fn classify(&self, digest: &Digest<'_>) -> &Schema {
        let found = self.schemas.iter().find(|schema| schema.matches(digest));
        let catch_all = || self.schemas.iter().find(|schema| &*schema.name == CATCH_ALL);
        found.or_else(catch_all).expect("a configuration has what is mandatory")
    }

    /// What every cluster has, before it is known what this one has.
    pub(super) fn well_known() -> Self {
        let (schemas, levels): (Vec<_>, Vec<_>) =
            well_known().into_iter().partition(|it| it.plural == SCHEMAS);
        let schemas = schemas.iter().map(|it| (it.name.to_owned(), object(it)));
        let levels = levels.iter().map(|it| (it.name.to_owned(), object(it)));
        Self::of(&schemas.collect(), &levels.collect())
    }
}

fn object<T: DeserializeOwned>(it: &WellKnown) -> T {
    json::from_value(&it.object).expect("the objects that every cluster has are valid")
}

fn schema(name: &str, object: &FlowSchema) -> Option<Schema> {
    let spec = object.spec.as_ref()?;
    let method = spec.distinguisher_method.as_ref().map(|method| method.type_.as_str());
    Some(Schema {
        name: name.into(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        level: Arc::from(spec.priority_level_configuration.name.as_str()),
        precedence: spec.matching_precedence.unwrap_or_default(),
        distinguisher: match method {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        },
        rules: spec.rules.clone().unwrap_or_default(),
    })
}

/// Upstream `queueSetCompleterForPL`: the name and the type have to go together.
fn plan(name: &str, object: &PriorityLevelConfiguration) -> Option<LevelPlan> {
    let spec = object.spec.as_ref()?;
    let is_exempt = spec.type_ == "Exempt";
    if is_exempt != (name == EXEMPT) || is_exempt == spec.limited.is_some() {
        return None;
    }
    let (shares, shape) = if is_exempt { (exempt(spec), Shape::NONE) } else { limited(spec)? };
    let uid = object.metadata.uid.clone().unwrap_or_default();
    Some(LevelPlan { name: name.into(), uid, shares, is_exempt, shape })
}

fn exempt(spec: &PriorityLevelConfigurationSpec) -> Shares {
    let spec = spec.exempt.as_ref();
    Shares {
        nominal: amount(spec.and_then(|spec| spec.nominal_concurrency_shares)),
        lendable_percent: amount(spec.and_then(|spec| spec.lendable_percent)),
        borrowing_percent: None,
    }
}

fn limited(spec: &PriorityLevelConfigurationSpec) -> Option<(Shares, Shape)> {
    let spec = spec.limited.as_ref()?;
    let shares = Shares {
        nominal: amount(spec.nominal_concurrency_shares),
        lendable_percent: amount(spec.lendable_percent),
        borrowing_percent: spec.borrowing_limit_percent.map(|percent| amount(Some(percent))),
    };
    let response = spec.limit_response.as_ref();
    let shape = match response.map(|response| (response.type_.as_str(), &response.queuing)) {
        Some(("Queue", Some(queuing))) => {
            let [queues, hand, length] =
                [queuing.queues, queuing.hand_size, queuing.queue_length_limit]
                    .map(|number| usize::try_from(number.unwrap_or_default()).unwrap_or_default());
            Shape::new(queues, hand, length)
        }
        _ => Shape::NONE,
    };
    Some((shares, shape))
}

fn amount<T>(number: Option<T>) -> u64
where
    u64: TryFrom<T>,
{
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(config: &Config) -> (Vec<&str>, Vec<&str>) {
        (
            config.schemas.iter().map(|schema| &*schema.name).collect(),
            config.levels.iter().map(|level| &*level.name).collect(),
        )
    }

    #[test]
    fn what_is_mandatory_is_always_there() {
        let config = Config::of(&Schemas::new(), &Levels::new());
        assert_eq!(names(&config), (vec![EXEMPT, CATCH_ALL], vec![EXEMPT, CATCH_ALL]));
        let config = Config::well_known();
        assert_eq!((config.schemas.len(), config.levels.len()), (11, 8));
    }

    #[test]
    fn schemas_come_in_their_order_and_lead_somewhere() {
        let schema = |level: &str, precedence: i32| -> FlowSchema {
            serde_json::from_value(json!({"metadata": {}, "spec": {
                "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
            }}))
            .unwrap()
        };
        let level = |kind: &str| -> PriorityLevelConfiguration {
            let spec = match kind {
                "Exempt" => json!({"type": kind, "exempt": {}}),
                _ => json!({"type": kind, "limited": {"nominalConcurrencyShares": 3}}),
            };
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let schemas =
            [("b", "a", 7), ("a", "a", 7), ("c", "a", 2), ("d", "none", 1), ("e", "x", 1)];
        let schemas =
            schemas.map(|(name, of, precedence)| (name.to_owned(), schema(of, precedence)));
        let levels = [("a".to_owned(), level("Limited")), ("x".to_owned(), level("Exempt"))];
        let config = Config::of(&schemas.into(), &levels.into());
        assert_eq!(
            names(&config),
            (vec![EXEMPT, "c", "a", "b", CATCH_ALL], vec!["a", EXEMPT, CATCH_ALL])
        );
    }
}
