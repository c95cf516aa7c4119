//! Amounts of a resource: `100m`, `1.5Gi`, `12e6`.
//!
//! The meaning is upstream `resource.Quantity` (apimachinery pkg/api/resource/quantity.go, v1.35):
//! fixed point with nine decimal places, rounded away from zero, and one canonical text.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// How a quantity was written, and is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// `k`, `M`, `m`: powers of ten.
    Decimal,
    /// `Ki`, `Mi`: powers of 1,024.
    Binary,
    /// `e3`, `E6`.
    Exponent,
}

/// An amount. Two are equal when their values are, however they were written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// Billionths.
    nanos: i128,
    notation: Notation,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a quantity such as 100m, 1.5Gi or 2e3")]
pub struct BadQuantity(String);

const NANOS: i128 = 1_000_000_000;

/// Larger amounts become this one, as upstream's do.
const UNITS_MAX: i128 = i64::MAX as i128;

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, notation: Notation::Decimal };

    /// So many units, written with decimal suffixes.
    #[must_use]
    pub fn decimal(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, notation: Notation::Decimal }
    }

    /// So many units, written with binary suffixes.
    #[must_use]
    pub fn binary(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, notation: Notation::Binary }
    }

    /// So many thousandths.
    #[must_use]
    pub fn milli(thousandths: i64) -> Self {
        Self { nanos: i128::from(thousandths) * (NANOS / 1_000), notation: Notation::Decimal }
    }

    /// Whole units, rounded up.
    #[must_use]
    pub fn units(self) -> i64 {
        self.in_steps_of(NANOS)
    }

    /// Thousandths, rounded up.
    #[must_use]
    pub fn milli_units(self) -> i64 {
        self.in_steps_of(NANOS / 1_000)
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    fn in_steps_of(self, step: i128) -> i64 {
        let steps = round_away_from_zero(self.nanos, step);
        i64::try_from(steps).unwrap_or(if steps < 0 { i64::MIN } else { i64::MAX })
    }
}

