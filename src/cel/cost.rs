//! Arithmetic of costs and sizes: from, to, and never beyond what a `u64` holds.
//!
//! Follows cel-go checker/cost.go and common/cost.go, v0.26.

/// A name is looked up, or a field selected.
pub(super) const SELECT: u64 = 1;
pub(super) const LIST_CREATE: u64 = 10;
pub(super) const MAP_CREATE: u64 = 30;
pub(super) const STRUCT_CREATE: u64 = 40;
/// For each character or byte that is looked at.
pub(super) const TRAVERSAL: f64 = 0.1;
/// For each character of a regular expression.
pub(super) const REGEX: f64 = 0.25;
/// What asking an authorizer costs: two questions fit into an expression.
pub(super) const AUTHORIZER_CHECK: u64 = 350_000;
/// The longest expression of a named format (upstream `MaxNameFormatRegexSize`).
pub(super) const FORMAT_REGEX_MAX: f64 = 128.0;

/// The least and the most that something may cost, or that it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub(super) const UNKNOWN: Self = Self { min: 0, max: u64::MAX };
    pub(super) const NOTHING: Self = Self::fixed(0);
    /// What no size is yet, before the first is joined.
    pub(super) const NONE: Self = Self { min: u64::MAX, max: 0 };

    pub(super) const fn fixed(value: u64) -> Self {
        Self { min: value, max: value }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(super) fn scaled(self, factor: f64) -> Self {
        Self { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Rounded up (cel-go `multiplyByCostFactor`).
pub(super) fn scaled(value: u64, factor: f64) -> u64 {
    from_float((as_float(value) * factor).ceil())
}

#[expect(clippy::cast_precision_loss, reason = "upstream's costs are rounded in the same way")]
pub(super) fn as_float(value: u64) -> f64 {
    value as f64
}

/// Dropping what is behind the point; beyond the largest, the largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates"
)]
pub(super) fn from_float(value: f64) -> u64 {
    value as u64
}
