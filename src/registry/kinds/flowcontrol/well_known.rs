//! The flow schemas and priority levels that every cluster has.
//!
//! The facts are those of upstream `bootstrap` (apiserver pkg/apis/flowcontrol/bootstrap, v1.35):
//! names, shares, queues and who is meant. Objects are made of them by [`well_known`], priority
//! levels before the schemas that lead to them.

use serde_json::{Value, json};

/// Says whether the server keeps an object of these kinds as it is here.
const ANNOTATION: &str = "apf.kubernetes.io/autoupdate-spec";

const ALL: &str = "*";
const EVERYBODY: &[Who] =
    &[Who::Group("system:unauthenticated"), Who::Group("system:authenticated")];

/// How much the server insists on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// It has to be, and be so.
    Mandatory,
    /// It is made, and kept so until somebody asks by its annotation for it to be left alone.
    Suggested,
}

/// An object that every cluster has.
#[derive(Clone, Debug)]
pub struct WellKnown {
    pub plural: &'static str,
    pub name: &'static str,
    pub required: Required,
    pub object: Value,
}

/// Requests of a level that all come at once.
#[derive(Clone, Copy, Debug)]
struct Queues {
    queues: i32,
    hand: i32,
}

/// A priority level that is limited, and how.
#[derive(Clone, Copy, Debug)]
struct Level {
    name: &'static str,
    shares: i32,
    lendable_percent: i32,
    /// Where there are none, what is too much is refused.
    queues: Option<Queues>,
}

const LENGTH_OF_QUEUES: i32 = 50;
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

const LEVELS: &[Level] = &[
    Level { name: CATCH_ALL, shares: 5, lendable_percent: 0, queues: None },
    level("system", 30, 33, Queues { queues: 64, hand: 6 }),
    level("node-high", 40, 25, Queues { queues: 64, hand: 6 }),
    level("leader-election", 10, 0, Queues { queues: 16, hand: 4 }),
    level("workload-high", 40, 50, Queues { queues: 128, hand: 6 }),
    level("workload-low", 100, 90, Queues { queues: 128, hand: 6 }),
    level("global-default", 20, 50, Queues { queues: 128, hand: 6 }),
];

const fn level(name: &'static str, shares: i32, lendable_percent: i32, queues: Queues) -> Level {
    Level { name, shares, lendable_percent, queues: Some(queues) }
}

/// Whose requests are meant.
#[derive(Clone, Copy, Debug)]
enum Who {
    Group(&'static str),
    User(&'static str),
    /// The accounts of `kube-system`.
    SystemAccounts,
}

/// Which requests are meant.
#[derive(Clone, Copy, Debug)]
enum What {
    Everything,
    /// Reading these paths.
    Paths(&'static [&'static str]),
    /// Verbs, group, resources, whether they are outside of namespaces.
    Resources(&'static [(&'static [&'static str], &'static str, &'static [&'static str], bool)]),
}

/// A flow schema.
#[derive(Clone, Copy, Debug)]
struct Schema {
    name: &'static str,
    level: &'static str,
    precedence: i32,
    /// What tells one flow from another: `ByUser`, `ByNamespace`, or nothing.
    flows: &'static str,
    who: &'static [Who],
    what: What,
}

const MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const NODES: &[Who] = &[Who::Group("system:nodes")];
const BY_USER: &str = "ByUser";
const BY_NAMESPACE: &str = "ByNamespace";

const SCHEMAS: &[Schema] = &[
    Schema {
        name: EXEMPT,
        level: EXEMPT,
        precedence: 1,
        flows: "",
        who: &[Who::Group("system:masters")],
        what: What::Everything,
    },
    Schema {
        name: "probes",
        level: EXEMPT,
        precedence: 2,
        flows: "",
        who: EVERYBODY,
        what: What::Paths(&["/healthz", "/readyz", "/livez"]),
    },
    Schema {
        name: "system-leader-election",
        level: "leader-election",
        precedence: 100,
        flows: BY_USER,
        who: &[Who::User(MANAGER), Who::User(SCHEDULER), Who::SystemAccounts],
        what: What::Resources(&[(
            &["get", "create", "update"],
            "coordination.k8s.io",
            &["leases"],
            false,
        )]),
    },
    Schema {
        name: "system-node-high",
        level: "node-high",
        precedence: 400,
        flows: BY_USER,
        who: NODES,
        what: What::Resources(&[
            (&[ALL], "", &["nodes", "nodes/status"], true),
            (&[ALL], "coordination.k8s.io", &["leases"], false),
        ]),
    },
    everything("system-nodes", "system", 500, (BY_USER, NODES)),
    everything(
        "kube-controller-manager",
        "workload-high",
        800,
        (BY_NAMESPACE, &[Who::User(MANAGER)]),
    ),
    everything("kube-scheduler", "workload-high", 800, (BY_NAMESPACE, &[Who::User(SCHEDULER)])),
    everything(
        "kube-system-service-accounts",
        "workload-high",
        900,
        (BY_NAMESPACE, &[Who::SystemAccounts]),
    ),
    everything(
        "service-accounts",
        "workload-low",
        9_000,
        (BY_USER, &[Who::Group("system:serviceaccounts")]),
    ),
    everything("global-default", "global-default", 9_900, (BY_USER, EVERYBODY)),
    everything(CATCH_ALL, CATCH_ALL, 10_000, (BY_USER, EVERYBODY)),
];

