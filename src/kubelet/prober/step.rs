//! What a row of answers comes to: upstream `worker.doProbe` (pkg/kubelet/prober/worker.go, v1.35),
//! after the question.

use super::plan::Schedule;
use crate::kubelet::pod::ProbeResult;

/// What a probe that was asked says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubelet) enum Answer {
    Passed,
    /// As good as passed, and worth a word.
    Warned(String),
    Failed(String),
    /// It could not be asked: that says nothing about the container.
    Errored(String),
}

/// The answers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kubelet) struct Row {
    last: Option<ProbeResult>,
    length: u32,
}

impl Row {
    /// After one more answer: the row, and the result where enough answers agree.
    #[must_use]
    pub(in crate::kubelet) fn step(
        self,
        answer: &Answer,
        schedule: &Schedule,
    ) -> (Self, Option<ProbeResult>) {
        let (result, enough) = match answer {
            Answer::Passed | Answer::Warned(_) => (ProbeResult::Passed, schedule.successes),
            Answer::Failed(_) => (ProbeResult::Failed, schedule.failures),
            Answer::Errored(_) => return (self, None),
        };
        let length = if self.last == Some(result) { self.length.saturating_add(1) } else { 1 };
        (Self { last: Some(result), length }, (length >= enough).then_some(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// `+`, `-` and `?` are answers; the result after each of them is `P`, `F` or `.` for none.
    #[track_caller]
    fn check(successes: u32, failures: u32, answers: &str, expected: &str) {
        let second = Duration::from_secs(1);
        let (initial_delay, period, timeout) = (second, second, second);
        let schedule = Schedule { initial_delay, period, timeout, successes, failures };
        let mut row = Row::default();
        let results = answers.chars().map(|answer| {
            let answer = match answer {
                '+' => Answer::Passed,
                '-' => Answer::Failed(String::new()),
                _ => Answer::Errored(String::new()),
            };
            let (next, result) = row.step(&answer, &schedule);
            row = next;
            match result {
                Some(ProbeResult::Passed) => 'P',
                Some(_) => 'F',
                None => '.',
            }
        });
        assert_eq!(results.collect::<String>(), expected);
    }

    #[test]
    fn enough_answers_in_a_row_count() {
        check(1, 3, "+--+---", "P..P..F");
        check(2, 1, "+-++-", ".F.PF");
        check(1, 2, "-?-", "..F");
        check(1, 1, "?", ".");
    }
}
