//! How far and how fast the number of replicas may go.
//!
//! Follows upstream `normalizeDesiredReplicas` and `normalizeDesiredReplicasWithBehaviors`
//! (pkg/controller/podautoscaler/horizontal.go, v1.35).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec,
};

/// Without rules, replicas go down only to the most that was asked for in this time: upstream's
/// `--horizontal-pod-autoscaler-downscale-stabilization`.
const DOWNSCALE_STABILIZATION_SECONDS: i32 = 300;

/// Without rules, replicas double at most, or become so many.
const SCALE_UP_FACTOR: i32 = 2;
const SCALE_UP_MINIMUM: i32 = 4;

/// Nothing looks back further, in seconds: the longest window and the longest period that
/// validation lets in.
const HISTORY_SECONDS: i64 = 3_600;

/// What was asked for and done lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    recommended: Vec<(Timestamp, i32)>,
    /// By how many replicas it was changed; down is negative.
    changed: Vec<(Timestamp, i32)>,
}

impl History {
    /// With the number of replicas at the first look, which nobody has recommended.
    pub(super) fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommended.is_empty() {
            self.recommended.push((now, replicas));
        }
    }

    pub(super) fn note(&mut self, recommended: i32, change: i32, now: Timestamp) {
        let oldest = now - SignedDuration::from_secs(HISTORY_SECONDS);
        self.recommended.retain(|(at, _)| *at >= oldest);
        self.changed.retain(|(at, _)| *at >= oldest);
        self.recommended.push((now, recommended));
        if change != 0 {
            self.changed.push((now, change));
        }
    }

    fn recommended_since(&self, now: Timestamp, seconds: i32) -> impl Iterator<Item = i32> {
        let cutoff = now - SignedDuration::from_secs(i64::from(seconds));
        self.recommended.iter().filter(move |(at, _)| *at > cutoff).map(|(_, count)| *count)
    }

    /// How many replicas there were so long ago.
    fn replicas_before(&self, current: i32, now: Timestamp, seconds: i32) -> i32 {
        let cutoff = now - SignedDuration::from_secs(i64::from(seconds));
        let since = self.changed.iter().filter(|(at, _)| *at > cutoff);
        current - since.map(|(_, change)| change).sum::<i32>()
    }
}

/// Reason and message of a condition.
pub(super) type Why = (&'static str, &'static str);

/// A number of replicas within what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// Why it is another than what the metrics ask for, as far as time goes.
    pub(super) able: Why,
    /// Whether and how it is limited.
    pub(super) limit: Why,
    pub(super) is_limited: bool,
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const TOO_MANY: Why =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Why =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const UP_LIMIT: Why =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

/// Where the replicas are and where they are to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) spec: &'a HorizontalPodAutoscalerSpec,
    pub(super) history: &'a History,
    pub(super) current: i32,
    pub(super) desired: i32,
    pub(super) now: Timestamp,
}

impl Wish<'_> {
    fn min(&self) -> i32 {
        self.spec.min_replicas.unwrap_or(1)
    }
}

pub(super) fn limit(wish: Wish<'_>) -> Limited {
    let (stabilized, able) = stabilize(wish);
    let (replicas, limit) = match &wish.spec.behavior {
        None => bound(wish, stabilized),
        Some(behavior) => bound_by_rules(wish, behavior, stabilized),
    };
    let able = if stabilized == wish.desired { READY } else { able };
    Limited { replicas, able, limit, is_limited: replicas != stabilized }
}

fn stabilize(wish: Wish<'_>) -> (i32, Why) {
    let Wish { history, current, desired, now, .. } = wish;
    let Some(behavior) = &wish.spec.behavior else {
        let recent = history.recommended_since(now, DOWNSCALE_STABILIZATION_SECONDS);
        return (recent.fold(desired, i32::max), DOWN_STABILIZED);
    };
    let window = |rules: Option<&HPAScalingRules>, default: i32| {
        rules.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default)
    };
    let up = window(behavior.scale_up.as_ref(), 0);
    let down = window(behavior.scale_down.as_ref(), DOWNSCALE_STABILIZATION_SECONDS);
    let at_least = history.recommended_since(now, up).fold(desired, i32::min);
    let at_most = history.recommended_since(now, down).fold(desired, i32::max);
    let why = if desired >= current { UP_STABILIZED } else { DOWN_STABILIZED };
    (current.max(at_least).min(at_most), why)
}

fn bound(wish: Wish<'_>, desired: i32) -> (i32, Why) {
    let fastest = wish.current.saturating_mul(SCALE_UP_FACTOR).max(SCALE_UP_MINIMUM);
    let (most, why) = if wish.spec.max_replicas > fastest {
        (fastest, UP_LIMIT)
    } else {
        (wish.spec.max_replicas, TOO_MANY)
    };
    if desired < wish.min() {
        (wish.min(), TOO_FEW)
    } else if desired > most {
        (most, why)
    } else {
        (desired, WITHIN)
    }
}

fn bound_by_rules(
    wish: Wish<'_>,
    behavior: &HorizontalPodAutoscalerBehavior,
    desired: i32,
) -> (i32, Why) {
    let current = wish.current;
    if desired > current {
        let fastest = pace(wish, behavior.scale_up.as_ref(), Direction::Up).max(current);
        let (most, why) = if wish.spec.max_replicas > fastest {
            (fastest, UP_LIMIT)
        } else {
            (wish.spec.max_replicas, TOO_MANY)
        };
        if desired > most {
            return (most, why);
        }
    } else if desired < current {
        let fastest = pace(wish, behavior.scale_down.as_ref(), Direction::Down).min(current);
        let (least, why) =
            if wish.min() < fastest { (fastest, DOWN_LIMIT) } else { (wish.min(), TOO_FEW) };
        if desired < least {
            return (least, why);
        }
    }
    (desired, WITHIN)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// How far the policies let the replicas go now.
fn pace(wish: Wish<'_>, rules: Option<&HPAScalingRules>, direction: Direction) -> i32 {
    let Some(rules) = rules else { return wish.desired };
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return wish.current;
    }
    let policies = rules.policies.as_deref().unwrap_or_default();
    let reached = policies.iter().map(|policy| {
        let before = wish.history.replicas_before(wish.current, wish.now, policy.period_seconds);
        let (before, value) = (i64::from(before), i64::from(policy.value));
        let reached = match (policy.type_.as_str(), direction) {
            ("Percent", Direction::Up) => (before * (100 + value) + 99).div_euclid(100),
            ("Percent", Direction::Down) => (before * (100 - value)).max(0) / 100,
            (_, Direction::Up) => before + value,
            (_, Direction::Down) => before - value,
        };
        i32::try_from(reached).unwrap_or(i32::MAX)
    });
    // The largest change is the greatest number upwards, and the smallest downwards.
    let chosen = if (select == "Min") == (direction == Direction::Up) {
        reached.min()
    } else {
        reached.max()
    };
    chosen.unwrap_or(wish.current)
}
