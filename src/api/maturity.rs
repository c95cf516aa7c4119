//! Which of several versions of an API clients should prefer.

use std::cmp::Reverse;

/// Orders versions by their maturity: the greatest is the one to prefer. Stable ones are above beta
/// and alpha, later ones above earlier ones; texts that are no versions are below all, in reverse
/// order (upstream `CompareKubeAwareVersionStrings`, apimachinery pkg/version/helpers.go, v1.35).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Maturity<'a> {
    stage: Stage,
    major: u64,
    minor: u64,
    /// Empty where the rest says it all.
    text: Reverse<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Unknown,
    Alpha,
    Beta,
    Stable,
}

impl<'a> Maturity<'a> {
    #[must_use]
    pub fn of(version: &'a str) -> Self {
        let unknown = Self { stage: Stage::Unknown, major: 0, minor: 0, text: Reverse(version) };
        parse(version).unwrap_or(unknown)
    }
}

fn parse(version: &str) -> Option<Maturity<'static>> {
    let rest = version.strip_prefix('v')?;
    let (major, rest) = number(rest)?;
    let (stage, minor) = if rest.is_empty() {
        (Stage::Stable, "0")
    } else if let Some(minor) = rest.strip_prefix("beta") {
        (Stage::Beta, minor)
    } else {
        (Stage::Alpha, rest.strip_prefix("alpha")?)
    };
    let (minor, rest) = number(minor)?;
    rest.is_empty().then_some(Maturity { stage, major, minor, text: Reverse("") })
}

/// The number that the text begins with, and what follows it.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_mature_version_is_preferred() {
        let ordered = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
            "v",
            "v1beta",
            "vx",
        ];
        let mut versions = ordered;
        versions.reverse();
        versions.sort_by_key(|version| Reverse(Maturity::of(version)));
        assert_eq!(versions, ordered);
    }
}
