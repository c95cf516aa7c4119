//! The annotations by which a Deployment's ReplicaSets remember: revision, history, and how large
//! the Deployment was.
//!
//! Upstream: pkg/controller/deployment/util/deployment_util.go (v1.35).

use super::bounds::Bounds;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use std::collections::BTreeMap;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its sets do not take over.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// A history is at most this long, in bytes: about a hundred revisions. The oldest are forgotten.
const HISTORY_BYTES_MAX: usize = 2_000;

fn annotation<'a>(set: &'a ReplicaSet, name: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The revision of a set; zero where it has none, `None` where it cannot be read.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    annotation(set, REVISION).map_or(Some(0), |text| text.parse().ok())
}

/// The revision of a set that is newer than all of these.
pub(super) fn next_revision<'a>(older: impl Iterator<Item = &'a ReplicaSet>) -> i64 {
    older.filter_map(revision).max().unwrap_or_default().max(0).saturating_add(1)
}

/// How large the Deployment was when this set was last scaled.
pub(super) fn desired_replicas(set: &ReplicaSet) -> Option<i32> {
    non_negative(annotation(set, DESIRED_REPLICAS)?)
}

/// How many pods the Deployment was allowed when this set was last scaled.
pub(super) fn max_replicas(set: &ReplicaSet) -> Option<i32> {
    non_negative(annotation(set, MAX_REPLICAS)?)
}

fn non_negative(text: &str) -> Option<i32> {
    // A sign is no part of an unsigned number in Go.
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok().filter(|number| *number >= 0)
}

/// The annotations that say how large the Deployment is.
pub(super) fn size_annotations(bounds: Bounds) -> [(&'static str, String); 2] {
    [(DESIRED_REPLICAS, bounds.replicas.to_string()), (MAX_REPLICAS, bounds.pods_max().to_string())]
}

/// The annotations of the set with the Deployment's template: its own, the Deployment's, and
/// `revision` where its own is older, which then becomes history.
pub(super) fn annotations(
    set: &ReplicaSet,
    deployment: &Deployment,
    new_revision: i64,
) -> BTreeMap<String, String> {
    let mut annotations = set.metadata.annotations.clone().unwrap_or_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let is_older = revision(set).is_some_and(|old| old < new_revision);
    if !is_older {
        return annotations;
    }
    annotations.insert(REVISION.to_owned(), new_revision.to_string());
    if let Some(old) = old {
        let history = annotations.get(REVISION_HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(history) = longer_history(history, &old) {
            annotations.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    annotations
}

fn longer_history(history: &str, old: &str) -> Option<String> {
    let mut kept: Vec<&str> = history.split(',').filter(|revision| !revision.is_empty()).collect();
    kept.push(old);
    while kept.join(",").len() > HISTORY_BYTES_MAX {
        kept.remove(0);
    }
    (!kept.is_empty()).then(|| kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(annotations: &[(&str, &str)]) -> ReplicaSet {
        let mut set = ReplicaSet::default();
        let owned = annotations.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        set.metadata.annotations = Some(owned.collect());
        set
    }

    #[track_caller]
    fn check(before: &[(&str, &str)], new_revision: i64, expected: &[(&str, &str)]) {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations = Some(BTreeMap::from([
            ("note".to_owned(), "new".to_owned()),
            (REVISION.to_owned(), "77".to_owned()),
            (NOT_COPIED[0].to_owned(), "{}".to_owned()),
        ]));
        let after = annotations(&set(before), &deployment, new_revision);
        let after: Vec<_> = after.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(after, expected);
    }

    #[test]
    fn a_set_that_becomes_new_again_keeps_its_history() {
        check(&[], 1, &[(REVISION, "1"), ("note", "new")]);
        check(&[(REVISION, "3"), ("note", "old")], 3, &[(REVISION, "3"), ("note", "new")]);
        // Older sets may have been deleted since.
        check(&[(REVISION, "3")], 2, &[(REVISION, "3"), ("note", "new")]);
        check(&[(REVISION, "1")], 4, &[(REVISION, "4"), (REVISION_HISTORY, "1"), ("note", "new")]);
        check(
            &[(REVISION, "4"), (REVISION_HISTORY, "1,2")],
            6,
            &[(REVISION, "6"), (REVISION_HISTORY, "1,2,4"), ("note", "new")],
        );
        // Somebody else's text is left alone.
        check(&[(REVISION, "x")], 4, &[(REVISION, "x"), ("note", "new")]);
        check(
            &[("more", "of its own")],
            1,
            &[(REVISION, "1"), ("more", "of its own"), ("note", "new")],
        );
    }

    #[test]
    fn a_history_has_a_limit() {
        let mut history = String::new();
        for revision in 1..2_000 {
            history = longer_history(&history, &revision.to_string()).unwrap();
            assert!(history.len() <= HISTORY_BYTES_MAX);
        }
        assert!(history.ends_with(",1998,1999"));
    }

    #[test]
    fn the_next_revision_is_after_all_that_can_be_read() {
        let sets =
            [set(&[(REVISION, "2")]), set(&[(REVISION, "9x")]), set(&[]), set(&[(REVISION, "5")])];
        assert_eq!(next_revision(sets.iter()), 6);
        assert_eq!(next_revision([].iter()), 1);
    }

    #[test]
    fn sizes_are_read_only_where_they_are_numbers() {
        for (text, expected) in
            [("3", Some(3)), ("0", Some(0)), ("-1", None), ("+1", None), ("x", None), ("", None)]
        {
            assert_eq!(desired_replicas(&set(&[(DESIRED_REPLICAS, text)])), expected, "{text}");
        }
        assert_eq!(max_replicas(&set(&[])), None);
    }
}
