//! How long the steps took that requests go through, and how they ended.

use super::histogram::Histogram;
use crate::stdx::exposition::Durations;
use crate::stdx::monotonic;
use std::time::Instant;

/// Upper bounds of upstream's `etcd_request_duration_seconds`, in seconds.
const STORE: &[f64] = super::series::DURATIONS;

/// Upper bounds of upstream's `apiserver_admission_step_admission_duration_seconds`, in seconds.
const ADMISSION: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

/// Upper bounds of upstream's `authentication_duration_seconds`, in seconds.
const ACCESS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// How long the store took.
#[derive(Debug)]
pub(in super::super) struct StoreTally {
    pub(in super::super) lists: StoreDurations,
    pub(in super::super) commits: StoreDurations,
}

/// How long one operation of the store took.
#[derive(Debug)]
pub(in super::super) struct StoreDurations(Histogram<{ STORE.len() + 1 }>);

impl StoreDurations {
    /// It has been going on since then, and is over.
    pub(in super::super) fn note(&self, began: Instant) {
        self.0.note((monotonic() - began).as_secs_f64());
    }
}

impl Default for StoreTally {
    fn default() -> Self {
        let none = || StoreDurations(Histogram::by(STORE));
        Self { lists: none(), commits: none() }
    }
}

impl StoreTally {
    pub(super) fn read(&self) -> Vec<(&'static str, Durations)> {
        vec![("list", self.lists.0.read()), ("update", self.commits.0.read())]
    }
}

/// What is done about somebody who asks, by how it ended.
#[derive(Debug)]
pub(in super::super) struct Outcomes {
    good: Histogram<{ ACCESS.len() + 1 }>,
    bad: Histogram<{ ACCESS.len() + 1 }>,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self { good: Histogram::by(ACCESS), bad: Histogram::by(ACCESS) }
    }
}

impl Outcomes {
    /// It has been going on since then, and ended so.
    pub(in super::super) fn note<T, E>(&self, began: Instant, outcome: &Result<T, E>) {
        let durations = if outcome.is_ok() { &self.good } else { &self.bad };
        durations.note((monotonic() - began).as_secs_f64());
    }

    /// Those that ended well, and those that did not.
    pub(super) fn read(&self) -> (Durations, Durations) {
        (self.good.read(), self.bad.read())
    }
}

/// A step of admission, by upstream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    Admit,
    Validate,
}

const STEPS: [&str; 2] = ["admit", "validate"];
const OPERATIONS: [&str; 3] = ["CREATE", "UPDATE", "DELETE"];
const REJECTED: [&str; 2] = ["false", "true"];

type StepDurations = Histogram<{ ADMISSION.len() + 1 }>;

/// How long admission took: by step, operation, and whether the request was refused.
#[derive(Debug)]
pub(in super::super) struct AdmissionTally([[[StepDurations; 2]; 3]; 2]);

impl Default for AdmissionTally {
    fn default() -> Self {
        let none = || StepDurations::by(ADMISSION);
        Self([(); 2].map(|()| [(); 3].map(|()| [(); 2].map(|()| none()))))
    }
}

/// How long a step of admission took: its labels.
pub(super) type StepLabels = [(&'static str, &'static str); 3];

impl AdmissionTally {
    /// A step has been going on since then for an operation of this name, and ended so.
    pub(in super::super) fn note<T, E>(
        &self,
        step: Step,
        operation: &str,
        began: Instant,
        outcome: &Result<T, E>,
    ) {
        let operation = OPERATIONS.iter().position(|known| *known == operation);
        let of_step = &self.0[usize::from(step == Step::Validate)];
        let durations = &of_step[operation.unwrap_or_default()][usize::from(outcome.is_err())];
        durations.note((monotonic() - began).as_secs_f64());
    }

    /// Those that there were.
    pub(super) fn read(&self) -> Vec<(StepLabels, Durations)> {
        let mut read = Vec::new();
        for (step, of_step) in STEPS.iter().zip(&self.0) {
            for (operation, of_operation) in OPERATIONS.iter().zip(of_step) {
                for (rejected, durations) in REJECTED.iter().zip(of_operation) {
                    let labels =
                        [("operation", *operation), ("rejected", *rejected), ("type", *step)];
                    read.push((labels, durations.read()));
                }
            }
        }
        read.retain(|(_, durations)| durations.count() > 0);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_by_how_they_ended() {
        let tally = AdmissionTally::default();
        tally.note(Step::Admit, "CREATE", monotonic(), &Ok::<_, ()>(()));
        tally.note(Step::Validate, "DELETE", monotonic(), &Err::<(), _>(()));
        let labels: Vec<_> = tally.read().into_iter().map(|(labels, _)| labels).collect();
        assert_eq!(
            labels,
            [
                [("operation", "CREATE"), ("rejected", "false"), ("type", "admit")],
                [("operation", "DELETE"), ("rejected", "true"), ("type", "validate")],
            ]
        );
        let outcomes = Outcomes::default();
        outcomes.note(monotonic(), &Err::<(), _>(()));
        let (good, bad) = outcomes.read();
        assert_eq!((good.count(), bad.count()), (0, 1));
    }
}
