//! Which fields a write of one part of an object leaves as they are, so that nobody comes to own
//! them by it (upstream `GetResetFields` of the registry strategies, v1.35).

use super::set::FieldSet;

/// Paths through fields.
pub type Paths = &'static [&'static [&'static str]];

/// The fields that a write does not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resets {
    /// These, and what is below them.
    Of(Paths),
    /// All but these and what is below them. A `*` stands for every child.
    AllBut(Paths),
}

impl Resets {
    pub const NONE: Self = Self::Of(&[]);

    /// What most kinds do: either half is written without the other.
    #[must_use]
    pub fn of_halves(subresource: &str) -> Self {
        if subresource == "status" { Self::Of(&[&["spec"]]) } else { Self::Of(&[&["status"]]) }
    }

    /// What kinds do whose status is written without anything of the metadata.
    #[must_use]
    pub fn of_bare_status(subresource: &str) -> Self {
        match subresource {
            "status" => Self::Of(&[&["spec"], &["metadata"]]),
            _ => Self::of_halves(subresource),
        }
    }

    /// What of the set a write reaches.
    #[must_use]
    pub fn filter(self, set: FieldSet<'_>) -> FieldSet<'_> {
        let union = |paths: Paths| {
            let paths = paths.iter().map(|path| FieldSet::of_names(path));
            paths.fold(FieldSet::default(), |all, path| all.union(&path))
        };
        match self {
            Self::Of([]) => set,
            Self::Of(paths) => set.recursive_difference(&union(paths)),
            Self::AllBut(paths) => set.beginning_with(&union(paths)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resets: Resets, left: &[&str]) {
        let json = r#"{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{".":{},"f:containers":{
            "k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:resources":{"f:limits":{}}}}},"f:status":{"f:phase":{}}}"#;
        assert_eq!(resets.filter(FieldSet::parse(json).unwrap()).paths(), left);
    }

    #[test]
    fn halves_are_written_apart() {
        check(Resets::of_halves("status"), &[".metadata.labels.a", ".status.phase"]);
        check(Resets::of_bare_status("status"), &[".status.phase"]);
        check(
            Resets::AllBut(&[&["spec", "containers", "*", "resources"]]),
            &[
                ".spec",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].resources.limits",
            ],
        );
        assert!(Resets::NONE.filter(FieldSet::default()).is_empty());
    }
}