fn round_away_from_zero(amount: i128, step: i128) -> i128 {
    let whole = amount / step;
    if amount % step == 0 { whole } else { whole + amount.signum() }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum is written as `self` is, unless that is zero.
    fn add(self, other: Self) -> Self {
        let notation = if self.is_zero() { other.notation } else { self.notation };
        Self { nanos: self.nanos + other.nanos, notation }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let notation = if self.is_zero() { other.notation } else { self.notation };
        Self { nanos: self.nanos - other.nanos, notation }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::ZERO, Add::add)
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        parse(text).ok_or_else(|| BadQuantity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let scale = parse_suffix(suffix)?;
    let nanos = scaled(whole, fraction, &scale)?.min(UNITS_MAX * NANOS);
    let nanos = if negative { -nanos } else { nanos };
    Some(Quantity { nanos, notation: scale.notation })
}

/// The value of a suffix: `base` to the power of `exponent`.
struct Scale {
    base: u32,
    exponent: i32,
    notation: Notation,
}

fn parse_suffix(suffix: &str) -> Option<Scale> {
    const DECIMAL: [(&str, i32); 10] = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    if let Some((_, exponent)) = DECIMAL.into_iter().find(|(name, _)| *name == suffix) {
        return Some(Scale { base: 10, exponent, notation: Notation::Decimal });
    }
    let exponent = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|name| *name == suffix);
    if let Some(power) = exponent.and_then(|index| i32::try_from(index + 1).ok()) {
        return Some(Scale { base: 1_024, exponent: power, notation: Notation::Binary });
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(Scale { base: 10, exponent, notation: Notation::Exponent })
}

/// `whole.fraction` times the scale, in billionths rounded up; saturates. `None`: not digits.
fn scaled(whole: &str, fraction: &str, scale: &Scale) -> Option<i128> {
    /// More digits than this say nothing that a quantity can hold.
    const DIGITS_MAX: usize = 60;
    if whole.len() + fraction.len() > DIGITS_MAX {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let mut amount = digits.parse::<i128>().unwrap_or(i128::MAX / 2);
    // The amount is now `digits * base^exponent * 10^(9 - fraction digits)` billionths.
    let mut tens = 9 - i32::try_from(fraction.len()).ok()?;
    if scale.base == 10 {
        tens = tens.saturating_add(scale.exponent);
    } else {
        for _ in 0..scale.exponent {
            amount = amount.saturating_mul(i128::from(scale.base));
        }
    }
    for _ in 0..tens.clamp(0, 60) {
        amount = amount.saturating_mul(10);
    }
    let divisor = 10_i128.checked_pow((-tens).max(0).unsigned_abs()).unwrap_or(i128::MAX);
    Some(round_away_from_zero(amount, divisor))
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.nanos % NANOS == 0;
        let small = self.nanos.abs() < 1_024 * NANOS;
        match self.notation {
            Notation::Binary if whole && !small => write_binary(self.nanos / NANOS, formatter),
            Notation::Binary | Notation::Decimal => {
                let (mantissa, exponent) = canonical(self.nanos);
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                write!(formatter, "{mantissa}{}", suffixes[exponent])
            }
            Notation::Exponent => match canonical(self.nanos) {
                (mantissa, 3) => write!(formatter, "{mantissa}"),
                (mantissa, thousands) => {
                    let exponent = i64::try_from(thousands).unwrap_or_default() * 3 - 9;
                    write!(formatter, "{mantissa}e{exponent}")
                }
            },
        }
    }
}

fn write_binary(mut units: i128, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut power = 0;
    while units != 0 && units % 1_024 == 0 && power + 1 < suffixes.len() {
        units /= 1_024;
        power += 1;
    }
    write!(formatter, "{units}{}", suffixes[power])
}

/// The mantissa without trailing thousands, and how many thousands above billionths it is.
fn canonical(mut nanos: i128) -> (i128, usize) {
    let mut thousands = 0;
    while nanos != 0 && nanos % 1_000 == 0 && thousands < 9 {
        nanos /= 1_000;
        thousands += 1;
    }
    if nanos == 0 { (0, 3) } else { (nanos, thousands) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, units: i64, milli: i64, canonical: &str) {
        let quantity: Quantity = text.parse().unwrap();
        assert_eq!(quantity.units(), units, "{text} in units");
        assert_eq!(quantity.milli_units(), milli, "{text} in thousandths");
        assert_eq!(quantity.to_string(), canonical, "{text} written again");
    }

    #[test]
    fn means_what_upstream_means() {
        check("0", 0, 0, "0");
        check("100m", 1, 100, "100m");
        check("1.5", 2, 1_500, "1500m");
        check("1500m", 2, 1_500, "1500m");
        check("2000m", 2, 2_000, "2");
        check("1.5Gi", 1_610_612_736, 1_610_612_736_000, "1536Mi");
        check("1000Ki", 1_024_000, 1_024_000_000, "1000Ki");
        check("1024Ki", 1_048_576, 1_048_576_000, "1Mi");
        check("512", 512, 512_000, "512");
        check("1Ki", 1_024, 1_024_000, "1Ki");
        check("0.5Ki", 512, 512_000, "512");
        check("12e6", 12_000_000, 12_000_000_000, "12e6");
        check("1E", 1_000_000_000_000_000_000, i64::MAX, "1E");
        check("1E3", 1_000, 1_000_000, "1e3");
        check("100000", 100_000, 100_000_000, "100k");
        check(".5", 1, 500, "500m");
        check("5.", 5, 5_000, "5");
        check("0.1n", 1, 1, "1n");
        check("-1500m", -2, -1_500, "-1500m");
        check("+3", 3, 3_000, "3");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "-", ".", "1.2.3", "1KB", "1 Gi", "Gi", "1e", "0x10", "1i", "--1"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sums_keep_the_first_notation() {
        let sum: Quantity = ["0", "1Gi", "1024"].iter().map(|text| text.parse().unwrap()).sum();
        assert_eq!(sum.to_string(), "1048577Ki");
        assert!("1Gi".parse::<Quantity>().unwrap() > "1G".parse().unwrap());
    }
}
