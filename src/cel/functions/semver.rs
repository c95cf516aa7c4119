//! Semantic versions (apiserver pkg/cel/library/semverlib.go, v1.35, and blang/semver v4).

use crate::cel::foreign::Foreign;
use crate::cel::value::{Fault, Outcome, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// What is built it is not compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    /// What comes before the release.
    pre: Vec<Part>,
}

/// Numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

const NAMES: [&str; 3] = ["Major", "Minor", "Patch"];

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, tolerant) = match args {
        [Value::Foreign(Foreign::Semver(one))] => {
            let index = match function {
                "major" => 0,
                "minor" => 1,
                "patch" => 2,
                _ => return Err(Fault::NO_OVERLOAD),
            };
            return Ok(Value::Int(i64::try_from(one.numbers[index]).unwrap_or(i64::MAX)));
        }
        [Value::Foreign(Foreign::Semver(one)), Value::Foreign(Foreign::Semver(two))] => {
            let order = one.compare(two);
            return Ok(match function {
                "isGreaterThan" => Value::Bool(order == Ordering::Greater),
                "isLessThan" => Value::Bool(order == Ordering::Less),
                "compareTo" => Value::Int(order as i64),
                _ => return Err(Fault::NO_OVERLOAD),
            });
        }
        [Value::Text(text)] => (text, false),
        [Value::Text(text), Value::Bool(tolerant)] => (text, *tolerant),
        _ => return Err(Fault::NO_OVERLOAD),
    };
    let found = if tolerant { normalized(text).and_then(|text| parse(&text)) } else { parse(text) };
    match function {
        "semver" => found
            .map(|version| Value::Foreign(Foreign::Semver(Arc::new(version))))
            .map_err(Fault::new),
        "isSemver" => Ok(Value::Bool(found.is_ok())),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

impl Semver {
    fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => self.pre.cmp(&other.pre),
            }
        })
    }
}

/// `v1.02` as `1.2.0` (upstream `normalizeAndParse`).
fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn without_zeros(part: &str) -> String {
    if part.len() <= 1 {
        return part.to_owned();
    }
    let rest = part.trim_start_matches('0');
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        rest.to_owned()
    } else {
        format!("0{rest}")
    }
}

fn parse(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, patch] = parts.as_slice() else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let (patch, build) = patch.split_once('+').map_or((*patch, None), |(p, b)| (p, Some(b)));
    let (patch, pre) = patch.split_once('-').map_or((patch, None), |(p, pre)| (p, Some(pre)));
    let mut numbers = [0; 3];
    for (index, part) in [*major, *minor, patch].into_iter().enumerate() {
        numbers[index] = number(part, NAMES[index])?;
    }
    let pre = pre.map(|pre| pre.split('.').map(pre_part).collect()).transpose()?;
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        if part.is_empty() {
            return Err("Build meta data is empty".to_owned());
        }
        if !is_word(part) {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
    }
    Ok(Semver { numbers, pre: pre.unwrap_or_default() })
}

fn number(part: &str, name: &str) -> Result<u64, String> {
    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
        let name = name.to_lowercase();
        return Err(format!("Invalid character(s) found in {name} number {part:?}"));
    }
    if part.len() > 1 && part.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes {part:?}"));
    }
    part.parse().map_err(|_| format!("strconv.ParseUint: parsing {part:?}: value out of range"))
}

fn is_word(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn pre_part(part: &str) -> Result<Part, String> {
    if part.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if part.bytes().all(|b| b.is_ascii_digit()) {
        if part.len() > 1 && part.starts_with('0') {
            let message = "Numeric PreRelease version must not contain leading zeroes";
            return Err(format!("{message} {part:?}"));
        }
        return part.parse().map(Part::Number).map_err(|_| "value out of range".to_owned());
    }
    if !is_word(part) {
        return Err(format!("Invalid character(s) found in prerelease {part:?}"));
    }
    Ok(Part::Word(part.to_owned()))
}
