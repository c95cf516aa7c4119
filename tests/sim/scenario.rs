//! What may happen in a world.

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Of `template`, `broken`, `size`, `pause`, `strategy`, `pods`.
    pub(crate) users_change: &'static [&'static str],
    pub(crate) crashes: bool,
    pub(crate) failing_writes: bool,
    pub(crate) pods_fail: bool,
    pub(crate) min_ready_seconds: i32,
    pub(crate) progress_deadline_seconds: i32,
    /// Surge and unavailability; `None` for recreation.
    pub(crate) rolling: Option<(&'static str, &'static str)>,
}

impl Scenario {
    pub(crate) const CALM: Self = Self {
        users_change: &[],
        crashes: false,
        failing_writes: false,
        pods_fail: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: 600,
        rolling: Some(("25%", "25%")),
    };

    /// Users only roll out, and what runs goes on running: bounds hold to the letter.
    pub(crate) fn is_strict(&self) -> bool {
        !self.pods_fail
            && self.users_change.iter().all(|change| ["template", "broken"].contains(change))
    }
}