const fn everything(
    name: &'static str,
    level: &'static str,
    precedence: i32,
    (flows, who): (&'static str, &'static [Who]),
) -> Schema {
    Schema { name, level, precedence, flows, who, what: What::Everything }
}

/// Everything that a cluster has of these kinds, in the order in which it is made.
#[must_use]
pub fn well_known() -> Vec<WellKnown> {
    let exempt = json!({"type": "Exempt", "exempt": {
        "nominalConcurrencyShares": 0, "lendablePercent": 0,
    }});
    let levels = LEVELS.iter().map(|level| (level.name, level_spec(level)));
    let levels = std::iter::once((EXEMPT, exempt)).chain(levels);
    let levels = levels.map(|(name, spec)| made("prioritylevelconfigurations", name, &spec));
    let schemas = SCHEMAS.iter();
    let schemas = schemas.map(|schema| made("flowschemas", schema.name, &schema_spec(schema)));
    levels.chain(schemas).collect()
}

/// The specification that the object of this name has to have, where there is one.
pub(super) fn mandatory_spec(plural: &str, name: &str) -> Option<Value> {
    // Most names are none of these: nothing is made for them.
    if ![EXEMPT, CATCH_ALL].contains(&name) {
        return None;
    }
    let mut known = well_known().into_iter();
    let found = known.find(|known| known.plural == plural && known.name == name)?;
    Some(found.object["spec"].clone())
}

fn made(plural: &'static str, name: &'static str, spec: &Value) -> WellKnown {
    let required = match name {
        EXEMPT | CATCH_ALL => Required::Mandatory,
        _ => Required::Suggested,
    };
    let object = json!({
        "metadata": {"name": name, "annotations": {ANNOTATION: "true"}}, "spec": spec,
    });
    WellKnown { plural, name, required, object }
}

fn level_spec(level: &Level) -> Value {
    let response = match level.queues {
        None => json!({"type": "Reject"}),
        Some(Queues { queues, hand }) => json!({"type": "Queue", "queuing": {
            "queues": queues, "handSize": hand, "queueLengthLimit": LENGTH_OF_QUEUES,
        }}),
    };
    json!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": level.shares, "lendablePercent": level.lendable_percent,
        "limitResponse": response,
    }})
}

fn schema_spec(schema: &Schema) -> Value {
    let who: Vec<_> = schema.who.iter().map(subject).collect();
    let mut rule = json!({"subjects": who});
    match schema.what {
        What::Everything => {
            rule["resourceRules"] = json!([resource_rule(&[ALL], ALL, &[ALL], true)]);
            rule["nonResourceRules"] = json!([{"verbs": [ALL], "nonResourceURLs": [ALL]}]);
        }
        What::Paths(paths) => {
            rule["nonResourceRules"] = json!([{"verbs": ["get"], "nonResourceURLs": paths}]);
        }
        What::Resources(rules) => {
            let rules = rules.iter();
            let rules = rules.map(|(verbs, group, resources, is_outside)| {
                resource_rule(verbs, group, resources, *is_outside)
            });
            rule["resourceRules"] = rules.collect();
        }
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": schema.level},
        "matchingPrecedence": schema.precedence, "rules": [rule],
    });
    if !schema.flows.is_empty() {
        spec["distinguisherMethod"] = json!({"type": schema.flows});
    }
    spec
}

fn subject(who: &Who) -> Value {
    match who {
        Who::Group(name) => json!({"kind": "Group", "group": {"name": name}}),
        Who::User(name) => json!({"kind": "User", "user": {"name": name}}),
        Who::SystemAccounts => json!({"kind": "ServiceAccount", "serviceAccount": {
            "namespace": "kube-system", "name": ALL,
        }}),
    }
}

fn resource_rule(verbs: &[&str], group: &str, resources: &[&str], is_outside: bool) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": [ALL],
    });
    if is_outside {
        rule["clusterScope"] = json!(true);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::{Case, check};

    #[test]
    fn what_every_cluster_has_is_valid_and_settled() {
        let known = well_known();
        assert_eq!(known.len(), 8 + 11);
        for WellKnown { plural, name, object, .. } in known {
            let case = Case::of(plural, object.clone());
            check(&case, &[]);
            let created = case.created().to_value();
            assert_eq!(created["spec"], object["spec"], "{name}: nothing is filled in");
        }
    }

    #[test]
    fn schemas_lead_to_levels_that_are_there() {
        let known = well_known();
        let is_level = |level: &Value| {
            known.iter().any(|it| it.plural == "prioritylevelconfigurations" && *level == it.name)
        };
        for schema in known.iter().filter(|it| it.plural == "flowschemas") {
            let level = &schema.object["spec"]["priorityLevelConfiguration"]["name"];
            assert!(is_level(level), "{}", schema.name);
        }
        let mandatory = known.iter().filter(|it| it.required == Required::Mandatory);
        assert_eq!(mandatory.count(), 4);
        assert!(mandatory_spec("flowschemas", "exempt").is_some());
        assert!(mandatory_spec("flowschemas", "probes").is_none());
    }
}
