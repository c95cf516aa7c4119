//! Who ends when, and how long it may take, when the machine goes down: upstream `migrateConfig` and
//! `groupByPriority` (pkg/kubelet/nodeshutdown/nodeshutdown_manager.go, v1.35). Pure.

use crate::api::pod::CRITICAL_PRIORITY;
use jiff::SignedDuration;
use std::time::Duration;

/// How long pods of a priority, up to the next one that is named, may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub priority: i32,
    pub grace: SignedDuration,
}

/// How long pods may take to end when the machine goes down, those that matter least first.
///
/// Without a step, they are left alone and end with the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownGrace(Vec<Step>);

impl ShutdownGrace {
    /// A time for all, the last part of which is for critical pods.
    ///
    /// # Errors
    /// Where the part is larger than the whole.
    pub fn of_all(whole: SignedDuration, critical: SignedDuration) -> Result<Self, String> {
        if critical > whole {
            return Err(format!("{critical:#} for critical pods is part of {whole:#} for all"));
        }
        if whole.is_zero() {
            return Ok(Self::default());
        }
        Self::by_priority(vec![
            Step { priority: 0, grace: whole - critical },
            Step { priority: CRITICAL_PRIORITY, grace: critical },
        ])
    }

    /// A time for each range of priorities.
    ///
    /// # Errors
    /// Where a priority is named twice.
    pub fn by_priority(mut steps: Vec<Step>) -> Result<Self, String> {
        steps.sort_by_key(|step| step.priority);
        match steps.windows(2).find(|pair| pair[0].priority == pair[1].priority) {
            Some(pair) => Err(format!("priority {} is named twice", pair[0].priority)),
            None => Ok(Self(steps)),
        }
    }

    /// Whether pods are ended at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// How long all of them may take, one range after the other.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.0.iter().map(|step| step.grace.unsigned_abs()).sum()
    }
}

/// Pods that end together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) grace: SignedDuration,
    /// Their uids.
    pub(super) pods: Vec<String>,
}

/// The pods, by uid and priority, in the order of their end. A pod below all steps is of the lowest.
pub(super) fn groups(
    grace: &ShutdownGrace,
    pods: impl IntoIterator<Item = (String, i32)>,
) -> Vec<Group> {
    let mut groups: Vec<_> =
        grace.0.iter().map(|step| Group { grace: step.grace, pods: Vec::new() }).collect();
    for (uid, priority) in pods {
        let above = grace.0.partition_point(|step| step.priority <= priority);
        if let Some(group) = groups.get_mut(above.saturating_sub(1)) {
            group.pods.push(uid);
        }
    }
    groups.retain(|group| !group.pods.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[track_caller]
    fn check(grace: Result<ShutdownGrace, String>, expected: &str) {
        let pods = [("low", -5), ("plain", 0), ("high", 1_000_000), ("critical", i32::MAX)];
        let pods = pods.map(|(uid, priority)| (uid.to_owned(), priority));
        let text = match grace {
            Ok(grace) => groups(&grace, pods)
                .iter()
                .map(|group| format!("{}:{}", group.grace.as_secs(), group.pods.join(",")))
                .collect::<Vec<_>>()
                .join(" "),
            Err(problem) => problem,
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn those_that_matter_least_end_first() {
        check(ShutdownGrace::of_all(seconds(30), seconds(10)), "20:low,plain,high 10:critical");
        check(ShutdownGrace::of_all(seconds(0), seconds(0)), "");
        check(
            ShutdownGrace::of_all(seconds(10), seconds(30)),
            "30s for critical pods is part of 10s for all",
        );
        let step = |priority, grace| Step { priority, grace: seconds(grace) };
        check(
            ShutdownGrace::by_priority(vec![step(1_000_000, 5), step(-5, 60), step(10, 7)]),
            "60:low,plain 5:high,critical",
        );
        let grace = ShutdownGrace::by_priority(vec![step(10, 7), step(-5, 60)]).unwrap();
        assert_eq!(grace.whole(), Duration::from_secs(67));
        check(
            ShutdownGrace::by_priority(vec![step(1, 5), step(1, 60)]),
            "priority 1 is named twice",
        );
    }
}
