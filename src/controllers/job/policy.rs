//! What users say about failed pods and about success: the rules of a Job's policies.
//!
//! Follows upstream `matchPodFailurePolicy` and `matchSuccessPolicy` (pkg/controller/job, v1.35).

use super::indexes::Indexes;
use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// What a failed pod means for its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FailureAction {
    /// It counts towards the limit, as it does where no rule matches.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed, however many failures it had left.
    FailIndex,
    /// The Job has failed, with this message.
    FailJob { message: String },
}

impl FailureAction {
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignore
    }
}

/// The first rule that matches decides.
pub(super) fn failure_action(policy: Option<&PodFailurePolicy>, pod: &Pod) -> FailureAction {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let mut decisions =
        rules.iter().enumerate().filter_map(|(number, rule)| apply(rule, number, pod));
    decisions.next().unwrap_or(FailureAction::Count)
}

fn apply(rule: &PodFailurePolicyRule, number: usize, pod: &Pod) -> Option<FailureAction> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let action = &rule.action;
    let matched = if let Some(wanted) = &rule.on_exit_codes {
        let (container, code) = exit_that_matches(wanted, pod)?;
        format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code} \
             matching {action} rule at index {number}"
        )
    } else {
        let condition = condition_that_matches(rule, pod)?;
        format!(
            "Pod {namespace}/{name} has condition {condition} matching {action} rule at index {number}"
        )
    };
    match action.as_str() {
        "Ignore" => Some(FailureAction::Ignore),
        "FailIndex" => Some(FailureAction::FailIndex),
        "Count" => Some(FailureAction::Count),
        "FailJob" => Some(FailureAction::FailJob { message: matched }),
        // Of a newer version: the rules after it still hold.
        _ => None,
    }
}

/// The first container that has ended with a code other than zero that the rule means. Containers
/// come before init containers.
fn exit_that_matches<'a>(
    wanted: &PodFailurePolicyOnExitCodesRequirement,
    pod: &'a Pod,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let all = containers.chain(status.init_container_statuses.iter().flatten());
    let mut matching = all.filter_map(|container| {
        let code = exit_code(container).filter(|code| *code != 0)?;
        let is_named =
            wanted.container_name.as_ref().is_none_or(|wanted| *wanted == container.name);
        let is_wanted = match wanted.operator.as_str() {
            "In" => wanted.values.contains(&code),
            "NotIn" => !wanted.values.contains(&code),
            _ => false,
        };
        (is_named && is_wanted).then_some((container.name.as_str(), code))
    });
    matching.next()
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn condition_that_matches<'a>(rule: &PodFailurePolicyRule, pod: &'a Pod) -> Option<&'a str> {
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let matching = conditions.find(|condition| {
        patterns.iter().any(|pattern| {
            let status = pattern.status.as_deref().unwrap_or("True");
            pattern.type_ == condition.type_ && status == condition.status
        })
    });
    matching.map(|condition| condition.type_.as_str())
}

/// The message where the indexes that have succeeded are enough.
pub(super) fn success_message(
    policy: Option<&SuccessPolicy>,
    succeeded: &Indexes,
    completions: i32,
) -> Option<String> {
    let rules = policy.filter(|_| !succeeded.is_empty())?.rules.iter();
    let mut met = rules.enumerate().filter(|(_, rule)| {
        let count = rule.succeeded_count.map(|count| usize::try_from(count).unwrap_or_default());
        match &rule.succeeded_indexes {
            None => count.is_some_and(|count| succeeded.len() >= count),
            Some(text) => {
                let required = Indexes::parse(text, completions);
                let common = required.count_common(succeeded);
                !required.is_empty()
                    && (common == required.len() || count.is_some_and(|count| common >= count))
            }
        }
    });
    met.next().map(|(number, _)| format!("Matched rules at index {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(rules: &Value, status: &Value, expected: &FailureAction) {
        let policy = serde_json::from_value(json!({"rules": rules})).unwrap();
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "status": status});
        let pod = serde_json::from_value(pod).unwrap();
        assert_eq!(failure_action(Some(&policy), &pod), *expected, "{status}");
    }

    fn exited(container: &str, code: i32) -> Value {
        json!({"name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}})
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = json!([
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes":
                {"containerName": "main", "operator": "In", "values": [42, 43]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
            {"action": "Count", "onPodConditions": [{"type": "ConfigIssue", "status": "False"}]},
        ]);
        let target = json!({"type": "DisruptionTarget", "status": "True"});
        check(&rules, &json!({"conditions": [target.clone()]}), &FailureAction::Ignore);
        check(
            &rules,
            &json!({"conditions": [target], "containerStatuses": [exited("main", 42)]}),
            &FailureAction::Ignore,
        );
        let message =
            "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        check(
            &rules,
            &json!({"containerStatuses": [exited("side", 1), exited("main", 42)]}),
            &FailureAction::FailJob { message: message.to_owned() },
        );
        check(
            &rules,
            &json!({"initContainerStatuses": [exited("init", 3)]}),
            &FailureAction::FailIndex,
        );
        for code in [0, 1, 2] {
            let ended = json!({"containerStatuses": [exited("side", code)]});
            check(&rules, &ended, &FailureAction::Count);
        }
        check(&json!([]), &json!({}), &FailureAction::Count);
        let fails = json!([{"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]}]);
        let message = "Pod n/p has condition ConfigIssue matching FailJob rule at index 0";
        check(
            &fails,
            &json!({"conditions": [{"type": "ConfigIssue", "status": "True"}]}),
            &FailureAction::FailJob { message: message.to_owned() },
        );
        check(
            &fails,
            &json!({"conditions": [{"type": "ConfigIssue", "status": "False"}]}),
            &FailureAction::Count,
        );
    }

    #[test]
    fn success_is_what_the_rules_say() {
        let met = |rules: Value, succeeded: &str| {
            let policy = serde_json::from_value(json!({"rules": rules})).unwrap();
            success_message(Some(&policy), &Indexes::parse(succeeded, 10), 10)
        };
        let first = Some("Matched rules at index 0".to_owned());
        assert_eq!(met(json!([{"succeededCount": 2}]), "4"), None);
        assert_eq!(met(json!([{"succeededCount": 2}]), "4,6"), first);
        assert_eq!(met(json!([{"succeededIndexes": "0,2-3"}]), "0-2"), None);
        assert_eq!(met(json!([{"succeededIndexes": "0,2-3"}]), "0-5"), first);
        let some = json!([{"succeededIndexes": "0,2-3", "succeededCount": 2}]);
        assert_eq!(met(some.clone(), "2,9"), None);
        assert_eq!(met(some, "2,3"), first);
        let second = json!([{"succeededIndexes": "9"}, {"succeededCount": 1}]);
        assert_eq!(met(second, "2"), Some("Matched rules at index 1".to_owned()));
        assert_eq!(met(json!([{"succeededIndexes": "x"}]), "2"), None);
        assert_eq!(met(json!([{"succeededCount": 0}]), ""), None);
    }
}
