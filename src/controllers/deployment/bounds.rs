//! How far a rollout may go: surge, unavailability and deadlines of a Deployment as numbers.
//!
//! Upstream: pkg/controller/deployment/util/deployment_util.go (v1.35).

use crate::controllers::share::{Rounding, scaled};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, RollingUpdateDeployment};
use std::time::Duration;

/// Limits and deadlines of this size mean "none": upstream's `math.MaxInt32`.
const NONE: i32 = i32::MAX;

/// How the pods of an old template are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// All old pods go before the first new one comes.
    Recreate,
    RollingUpdate {
        /// This many pods more than wanted may be there at a time.
        surge: i32,
        /// This many pods fewer than wanted may be available at a time.
        unavailable: i32,
    },
}

/// The numbers that bound a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) replicas: i32,
    pub(super) strategy: Strategy,
}

impl Bounds {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        let is_recreate =
            strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));
        let strategy = if is_recreate {
            Strategy::Recreate
        } else {
            let parameters = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
            rolling_update(parameters, replicas)
        };
        Self { replicas, strategy }
    }

    /// No more pods than this at a time.
    pub(super) fn pods_max(self) -> i32 {
        match self.strategy {
            Strategy::Recreate => self.replicas,
            Strategy::RollingUpdate { surge, .. } => self.replicas.saturating_add(surge),
        }
    }

    /// A Deployment with at least this many available pods is available.
    pub(super) fn available_min(self) -> i32 {
        match self.strategy {
            Strategy::Recreate => self.replicas,
            Strategy::RollingUpdate { unavailable, .. } => self.replicas - unavailable,
        }
    }
}

/// Upstream `ResolveFenceposts`, `MaxSurge` and `MaxUnavailable`. Validation does not let both be
/// zero, but rounding may make them so; then one pod may be unavailable, lest nothing ever moves.
fn rolling_update(parameters: Option<&RollingUpdateDeployment>, replicas: i32) -> Strategy {
    let surge = parameters.and_then(|parameters| parameters.max_surge.as_ref());
    let surge = surge.map_or(0, |value| scaled(value, replicas, Rounding::Up));
    let unavailable = parameters.and_then(|parameters| parameters.max_unavailable.as_ref());
    let unavailable = unavailable.map_or(0, |value| scaled(value, replicas, Rounding::Down));
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Strategy::RollingUpdate { surge, unavailable: unavailable.min(replicas) }
}

/// How long a rollout may be without progress before it counts as stuck; `None` where nobody asks.
pub(super) fn progress_deadline(spec: &DeploymentSpec) -> Option<Duration> {
    let seconds = spec.progress_deadline_seconds.filter(|seconds| *seconds != NONE)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

/// How many old sets are kept; `None` for all of them.
pub(super) fn history_limit(spec: &DeploymentSpec) -> Option<usize> {
    let limit = spec.revision_history_limit.filter(|limit| *limit != NONE)?;
    Some(usize::try_from(limit).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    #[track_caller]
    fn check(replicas: i32, surge: &str, unavailable: &str, expected: (i32, i32)) {
        let value = |text: &str| match text.parse() {
            Ok(count) => IntOrString::Int(count),
            Err(_) => IntOrString::String(text.to_owned()),
        };
        let parameters = RollingUpdateDeployment {
            max_surge: Some(value(surge)),
            max_unavailable: Some(value(unavailable)),
        };
        let strategy = rolling_update(Some(&parameters), replicas);
        let bounds = Bounds { replicas, strategy };
        assert_eq!((bounds.pods_max(), bounds.available_min()), expected);
    }

    #[test]
    fn percentages_round_towards_safety() {
        check(10, "25%", "25%", (13, 8));
        check(4, "25%", "25%", (5, 3));
        check(3, "25%", "25%", (4, 3));
        check(1, "25%", "25%", (2, 1));
        check(0, "25%", "25%", (0, 0));
        check(10, "0", "1", (10, 9));
        check(10, "3", "0", (13, 10));
        check(10, "100%", "100%", (20, 0));
        // More than there are is all of them.
        check(3, "5", "5", (8, 0));
        // Never nothing at all.
        check(2, "0%", "1%", (2, 1));
        check(1, "0", "1%", (1, 0));
        check(2, "1%", "25%", (3, 2));
        check(0, "0", "0%", (0, 0));
    }

    #[test]
    fn the_largest_number_means_none() {
        let spec = |number| DeploymentSpec {
            progress_deadline_seconds: number,
            revision_history_limit: number,
            ..DeploymentSpec::default()
        };
        assert_eq!(progress_deadline(&spec(Some(NONE))), None);
        assert_eq!(history_limit(&spec(Some(NONE))), None);
        assert_eq!(progress_deadline(&spec(None)), None);
        assert_eq!(progress_deadline(&spec(Some(600))), Some(Duration::from_secs(600)));
        assert_eq!(history_limit(&spec(Some(0))), Some(0));
    }
}
