//! Amounts of resources: `100m`, `1.5Gi`, `2e3`. Exact; no floating point anywhere.
//!
//! The grammar and the canonical form are those of upstream `resource.Quantity` (apimachinery
//! pkg/api/resource, v1.35).

use k8s_openapi::apimachinery::pkg::api::resource;
use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

/// What one unit is in the smallest amount that can be told apart.
const NANOS: i128 = 1_000_000_000;
const NANOS_IN_MILLI: i128 = 1_000_000;

/// A binary amount above this is taken as this (upstream `maxAllowed`).
const BINARY_MAX: i128 = i64::MAX as i128;

/// The largest power of ten that has a letter: `E`.
const DECIMAL_EXPONENT_MAX: i32 = 18;

/// How a quantity was written, and is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Format {
    /// `12M`
    #[default]
    DecimalSi,
    /// `12Mi`
    BinarySi,
    /// `12e6`
    DecimalExponent,
}

/// An exact amount between about -10^29 and 10^29, in steps of one billionth.
///
/// Two quantities are equal when their amounts are, however they were written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// Also when the amount is beyond what a [`Quantity`] holds.
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// So many units, written with decimal suffixes.
    #[must_use]
    pub fn decimal(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, format: Format::DecimalSi }
    }

    /// So many units, written with binary suffixes.
    #[must_use]
    pub fn binary(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, format: Format::BinarySi }
    }

    /// So many thousandths.
    #[must_use]
    pub fn milli(thousandths: i64) -> Self {
        Self { nanos: i128::from(thousandths) * NANOS_IN_MILLI, format: Format::DecimalSi }
    }

    /// The quantity of a field; what cannot be parsed counts as nothing, because fields have been
    /// validated when they were written.
    #[must_use]
    pub fn of(field: &resource::Quantity) -> Self {
        field.0.parse().unwrap_or_default()
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whole units, rounded away from zero (upstream `Value`), limited to what an `i64` holds.
    #[must_use]
    pub fn units(self) -> i64 {
        saturate(divide_away_from_zero(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero (upstream `MilliValue`), limited likewise.
    #[must_use]
    pub fn milli_units(self) -> i64 {
        saturate(divide_away_from_zero(self.nanos, NANOS_IN_MILLI))
    }

    /// Rounded up to thousandths, as stored amounts are (upstream `SetDefaults_ResourceList`).
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let milli = divide_away_from_zero(self.nanos, NANOS_IN_MILLI);
        Self { nanos: milli * NANOS_IN_MILLI, ..self }
    }

    /// Rounded up to whole units.
    #[must_use]
    pub fn rounded_to_units(self) -> Self {
        Self { nanos: divide_away_from_zero(self.nanos, NANOS) * NANOS, ..self }
    }

    #[must_use]
    pub fn is_integer(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// As a floating point number, which may be a little more or less.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "its callers ask for it")]
    pub fn approximate(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// The generated type, in canonical form.
    #[must_use]
    pub fn to_field(self) -> resource::Quantity {
        resource::Quantity(self.to_string())
    }

    /// The format of a sum is the format of what is added to nothing (upstream `Quantity.Add`).
    fn format_with(self, other: Self) -> Format {
        if self.is_zero() { other.format } else { self.format }
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn divide_away_from_zero(value: i128, by: i128) -> i128 {
    let rest = value % by;
    value / by + if rest == 0 { 0 } else { rest.signum() }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let nanos = self.nanos.saturating_add(other.nanos);
        Self { nanos, format: self.format_with(other) }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let nanos = self.nanos.saturating_sub(other.nanos);
        Self { nanos, format: self.format_with(other) }
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::ZERO, Add::add)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let text = text.trim();
        let (is_negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(BadQuantity::Format),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = unsigned.split_at(digits_end.unwrap_or(unsigned.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(BadQuantity::Format);
        }
        let scale = Scale::parse(suffix)?;
        let nanos = scale.apply(whole, fraction)?;
        let format = if scale.format() == Format::BinarySi && nanos < NANOS && nanos > 0 {
            Format::DecimalSi
        } else {
            scale.format()
        };
        Ok(Self { nanos: if is_negative { -nanos } else { nanos }, format })
    }
}

/// What a suffix multiplies with.
#[derive(Clone, Copy, Debug)]
enum Scale {
    Ten { exponent: i32, format: Format },
    Two { exponent: u32 },
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, BadQuantity> {
        let si = |exponent| Ok(Self::Ten { exponent, format: Format::DecimalSi });
        match suffix {
            "n" => si(-9),
            "u" => si(-6),
            "m" => si(-3),
            "" => si(0),
            "k" => si(3),
            "M" => si(6),
            "G" => si(9),
            "T" => si(12),
            "P" => si(15),
            "E" => si(18),
            "Ki" => Ok(Self::Two { exponent: 10 }),
            "Mi" => Ok(Self::Two { exponent: 20 }),
            "Gi" => Ok(Self::Two { exponent: 30 }),
            "Ti" => Ok(Self::Two { exponent: 40 }),
            "Pi" => Ok(Self::Two { exponent: 50 }),
            "Ei" => Ok(Self::Two { exponent: 60 }),
            other => Self::parse_exponent(other),
        }
    }

    fn parse_exponent(suffix: &str) -> Result<Self, BadQuantity> {
        let known = |c: char| "eEinumkKMGTP+-0123456789".contains(c);
        if !suffix.chars().all(known) {
            return Err(BadQuantity::Format);
        }
        let digits = suffix.strip_prefix(['e', 'E']).ok_or(BadQuantity::Suffix)?;
        let exponent = digits.parse().map_err(|_| BadQuantity::Suffix)?;
        Ok(Self::Ten { exponent, format: Format::DecimalExponent })
    }

    fn format(self) -> Format {
        match self {
            Self::Ten { format, .. } => format,
            Self::Two { .. } => Format::BinarySi,
        }
    }

    /// `whole.fraction` at this scale, in billionths, rounded up.
    fn apply(self, whole: &str, fraction: &str) -> Result<i128, BadQuantity> {
        match self {
            Self::Ten { exponent, .. } => decimal(whole, fraction, exponent.saturating_add(9)),
            Self::Two { exponent } => {
                // A binary amount with a fraction may have more digits than billionths: multiply
                // first, so that nothing is lost before the last rounding.
                let fraction = fraction.trim_end_matches('0');
                let places = i32::try_from(fraction.len()).map_err(|_| BadQuantity::Number)?;
                let digits = decimal(whole, fraction, places)?;
                let Some(scaled) = digits.checked_mul(1 << exponent) else {
                    return Ok(BINARY_MAX * NANOS);
                };
                let units = scaled.checked_mul(NANOS).map(|value| {
                    let power = u32::try_from(places).ok().and_then(|p| 10_i128.checked_pow(p));
                    power.map_or(0, |power| divide_away_from_zero(value, power))
                });
                Ok(units.unwrap_or(BINARY_MAX * NANOS).min(BINARY_MAX * NANOS))
            }
        }
    }
}

/// `whole.fraction * 10^exponent`, rounded up to an integer.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> Result<i128, BadQuantity> {
    let fraction = fraction.trim_end_matches('0');
    let whole = whole.trim_start_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return Ok(0);
    }
    let places = i32::try_from(fraction.len()).map_err(|_| BadQuantity::Number)?;
    let shift = exponent.saturating_sub(places);
    let digits: String = [whole, fraction].concat();
    if shift >= 0 {
        let value: i128 = digits.parse().map_err(|_| BadQuantity::Number)?;
        let power = 10_i128.checked_pow(shift.unsigned_abs());
        return power.and_then(|power| value.checked_mul(power)).ok_or(BadQuantity::Number);
    }
    // Digits beyond the last place only matter for rounding up.
    let dropped = usize::try_from(shift.unsigned_abs()).map_err(|_| BadQuantity::Number)?;
    let kept_len = digits.len().saturating_sub(dropped);
    let (kept, rest) = digits.split_at(kept_len);
    let value: i128 =
        if kept.is_empty() { 0 } else { kept.parse().map_err(|_| BadQuantity::Number)? };
    let round_up = rest.bytes().any(|digit| digit != b'0');
    Ok(value + i128::from(round_up))
}

/// The canonical form: no fraction, the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return formatter.write_str("0");
        }
        let is_small = self.nanos.abs() < 1024 * NANOS;
        match self.format {
            Format::BinarySi if !is_small && self.is_integer() => {
                fmt_binary(self.nanos / NANOS, formatter)
            }
            Format::BinarySi | Format::DecimalSi => {
                let (mantissa, exponent) = decimal_parts(self.nanos, DECIMAL_EXPONENT_MAX);
                write!(formatter, "{mantissa}{}", decimal_suffix(exponent))
            }
            Format::DecimalExponent => match decimal_parts(self.nanos, i32::MAX) {
                (mantissa, 0) => write!(formatter, "{mantissa}"),
                (mantissa, exponent) => write!(formatter, "{mantissa}e{exponent}"),
            },
        }
    }
}

fn fmt_binary(mut units: i128, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut power = 0;
    while units % 1024 == 0 && power + 1 < SUFFIXES.len() {
        units /= 1024;
        power += 1;
    }
    write!(formatter, "{units}{}", SUFFIXES[power])
}

/// Mantissa and a power of ten that is a multiple of three, as large as goes.
fn decimal_parts(nanos: i128, exponent_max: i32) -> (i128, i32) {
    let (mut mantissa, mut exponent) = (nanos, -9);
    while mantissa % 1000 == 0 && exponent < exponent_max {
        mantissa /= 1000;
        exponent += 3;
    }
    (mantissa, exponent)
}

fn decimal_suffix(exponent: i32) -> &'static str {
    match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        match text.parse::<Quantity>() {
            Ok(quantity) => quantity.to_string(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, expected) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1023Ki", "1023Ki"),
            ("1025Ki", "1025Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("2048", "2048"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1000k", "1M"),
            ("12e6", "12e6"),
            ("1200e4", "12e6"),
            ("1e0", "1"),
            ("100e-3", "100e-3"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("+5", "5"),
            ("9223372036854775807Ki", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("7Ei", "7Ei"),
            ("1000E", "1000E"),
            (" 1 ", "1"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for (text, expected) in [
            ("", "Format"),
            ("abc", "Format"),
            ("1.2.3", "Format"),
            ("-", "Format"),
            ("1 Gi", "Format"),
            ("1Gb", "Format"),
            ("1ki", "Suffix"),
            ("1mi", "Suffix"),
            ("1e", "Suffix"),
            ("1ee3", "Suffix"),
            ("1e40", "Number"),
            ("٣", "Format"),
        ] {
            assert_eq!(canonical(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sums_keep_the_format_of_what_came_first() {
        let sum = |a: &str, b: &str| {
            (a.parse::<Quantity>().unwrap() + b.parse::<Quantity>().unwrap()).to_string()
        };
        assert_eq!(sum("1Gi", "512Mi"), "1536Mi");
        assert_eq!(sum("0", "512Mi"), "512Mi");
        assert_eq!(sum("100m", "900m"), "1");
        assert_eq!(sum("1", "1Ki"), "1025");
    }

    #[test]
    fn values_are_rounded_up() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("1.1").units(), 2);
        assert_eq!(quantity("-1.1").units(), -2);
        assert_eq!(quantity("0.1m").milli_units(), 1);
        assert_eq!(quantity("0.1m").rounded_to_milli().to_string(), "1m");
        assert_eq!(quantity("1e20").units(), i64::MAX);
        assert!(quantity("1Gi") > quantity("1G"));
        assert_eq!(quantity("1024Ki"), quantity("1Mi"));
    }

    proptest! {
        #[test]
        fn printing_and_parsing_again_changes_nothing(
            value in -1_000_000_000_000_i64..1_000_000_000_000,
            suffix in prop::sample::select(vec!["n", "u", "m", "", "k", "M", "Ki", "Mi", "e3", "e-2"]),
        ) {
            let quantity: Quantity = format!("{value}{suffix}").parse().unwrap();
            let printed = quantity.to_string();
            let again: Quantity = printed.parse().unwrap();
            prop_assert_eq!(again, quantity);
            prop_assert_eq!(again.to_string(), printed);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+]?[0-9.]{0,45}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,12}") {
            let parsed: Result<Quantity, _> = text.parse();
            prop_assert!(parsed.is_ok() || parsed.is_err());
        }
    }
}
