//! What a controller is.

use super::write::{Failure, Planned, Report, Write};
use crate::client::{ResourceType, Seen};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What a controller decided for one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The writes of one step do not depend on each other and are made side by side. A step begins
    /// when every write of the one before has succeeded.
    pub steps: Vec<Vec<Planned>>,
    /// Events for users once all steps are done.
    pub reports: Vec<Report>,
    /// The object that all reports, also those of the writes, are about.
    pub regarding: ObjectReference,
    /// Look at this key again after this long even if nothing changes, or when the clock is set: it
    /// may be the time left until a time of day.
    pub recheck_after: Option<Duration>,
}

impl Plan {
    /// A plan that makes `writes` side by side.
    #[must_use]
    pub fn of(writes: impl IntoIterator<Item = Write>) -> Self {
        let mut plan = Self::default();
        plan.then(writes);
        plan
    }

    /// Adds a step that makes `writes` side by side, where there are any.
    pub fn then<W: Into<Planned>>(&mut self, writes: impl IntoIterator<Item = W>) {
        let step: Vec<Planned> = writes.into_iter().map(Into::into).collect();
        if !step.is_empty() {
            self.steps.push(step);
        }
    }

    /// All writes in order.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.steps.iter().flatten().map(|planned| &planned.write)
    }
}

/// The circumstances of one look at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub now: Timestamp,
    /// What went wrong at the last look; gone after a look at which nothing did.
    pub failure: Option<Failure>,
}

/// A controller is a name, a way to look, and a pure decision.
pub trait Controller: Send + Sync + 'static {
    const NAME: &'static str;

    /// The service account that it acts as: most have one of their own.
    const ACCOUNT: &'static str = Self::NAME;

    /// This many keys are looked at side by side.
    const PASSES_AT_ONCE_MAX: usize = 5;

    /// Names what is looked at: an [`ObjectKey`](crate::api::ObjectKey) for most.
    type Key: Clone + Ord + Debug + Display + Send + Sync;
    type Observed: Send;

    /// Gathers everything `plan` may look at, from caches, and where they do not do, by asking the
    /// API server. `None` when there is nothing to plan for.
    fn observe(
        &self,
        key: &Self::Key,
        attempt: Attempt,
    ) -> impl Future<Output = Option<Self::Observed>> + Send;

    /// Decides. Must be pure: same input, same plan. What it writes must lead to a plan without
    /// writes in a few looks: see `tests/sim`.
    fn plan(observed: &Self::Observed) -> Plan;

    /// The caches that `observe` reads, by what is in them. Nothing is looked at before they are
    /// filled. After a write to one of these kinds, the key rests until the cache has seen it.
    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)>;
}
