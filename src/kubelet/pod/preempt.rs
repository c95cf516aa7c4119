//! Who has to go so that a critical pod fits: upstream `getPodsToPreempt` (pkg/kubelet/preemption/
//! preemption.go, v1.35). Pure.
//!
//! As few pods as possible, those of the lowest class first, and of equals the smaller.

use super::fit::{Occupant, Shortage};
use crate::api::pod::QosClass;

/// The reason and the words of pods that have to go for a critical one, and those of their condition.
pub const PREEMPTING: &str = "Preempting";
pub const PREEMPTED_MESSAGE: &str = "Preempted in order to admit critical pod";
pub const PREEMPTED_CONDITION: &str = "Pod was preempted by Kubelet to accommodate a critical pod.";

/// How much of a resource is missing.
#[derive(Clone, Debug)]
struct Requirement {
    resource: String,
    amount: i64,
}

/// The uids of those that have to go.
///
/// # Errors
/// In upstream's words, where not even all that may go would be enough.
pub(super) fn victims(
    pod: &Occupant,
    others: &[Occupant],
    shortages: &[&Shortage],
) -> Result<Vec<String>, String> {
    let missing: Vec<_> = shortages
        .iter()
        .map(|short| Requirement { resource: short.resource.clone(), amount: short.missing() })
        .collect();
    let of_class = |class| -> Vec<&Occupant> {
        others.iter().filter(|other| other.class == class && may_go(pod, other)).collect()
    };
    let (best_effort, burstable) = (of_class(QosClass::BestEffort), of_class(QosClass::Burstable));
    let guaranteed = of_class(QosClass::Guaranteed);
    let with = |some: &[&Occupant], more: &[&Occupant]| without(&missing, &[some, more].concat());
    let left = without(&with(&best_effort, &burstable), &guaranteed);
    if !left.is_empty() {
        return Err(not_enough(&left));
    }
    // What each class has to give is what the others cannot.
    let guaranteed = nearest(guaranteed, with(&best_effort, &burstable))?;
    let burstable = nearest(burstable, with(&best_effort, &guaranteed))?;
    let best_effort = nearest(best_effort, with(&burstable, &guaranteed))?;
    let all = best_effort.into_iter().chain(burstable).chain(guaranteed);
    Ok(all.map(|victim| victim.uid.clone()).collect())
}

/// Upstream `Preemptable` (pkg/kubelet/types/pod_update.go).
fn may_go(pod: &Occupant, other: &Occupant) -> bool {
    (pod.is_critical && !other.is_critical)
        || pod.priority.zip(other.priority).is_some_and(|(own, other)| own > other)
}

fn without(missing: &[Requirement], going: &[&Occupant]) -> Vec<Requirement> {
    let left = missing.iter().map(|requirement| {
        let freed = going.iter().map(|pod| pod.request(&requirement.resource));
        let freed = freed.fold(0, i64::saturating_add);
        let amount = requirement.amount.saturating_sub(freed);
        Requirement { amount, ..requirement.clone() }
    });
    left.filter(|requirement| requirement.amount > 0).collect()
}

/// One pod after another, each the one that leaves the least to be wanted.
fn nearest(pods: Vec<&Occupant>, missing: Vec<Requirement>) -> Result<Vec<&Occupant>, String> {
    let (mut pods, mut missing, mut going) = (pods, missing, Vec::new());
    while !missing.is_empty() {
        let better = |left: &usize, right: &usize| {
            let (left, right) = (pods[*left], pods[*right]);
            let by_distance = distance(left, &missing).total_cmp(&distance(right, &missing));
            by_distance.then_with(|| size(left).cmp(&size(right)))
        };
        let Some(best) = (0..pods.len()).min_by(better) else {
            return Err(not_enough(&missing));
        };
        let victim = pods.swap_remove(best);
        missing = without(&missing, &[victim]);
        going.push(victim);
    }
    Ok(going)
}

/// How much of what is missing would still be, with each resource of the same weight.
#[expect(clippy::cast_precision_loss, reason = "only compared, and upstream does it so")]
fn distance(pod: &Occupant, missing: &[Requirement]) -> f64 {
    let parts = missing.iter().map(|requirement| {
        let left = requirement.amount.saturating_sub(pod.request(&requirement.resource)).max(0);
        (left as f64 / requirement.amount as f64).powi(2)
    });
    parts.sum()
}

fn size(pod: &Occupant) -> (i64, i64) {
    (pod.request("memory"), pod.request("cpu"))
}

fn not_enough(missing: &[Requirement]) -> String {
    let each = missing.iter().map(|it| format!("(res: {}, q: {}), ", it.resource, it.amount));
    let each: String = each.collect();
    format!("no set of running pods found to reclaim resources: [{each}]")
}

#[cfg(test)]
mod tests {
    use super::super::fit::tests::{node, pod};
    use super::super::fit::{Misfit, misfits};
    use super::*;
    use serde_json::{Value, json};

    /// `name:class:cpu`, where the class is `b`, `u` or `g`, or `c` for one that is critical.
    fn occupant(text: &str) -> Occupant {
        let words: Vec<_> = text.split(':').collect();
        let cpu = words[2];
        let (requests, limits) = match words[1] {
            "b" => (json!({}), Value::Null),
            "g" => (json!({ "cpu": cpu, "memory": "1Mi" }), json!({ "cpu": cpu, "memory": "1Mi" })),
            _ => (json!({ "cpu": cpu }), Value::Null),
        };
        let mut pod = pod(words[0], requests, json!({}));
        let spec = pod.spec.as_mut().unwrap();
        if words[1] == "c" {
            spec.priority = Some(i32::MAX);
        }
        if let Some(resources) = &mut spec.containers[0].resources {
            resources.limits = serde_json::from_value(limits).unwrap();
        }
        Occupant::of(&pod)
    }

    #[track_caller]
    fn check(wanted: &str, others: &str, expected: Result<&str, &str>) {
        let mut critical = pod("new", json!({ "cpu": wanted }), json!({}));
        critical.spec.as_mut().unwrap().priority = Some(i32::MAX);
        let mut node = node();
        node.spec = None;
        let room = node.status.as_mut().unwrap().allocatable.as_mut().unwrap();
        room.get_mut("pods").unwrap().0 = "10".to_owned();
        let others: Vec<_> = others.split_whitespace().map(occupant).collect();
        let misfits = misfits(&critical, &node, &others);
        let shortages: Vec<_> = misfits
            .iter()
            .filter_map(|it| match it {
                Misfit::Short(short) => Some(short),
                Misfit::Other { .. } => None,
            })
            .collect();
        let found = victims(&Occupant::of(&critical), &others, &shortages);
        let found = found.map(|uids| uids.join(" "));
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn a_critical_pod_takes_the_place_of_few_and_small_ones() {
        // The node has two processors.
        check("1", "a:u:1", Ok(""));
        check("1", "a:u:1 b:u:500m", Ok("b"));
        check("2", "a:u:500m b:u:1500m", Ok("b a"));
        check("1", "a:u:600m b:g:600m c:b:0 d:u:800m", Ok("d a"));
        check("2", "a:u:600m b:g:600m d:u:800m", Ok("d a b"));
        let nobody = "no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]";
        check("1", "a:c:2", Err(nobody));
        check("1", "a:c:1 b:c:1 c:b:0", Err(nobody));
    }
}
