//! Where objects are in the store: `/{group or "core"}/{plural}/{namespace}/{name}`.

use crate::api::ObjectKey;
use crate::registry::Kind;
use crate::storage::Key;

/// The prefix that all objects of a kind share, or those in one namespace.
pub(super) fn prefix(kind: &Kind, namespace: Option<&str>) -> String {
    let (group, plural) = match &kind.view {
        Some(view) => (&view.group, &view.plural),
        None => (&kind.facts.group, &kind.facts.plural),
    };
    let group = if group.is_empty() { "core" } else { group };
    match namespace {
        Some(namespace) => format!("/{group}/{plural}/{namespace}/"),
        None => format!("/{group}/{plural}/"),
    }
}

pub(super) fn of(kind: &Kind, key: &ObjectKey) -> Key {
    let mut text = prefix(kind, key.namespace.as_deref());
    text.push_str(&key.name);
    Key::from(text)
}

/// The object that a storage key of this kind is of.
pub(super) fn object_key(kind: &Kind, key: &Key) -> ObjectKey {
    let (namespace, name) = segments(kind, key);
    ObjectKey { namespace: namespace.map(str::to_owned), name: name.to_owned() }
}

/// Namespace and name in a storage key of this kind.
pub(super) fn segments<'a>(kind: &Kind, key: &'a Key) -> (Option<&'a str>, &'a str) {
    let mut from_end = key.as_str().rsplit('/');
    let name = from_end.next().unwrap_or_default();
    let namespace = if kind.facts.is_namespaced() { from_end.next() } else { None };
    (namespace, name)
}
