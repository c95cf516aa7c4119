//! What is to be done about each file: pure.
//!
//! Start at [`plan`]. All files are looked at together, because an object may go from one to another:
//! it belongs to the file that has it already, or else to the first in the order of names.

use super::kind::AddOn;
use super::object::{Identity, ObjectId, ServedKinds};
use crate::stdx::fnv1a_32;
use std::collections::{BTreeMap, BTreeSet};

/// Names of objects may have 253 characters; a mark may come after this.
const NAME_BYTES_MAX: usize = 200;

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileView {
    Objects {
        checksum: String,
        ids: Vec<ObjectId>,
    },
    /// It cannot be understood.
    Broken {
        message: String,
    },
    /// It is skipped, or somebody is writing it: nothing is done about it now.
    Kept,
}

/// All that a plan is made of.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    /// By their paths below the directory.
    pub(super) files: &'a BTreeMap<String, FileView>,
    /// What is remembered, by the path of the file.
    pub(super) addons: &'a BTreeMap<String, AddOn>,
    /// Those to be applied although they have not changed.
    pub(super) due: &'a BTreeSet<String>,
    pub(super) kinds: &'a ServedKinds,
}

/// What is to be done about one file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) source: String,
    /// The name of its AddOn.
    pub(super) name: String,
    /// As it is now, where there is one.
    pub(super) addon: Option<AddOn>,
    pub(super) todo: Todo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    Apply {
        checksum: String,
        ids: Vec<ObjectId>,
        /// Others of the file that are another AddOn's, and whose.
        disputed: Vec<(ObjectId, String)>,
        /// What went from the file, and is in no other.
        stale: Vec<ObjectId>,
    },
    /// Says what is wrong with the file, and leaves everything as it is.
    Complain { message: String },
    /// The file is gone.
    Remove { stale: Vec<ObjectId> },
}

/// Decides for all files, in the order of their names.
pub(super) fn plan(observed: &Observed<'_>) -> Vec<Job> {
    let names = names(observed);
    let owners = owners(observed);
    let mut jobs = Vec::new();
    for (source, file) in observed.files {
        let addon = observed.addons.get(source);
        let todo = match file {
            FileView::Kept => continue,
            FileView::Broken { message } => Todo::Complain { message: message.clone() },
            FileView::Objects { checksum, ids } => {
                if addon.is_some() && !observed.due.contains(source) {
                    continue;
                }
                let (mut own, mut disputed) = (Vec::new(), Vec::new());
                for id in ids {
                    match owners.get(&observed.kinds.identity(id)) {
                        Some(owner) if *owner != source.as_str() => {
                            disputed.push((id.clone(), names[*owner].clone()));
                        }
                        _ => own.push(observed.kinds.placed(id)),
                    }
                }
                Todo::Apply {
                    checksum: checksum.clone(),
                    ids: own,
                    disputed,
                    stale: stale(addon, &owners, observed.kinds),
                }
            }
        };
        let name = names[source.as_str()].clone();
        jobs.push(Job { source: source.clone(), name, addon: addon.cloned(), todo });
    }
    for (source, addon) in observed.addons {
        if !observed.files.contains_key(source) {
            let todo = Todo::Remove { stale: stale(Some(addon), &owners, observed.kinds) };
            let name = addon.name().to_owned();
            jobs.push(Job { source: source.clone(), name, addon: Some(addon.clone()), todo });
        }
    }
    jobs
}

/// What is remembered of a file and in none any more.
fn stale(
    addon: Option<&AddOn>,
    owners: &BTreeMap<Identity, &str>,
    kinds: &ServedKinds,
) -> Vec<ObjectId> {
    let objects = addon.into_iter().flat_map(AddOn::objects);
    objects.filter(|id| !owners.contains_key(&kinds.identity(id))).cloned().collect()
}

/// Whose each object is that is in a file. A file that is not understood has what it had.
fn owners<'a>(observed: &'a Observed<'_>) -> BTreeMap<Identity, &'a str> {
    let mut owners = BTreeMap::new();
    let mut rest = Vec::new();
    for (source, file) in observed.files {
        let addon = observed.addons.get(source);
        let remembered: BTreeSet<Identity> = addon
            .iter()
            .flat_map(|it| it.objects())
            .map(|id| observed.kinds.identity(id))
            .collect();
        match file {
            FileView::Objects { ids, .. } => {
                for identity in ids.iter().map(|id| observed.kinds.identity(id)) {
                    if remembered.contains(&identity) {
                        owners.entry(identity).or_insert(source.as_str());
                    } else {
                        rest.push((identity, source.as_str()));
                    }
                }
            }
            FileView::Broken { .. } | FileView::Kept => {
                for identity in remembered {
                    owners.entry(identity).or_insert(source.as_str());
                }
            }
        }
    }
    for (identity, source) in rest {
        owners.entry(identity).or_insert(source);
    }
    owners
}

/// The name of each file's AddOn: the one it has, or else one that is free.
fn names<'a>(observed: &'a Observed<'_>) -> BTreeMap<&'a str, String> {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (source, addon) in observed.addons {
        taken.insert(addon.name().to_owned());
        names.insert(source, addon.name().to_owned());
    }
    for source in observed.files.keys() {
        if !names.contains_key(source.as_str()) {
            let plain = plain_name(source);
            let marked = || format!("{plain}-{:08x}", fnv1a_32(source.bytes()));
            let name = if taken.contains(&plain) { marked() } else { plain };
            taken.insert(name.clone());
            names.insert(source, name);
        }
    }
    names
}

/// `apps/Web_1.yaml` is `apps-web-1`.
fn plain_name(source: &str) -> String {
    let stem = source.rsplit_once('.').map_or(source, |(stem, _)| stem);
    let mut name = String::new();
    for letter in stem.chars().map(|letter| letter.to_ascii_lowercase()) {
        let is_plain = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let letter = if is_plain { letter } else { '-' };
        if (is_plain || !name.ends_with('-')) && name.len() < NAME_BYTES_MAX {
            name.push(letter);
        }
    }
    let name = name.trim_matches('-');
    if name.is_empty() { "manifest".to_owned() } else { name.to_owned() }
}

/// When an object is applied: what others rest on comes before them. Objects are pruned the other way
/// round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// What others are in, or are of.
    Ground,
    /// What pods look for when they are made.
    Settings,
    /// What makes pods, and custom resources.
    Work,
    /// What is asked about every write, and may not run before the others do.
    Gates,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::Ground, Self::Settings, Self::Work, Self::Gates];

    pub(super) fn of(id: &ObjectId) -> Self {
        match (id.group(), id.kind.as_str()) {
            ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                Self::Ground
            }
            ("", "Pod" | "ReplicationController") | ("apps" | "batch", _) => Self::Work,
            ("admissionregistration.k8s.io", _) => Self::Gates,
            ("" | "autoscaling" | "policy", _) => Self::Settings,
            (group, _) if group.ends_with(".k8s.io") => Self::Settings,
            _custom => Self::Work,
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
