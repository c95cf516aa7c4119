//! What pods use against what they are to use, in whole numbers.

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

use crate::api::Quantity;

/// Usage that differs from the target by no more than this many thousandths is on target:
/// upstream's `--horizontal-pod-autoscaler-tolerance` of 0.1.
const TOLERANCE_MILLI: i64 = 100;

/// How far off the target usage may be, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tolerance {
    up: i64,
    down: i64,
}

impl Tolerance {
    pub(super) fn of(behavior: Option<&HorizontalPodAutoscalerBehavior>) -> Self {
        let told = |rules: Option<&HPAScalingRules>| {
            let tolerance = rules.and_then(|rules| rules.tolerance.as_ref());
            tolerance.map_or(TOLERANCE_MILLI, |quantity| Quantity::of(quantity).milli_units())
        };
        Self {
            up: told(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
            down: told(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
        }
    }
}

/// `current` of `target`, which is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    pub(super) current: i64,
    pub(super) target: i64,
}

impl Ratio {
    pub(super) fn is_above(self) -> bool {
        self.current > self.target
    }

    pub(super) fn is_below(self) -> bool {
        self.current < self.target
    }

    pub(super) fn is_within(self, tolerance: Tolerance) -> bool {
        let (current, target) = (i128::from(self.current) * 1_000, i128::from(self.target));
        current >= target * i128::from(1_000 - tolerance.down)
            && current <= target * i128::from(1_000 + tolerance.up)
    }

    /// As many times as many pods, rounded up.
    pub(super) fn times(self, pods: usize) -> i32 {
        let target = i128::from(self.target.max(1));
        let pods = i128::try_from(pods).unwrap_or(i128::from(i32::MAX));
        let product = i128::from(self.current).saturating_mul(pods);
        i32::try_from((product + target - 1).div_euclid(target)).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_round_up_and_tolerate_a_tenth() {
        let ratio = |current, target| Ratio { current, target };
        let tolerance = Tolerance::of(None);
        for (current, within) in [(89, false), (90, true), (100, true), (110, true), (111, false)] {
            assert_eq!(ratio(current, 100).is_within(tolerance), within, "{current}");
        }
        assert_eq!(ratio(150, 100).times(3), 5);
        assert_eq!(ratio(100, 100).times(3), 3);
        assert_eq!(ratio(1, 100).times(3), 1);
        assert_eq!(ratio(0, 100).times(3), 0);
        assert_eq!(ratio(i64::MAX, 1).times(9), i32::MAX);
    }
}
