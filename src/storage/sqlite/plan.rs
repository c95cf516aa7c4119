//! Decides a group of commits: which hold, under which revisions, and what is to be written.
//!
//! Start at [`plan()`]. Expectations are evaluated one commit after the other, each against what the
//! ones before it leave behind, so that the group can be written as one transaction afterwards.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::{
    COMMIT_OPS_MAX, Commit, CommitError, Durability, KEY_BYTES_MAX, Key, Op, VALUE_BYTES_MAX,
};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// The newest change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub seq: Seq,
    /// Whether that change gave it a value.
    pub live: bool,
}

/// One row for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub seq: Seq,
    pub key: Key,
    /// `None`: the key is deleted.
    pub value: Option<Bytes>,
    pub previous: Option<Known>,
}

/// Why a commit is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Exists { key: Key },
    Conflict { key: Key, current: Option<Seq> },
}

#[derive(Debug)]
pub(super) struct Plan {
    /// For each commit, in order.
    pub outcomes: Vec<Result<Revision, Refusal>>,
    /// In order.
    pub writes: Vec<Write>,
    /// Whether one of the writes has to be on disk before it is acknowledged.
    pub durable: bool,
    /// The revision after the group.
    pub revision: Revision,
}

/// Decides `commits`. `known` has the newest change of every key in them that has one, and
/// `revision` is the newest so far.
pub(super) fn plan(
    commits: &[Commit],
    mut known: HashMap<Key, Known>,
    mut revision: Revision,
) -> Plan {
    let mut outcomes = Vec::with_capacity(commits.len());
    let mut writes = Vec::with_capacity(commits.len());
    let mut durable = false;
    for commit in commits {
        let refusal = commit.ops.iter().find_map(|op| refuse(op, &known));
        if let Some(refusal) = refusal {
            outcomes.push(Err(refusal));
            continue;
        }
        let mut changes = commit.ops.iter().filter(|op| is_change(op)).enumerate().peekable();
        if changes.peek().is_some() {
            revision = Revision(revision.0 + 1);
            durable |= is_durable(commit);
        }
        for (index, op) in changes {
            let write = write(op, Seq::new(revision, index), &known);
            let newest = Known { seq: write.seq, live: write.value.is_some() };
            known.insert(write.key.clone(), newest);
            writes.push(write);
        }
        outcomes.push(Ok(revision));
    }
    Plan { outcomes, writes, durable, revision }
}

fn refuse(op: &Op, known: &HashMap<Key, Known>) -> Option<Refusal> {
    let current = known.get(op.key()).filter(|known| known.live).map(|known| known.seq);
    match op {
        Op::Create { key, .. } => current.map(|_| Refusal::Exists { key: key.clone() }),
        Op::Update { key, expected, .. }
        | Op::Delete { key, expected }
        | Op::Require { key, expected } => {
            let holds = current.is_some_and(|current| current.revision() == *expected);
            (!holds).then(|| Refusal::Conflict { key: key.clone(), current })
        }
    }
}

fn write(op: &Op, seq: Seq, known: &HashMap<Key, Known>) -> Write {
    let previous = known.get(op.key()).copied();
    Write { seq, key: op.key().clone(), value: op.value().cloned(), previous }
}

fn is_change(op: &Op) -> bool {
    !matches!(op, Op::Require { .. })
}

/// Only updates can be coalesced: then a key that waits for the disk always has a row there, and
/// which keys exist is never in doubt.
fn is_durable(commit: &Commit) -> bool {
    commit.durability == Durability::Durable
        || commit.ops.iter().any(|op| matches!(op, Op::Create { .. } | Op::Delete { .. }))
}

