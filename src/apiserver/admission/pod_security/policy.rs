//! What a namespace asks of its pods, as its labels say (upstream `PolicyToEvaluate`,
//! pod-security-admission/api/helpers.go, v1.35).

use crate::api::{FieldError, FieldPath};
use std::collections::BTreeMap;
use std::fmt;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much a pod must do without, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// As of which minor version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What happens to pods that do not keep to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// They are refused.
    pub(super) enforce: Standard,
    /// Whoever makes them is told.
    pub(super) warn: Standard,
}

impl Standard {
    const PRIVILEGED: Self = Self { level: Level::Privileged, version: Version::Latest };
}

impl fmt::Display for Standard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(formatter, "{level}:latest"),
            Version::Minor(minor) => write!(formatter, "{level}:v1.{minor}"),
        }
    }
}

type Labels = BTreeMap<String, String>;

/// The policy, and what is wrong with the labels. A level to enforce that cannot be read is the
/// strictest; one to warn of is none.
pub(super) fn policy(labels: Option<&Labels>) -> (Policy, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut read = |mode: &str, unreadable: Level| {
        let level = label(labels, mode).map(|text| parse_level(text));
        let version = label(labels, &format!("{mode}-version")).map(|text| parse_version(text));
        if let Some(Err(why)) = level {
            errors.push(invalid(labels, mode, why));
        }
        if let Some(Err(why)) = version {
            errors.push(invalid(labels, &format!("{mode}-version"), why));
        }
        let level = level.map(|level| level.map_err(|_why| unreadable));
        (level, version.map(|version| version.unwrap_or(Version::Latest)))
    };
    let (enforce_level, enforce_version) = read("enforce", Level::Restricted);
    // There is no audit log to write to; what is wrong with its labels is told all the same.
    read("audit", Level::Privileged);
    let (warn_level, warn_version) = read("warn", Level::Privileged);

    let mut policy = Policy { enforce: Standard::PRIVILEGED, warn: Standard::PRIVILEGED };
    policy.enforce.level = level_of(enforce_level);
    policy.enforce.version = enforce_version.unwrap_or(Version::Latest);
    policy.warn.level = level_of(warn_level);
    policy.warn.version = warn_version.unwrap_or(Version::Latest);
    // Whoever is refused for something is warned of it elsewhere.
    if warn_level.is_none() && matches!(enforce_level, Some(Ok(_))) {
        policy.warn.level = policy.enforce.level;
        if warn_version.is_none() && policy.enforce.level > Level::Privileged {
            policy.warn.version = policy.enforce.version;
        }
    }
    (policy, errors)
}

fn level_of(level: Option<Result<Level, Level>>) -> Level {
    level.map_or(Level::Privileged, |level| level.unwrap_or_else(|unreadable| unreadable))
}

fn label<'a>(labels: Option<&'a Labels>, name: &str) -> Option<&'a String> {
    labels?.get(&format!("{PREFIX}{name}"))
}

fn invalid(labels: Option<&Labels>, name: &str, why: &'static str) -> FieldError {
    let path = FieldPath::new("metadata").child("labels").key(&format!("{PREFIX}{name}"));
    FieldError::invalid(&path, label(labels, name).cloned().unwrap_or_default(), why)
}

fn parse_level(text: &str) -> Result<Level, &'static str> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted"),
    }
}

fn parse_version(text: &str) -> Result<Version, &'static str> {
    let digits = text.strip_prefix("v1.").filter(|digits| {
        digits.bytes().all(|digit| digit.is_ascii_digit())
            && (*digits == "0" || !digits.starts_with('0'))
    });
    match (text, digits.and_then(|digits| digits.parse().ok())) {
        ("latest", _) => Ok(Version::Latest),
        (_, Some(minor)) => Ok(Version::Minor(minor)),
        (_, None) => Err("must be \"latest\" or \"v1.x\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[(&str, &str)], expected: &str, wrong: &[&str]) {
        let labels: Labels = labels
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
            .collect();
        let (Policy { enforce, warn }, errors) = policy(Some(&labels));
        assert_eq!(format!("{enforce} {warn}"), expected);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, wrong);
    }

    #[test]
    fn labels_say_what_is_asked() {
        check(&[], "privileged:latest privileged:latest", &[]);
        check(&[("enforce", "baseline")], "baseline:latest baseline:latest", &[]);
        check(
            &[("enforce", "restricted"), ("enforce-version", "v1.24")],
            "restricted:v1.24 restricted:v1.24",
            &[],
        );
        check(
            &[("enforce", "baseline"), ("warn", "restricted"), ("warn-version", "v1.30")],
            "baseline:latest restricted:v1.30",
            &[],
        );
        check(
            &[("enforce", "restricted"), ("warn", "privileged")],
            "restricted:latest privileged:latest",
            &[],
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        check(
            &[("enforce", "odd"), ("warn", "odd"), ("audit-version", "v1.01")],
            "restricted:latest privileged:latest",
            &[
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"odd\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
                "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"odd\": must be one of privileged, baseline, restricted",
            ],
        );
    }
}
