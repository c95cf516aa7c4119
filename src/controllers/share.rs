//! Parts of a number of pods: as a count, or in percent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug)]
pub(super) enum Rounding {
    Up,
    Down,
}

/// Upstream `GetScaledValueFromIntOrPercent`. What is neither, which validation does not let in, is
/// zero.
pub(super) fn scaled(value: &IntOrString, total: i32, rounding: Rounding) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
            let hundredths = percent.unwrap_or_default().saturating_mul(i64::from(total));
            let whole = match rounding {
                Rounding::Up => hundredths.saturating_add(99).div_euclid(100),
                Rounding::Down => hundredths.div_euclid(100),
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}
