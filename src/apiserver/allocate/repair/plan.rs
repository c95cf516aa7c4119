//! The decision about records that do not agree with the Services (upstream pkg/registry/core/
//! service/ipallocator/controller/repairip.go, v1.35). There is less to do here: a record is written
//! in the same commit as its Service, so only what others do to it has to be mended.

use super::super::taking::{Owner, Record};
use crate::api::Revision;
use std::collections::BTreeMap;

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The Service that it names, where it names one.
    pub(super) owner: Option<Owner>,
    /// Whether it is one of ours: others keep addresses by IPAddresses, too.
    pub(super) is_own: bool,
    pub(super) revision: Revision,
}

/// What is done about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// The Service shows what no record says is its own.
    Give { record: Record, owner: Owner, replaces: Option<Revision> },
    /// No Service has it any more.
    Remove { record: Record, revision: Revision },
    /// Two Services show the same. One of them has to be made anew, which is for users to do.
    Contested { record: Record, owner: Owner, other: Owner },
}

/// `claims` is what Services show, of each record all who show it.
pub(super) fn plan(claims: &[(Record, Owner)], found: &BTreeMap<Record, Found>) -> Vec<Mend> {
    let mut by_record: BTreeMap<Record, Vec<&Owner>> = BTreeMap::new();
    for (record, owner) in claims {
        by_record.entry(*record).or_default().push(owner);
    }
    let mut mends = Vec::new();
    for (record, owners) in &by_record {
        let known = found.get(record);
        let named = known.and_then(|known| known.owner.as_ref());
        let rightful = owners.iter().find(|owner| named == Some(**owner)).or(owners.first());
        let Some(rightful) = rightful else { continue };
        if named != Some(*rightful) || known.is_some_and(|known| !known.is_own) {
            mends.push(Mend::Give {
                record: *record,
                owner: (*rightful).clone(),
                replaces: known.map(|known| known.revision),
            });
        }
        let others = owners.iter().filter(|owner| *owner != rightful);
        mends.extend(others.map(|other| Mend::Contested {
            record: *record,
            owner: (*rightful).clone(),
            other: (*other).clone(),
        }));
    }
    let left =
        found.iter().filter(|(record, known)| known.is_own && !by_record.contains_key(record));
    mends.extend(
        left.map(|(record, known)| Mend::Remove { record: *record, revision: known.revision }),
    );
    mends
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Record = Record::NodePort(30_000);

    fn owner(name: &str) -> Owner {
        Owner::named("default", name)
    }

    /// `found` is the Service that the record names, with `!` where it is not one of ours, and `-`
    /// where there is none.
    #[track_caller]
    fn check(claims: &[&str], found: &str, expected: &str) {
        let claims: Vec<_> = claims.iter().map(|name| (ADDRESS, owner(name))).collect();
        let name = found.trim_start_matches('!');
        let known = Found {
            owner: (!name.is_empty()).then(|| owner(name)),
            is_own: !found.starts_with('!'),
            revision: Revision(7),
        };
        let found = if found == "-" { BTreeMap::new() } else { BTreeMap::from([(ADDRESS, known)]) };
        let shown = plan(&claims, &found).into_iter().map(|mend| match mend {
            Mend::Give { owner, replaces, .. } => {
                let how = if replaces.is_some() { "replace" } else { "give" };
                format!("{how} {}", owner.key().name)
            }
            Mend::Remove { .. } => "remove".to_owned(),
            Mend::Contested { owner, other, .. } => {
                format!("{} against {}", owner.key().name, other.key().name)
            }
        });
        assert_eq!(shown.collect::<Vec<_>>().join(", "), expected);
    }

    #[test]
    fn records_follow_the_services() {
        check(&["web"], "web", "");
        check(&["web"], "-", "give web");
        check(&["web"], "other", "replace web");
        check(&["web"], "!", "replace web");
        check(&["web"], "!web", "replace web");
        check(&[], "web", "remove");
        check(&[], "!web", "");
        check(&[], "!", "");
    }

    #[test]
    fn who_is_named_has_what_two_show() {
        check(&["a", "b"], "b", "b against a");
        check(&["a", "b"], "-", "give a, a against b");
    }
}