/// Refuses what no state of the store could make right.
pub(super) fn check_limits(commit: &Commit) -> Result<(), CommitError> {
    if commit.ops.len() > COMMIT_OPS_MAX {
        let detail = format!("{} operations, {COMMIT_OPS_MAX} at most", commit.ops.len());
        return Err(CommitError::TooLarge(detail));
    }
    let mut seen = HashSet::new();
    commit.ops.iter().try_for_each(|op| {
        let key = op.key();
        let value_bytes = op.value().map_or(0, Bytes::len);
        let problem = if key.as_str().len() > KEY_BYTES_MAX {
            format!("a key of {} bytes, {KEY_BYTES_MAX} at most", key.as_str().len())
        } else if value_bytes > VALUE_BYTES_MAX {
            format!("{value_bytes} bytes for {key:?}, {VALUE_BYTES_MAX} at most")
        } else if commit.ops.len() > 1 && !seen.insert(key) {
            format!("{key:?} twice")
        } else {
            return Ok(());
        };
        Err(CommitError::TooLarge(problem))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::from(name)
    }

    fn create(name: &str) -> Op {
        Op::Create { key: key(name), value: Bytes::from_static(b"new") }
    }

    fn update(name: &str, expected: u64) -> Op {
        let value = Bytes::from_static(b"newer");
        Op::Update { key: key(name), value, expected: Revision(expected) }
    }

    fn delete(name: &str, expected: u64) -> Op {
        Op::Delete { key: key(name), expected: Revision(expected) }
    }

    fn require(name: &str, expected: u64) -> Op {
        Op::Require { key: key(name), expected: Revision(expected) }
    }

    /// The store is at revision 10; `a` was written at 5, `gone` was deleted at 6.
    fn check(commits: &[&[Op]], outcomes: &str, writes: &str) {
        let at = |revision, live| Known { seq: Seq::new(Revision(revision), 0), live };
        let known = HashMap::from([(key("a"), at(5, true)), (key("gone"), at(6, false))]);
        let durability = Durability::Coalesced;
        let commits: Vec<_> =
            commits.iter().map(|ops| Commit { ops: ops.to_vec(), durability }).collect();
        let plan = plan(&commits, known, Revision(10));
        let shown: Vec<_> = plan.outcomes.iter().map(show_outcome).collect();
        assert_eq!(shown.join(" "), outcomes);
        let shown: Vec<_> = plan.writes.iter().map(show_write).collect();
        assert_eq!(shown.join(" "), writes);
    }

    fn show_outcome(outcome: &Result<Revision, Refusal>) -> String {
        match outcome {
            Ok(revision) => revision.to_string(),
            Err(Refusal::Exists { key }) => format!("exists:{}", key.as_str()),
            Err(Refusal::Conflict { key, current }) => {
                let current = current.map_or("none".into(), |seq| seq.revision().to_string());
                format!("conflict:{}:{current}", key.as_str())
            }
        }
    }

    fn show_write(write: &Write) -> String {
        let sign = if write.value.is_some() { '+' } else { '-' };
        let over = write.previous.map_or("".into(), |it| format!("<{}", it.seq.revision()));
        format!("{sign}{}@{}{over}", write.key.as_str(), write.seq.revision())
    }

    #[test]
    fn expectations_are_evaluated_against_the_commits_before() {
        check(&[&[create("b")], &[create("b")]], "11 exists:b", "+b@11");
        check(&[&[create("b")], &[update("b", 11)]], "11 12", "+b@11 +b@12<11");
        check(&[&[update("a", 5)], &[update("a", 5)]], "11 conflict:a:11", "+a@11<5");
        check(&[&[delete("a", 5)], &[update("a", 5)]], "11 conflict:a:none", "-a@11<5");
        check(&[&[delete("a", 5)], &[create("a")]], "11 12", "-a@11<5 +a@12<11");
        check(&[&[create("gone")]], "11", "+gone@11<6");
        check(&[&[delete("gone", 6)]], "conflict:gone:none", "");
    }

    #[test]
    fn a_commit_happens_whole_or_not_at_all() {
        check(&[&[create("b"), update("a", 4)]], "conflict:a:5", "");
        check(&[&[create("b"), update("a", 5)]], "11", "+b@11 +a@11<5");
        check(&[&[create("b"), create("a")], &[create("b")]], "exists:a 11", "+b@11");
    }

    #[test]
    fn a_commit_that_changes_nothing_takes_no_revision() {
        check(&[&[], &[create("b")], &[]], "10 11 11", "+b@11");
        check(&[&[require("a", 5)], &[create("b")]], "10 11", "+b@11");
    }

    #[test]
    fn what_a_change_rests_on_must_still_be_so() {
        check(&[&[create("b"), require("a", 5)]], "11", "+b@11");
        check(&[&[create("b"), require("a", 4)]], "conflict:a:5", "");
        check(&[&[create("b"), require("gone", 6)]], "conflict:gone:none", "");
        check(&[&[create("b"), require("none", 1)]], "conflict:none:none", "");
        check(&[&[update("a", 5)], &[create("b"), require("a", 5)]], "11 conflict:a:11", "+a@11<5");
        check(&[&[require("a", 5), create("b")], &[delete("a", 5)]], "11 12", "+b@11 -a@12<5");
    }

    #[test]
    fn only_updates_are_coalesced() {
        for (ops, durable) in [
            (vec![update("a", 5)], false),
            (vec![create("b")], true),
            (vec![update("a", 5), delete("b", 6)], true),
            (vec![update("a", 5), require("b", 6)], false),
        ] {
            let commit = Commit { ops, durability: Durability::Coalesced };
            assert_eq!(is_durable(&commit), durable, "{commit:?}");
        }
    }

    #[test]
    fn limits_are_named_when_broken() {
        let check = |ops: Vec<Op>, expected: &str| {
            let result = check_limits(&Commit { ops, durability: Durability::Durable });
            let text = result.err().map_or("ok".into(), |error| error.to_string());
            assert!(text.contains(expected), "{text}");
        };
        check(vec![create("a"), create("b")], "ok");
        check(vec![create("a"), create("a")], r#""a" twice"#);
        check((0..129).map(|n| create(&n.to_string())).collect(), "129 operations");
        check(vec![create(&"k".repeat(KEY_BYTES_MAX + 1))], "a key of 961 bytes");
        let value = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
        check(vec![Op::Create { key: key("big"), value }], r#"1572865 bytes for "big""#);
    }
}
