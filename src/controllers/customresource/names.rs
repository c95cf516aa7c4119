//! Which of the names that a definition asks for it can have (upstream
//! `calculateNamesAndConditions`, apiextensions pkg/controller/status/naming_controller.go, v1.35).

use crate::controllers::definition::Definition;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames as Names;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Which names are accepted, and why not all of those that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accepted {
    pub(super) names: Names,
    /// Reason and message of the last conflict.
    pub(super) conflict: Option<(&'static str, String)>,
}

/// What others of the group have.
#[derive(Default)]
struct Taken<'a> {
    resources: BTreeSet<&'a str>,
    kinds: BTreeSet<&'a str>,
}

impl<'a> Taken<'a> {
    fn by(others: &'a [Arc<Definition>]) -> Self {
        let mut taken = Self::default();
        for other in others {
            let names = &other.status.accepted_names;
            taken.resources.insert(&names.plural);
            taken.resources.extend(names.singular.as_deref());
            taken.resources.extend(names.short_names.iter().flatten().map(String::as_str));
            taken.kinds.insert(&names.kind);
            taken.kinds.extend(names.list_kind.as_deref());
        }
        taken
    }
}

/// Upstream `equalToAcceptedOrFresh`.
fn conflict(wanted: &str, accepted: &str, taken: &BTreeSet<&str>) -> Option<String> {
    (wanted != accepted && taken.contains(wanted)).then(|| format!("{wanted:?} is already in use"))
}

pub(super) fn accept(definition: &Definition, others: &[Arc<Definition>]) -> Accepted {
    let (wanted, before) = (&definition.spec.names, &definition.status.accepted_names);
    let taken = Taken::by(others);
    let mut accepted = Accepted { names: before.clone(), conflict: None };
    match conflict(&wanted.plural, &before.plural, &taken.resources) {
        Some(why) => accepted.conflict = Some(("PluralConflict", why)),
        None => accepted.names.plural.clone_from(&wanted.plural),
    }
    match optional(&wanted.singular, &before.singular, &taken.resources) {
        Some(why) => accepted.conflict = Some(("SingularConflict", why)),
        None => accepted.names.singular.clone_from(&wanted.singular),
    }
    match short_names(wanted, before, &taken) {
        Some(why) => accepted.conflict = Some(("ShortNamesConflict", why)),
        None => accepted.names.short_names.clone_from(&wanted.short_names),
    }
    match conflict(&wanted.kind, &before.kind, &taken.kinds) {
        Some(why) => accepted.conflict = Some(("KindConflict", why)),
        None => accepted.names.kind.clone_from(&wanted.kind),
    }
    match optional(&wanted.list_kind, &before.list_kind, &taken.kinds) {
        Some(why) => accepted.conflict = Some(("ListKindConflict", why)),
        None => accepted.names.list_kind.clone_from(&wanted.list_kind),
    }
    accepted.names.categories.clone_from(&wanted.categories);
    accepted
}

fn optional(
    wanted: &Option<String>,
    accepted: &Option<String>,
    taken: &BTreeSet<&str>,
) -> Option<String> {
    let text = |name: &'_ Option<String>| name.clone().unwrap_or_default();
    conflict(&text(wanted), &text(accepted), taken)
}

fn short_names(wanted: &Names, before: &Names, taken: &Taken<'_>) -> Option<String> {
    let own: BTreeSet<_> = before.short_names.iter().flatten().collect();
    let fresh = wanted.short_names.iter().flatten().filter(|name| !own.contains(name));
    let conflicts: Vec<_> = fresh.filter_map(|name| conflict(name, "", &taken.resources)).collect();
    match conflicts.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        // As Go shows several errors.
        several => Some(format!("[{}]", several.join(", "))),
    }
}
