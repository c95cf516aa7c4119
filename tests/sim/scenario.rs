//! What may happen in a world.

/// Whose pods a world is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Deployment,
    ReplicationController,
    StatefulSet,
    DaemonSet,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) workload: Workload,
    /// Of `template`, `broken`, `size`, `pause`, `strategy`, `pods`, `partition`, `claims`, `nodes`,
    /// `recreate`.
    pub(crate) users_change: &'static [&'static str],
    pub(crate) crashes: bool,
    pub(crate) failing_writes: bool,
    pub(crate) pods_fail: bool,
    pub(crate) min_ready_seconds: i32,
    pub(crate) progress_deadline_seconds: i32,
    /// Surge and unavailability; `None` for recreation.
    pub(crate) rolling: Option<(&'static str, &'static str)>,
    /// Pods of StatefulSets need not wait for each other.
    pub(crate) parallel: bool,
    /// When claims are deleted: with the set, and when it gets smaller. `None`: there are none.
    pub(crate) claims: Option<(&'static str, &'static str)>,
}

impl Scenario {
    pub(crate) const CALM: Self = Self {
        workload: Workload::Deployment,
        users_change: &[],
        crashes: false,
        failing_writes: false,
        pods_fail: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: 600,
        rolling: Some(("25%", "25%")),
        parallel: false,
        claims: None,
    };

    pub(crate) const REPLICATION: Self =
        Self { workload: Workload::ReplicationController, ..Self::CALM };

    /// One at a time, with claims that stay.
    pub(crate) const STATEFUL: Self = Self {
        workload: Workload::StatefulSet,
        rolling: Some(("0", "1")),
        claims: Some(("Retain", "Retain")),
        ..Self::CALM
    };

    pub(crate) const DAEMON: Self =
        Self { workload: Workload::DaemonSet, rolling: Some(("0", "1")), ..Self::CALM };

    pub(crate) fn changes(&self, what: &str) -> bool {
        self.users_change.contains(&what)
    }

    /// Users only roll out, and what runs goes on running: bounds hold to the letter.
    pub(crate) fn is_strict(&self) -> bool {
        let harmless = ["template", "broken", "partition"];
        !self.pods_fail && self.users_change.iter().all(|change| harmless.contains(change))
    }
}
