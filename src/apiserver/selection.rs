//! Which stored objects a list or watch shows, decided with as little reading as can be.
//!
//! Namespace and name come from the key, labels from the metadata alone; the object itself is
//! decoded only where a field selector names something of its own.

use super::encoding::splice;
use super::keys;
use super::query::Query;
use crate::api::Status;
use crate::api::fields::FieldSelector;
use crate::api::labels::Selector;
use crate::registry::{Kind, KindRef};
use crate::storage::Key;
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

/// What is selected, and where in the store it can be.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    kind: KindRef,
    labels: Selector,
    fields: FieldSelector,
    /// Whether `fields` names something beyond name and namespace.
    needs_decoding: bool,
    /// Where to look.
    pub(super) place: Place,
}

/// Where in the store the selected objects can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Under this prefix.
    Prefix(String),
    /// This key only.
    Key(Key),
    /// Nowhere: the selector contradicts the path.
    Nowhere,
}

impl Selection {
    /// What the query selects of the objects in `namespace`, or in all namespaces.
    ///
    /// # Errors
    /// A bad request for a selector that cannot be read or names fields that the kind does not offer.
    /// A `name` that the path has is a selector too.
    pub(super) fn parse(
        kind: &KindRef,
        (namespace, name): (Option<&str>, Option<&str>),
        query: &Query,
    ) -> Result<Self, Status> {
        let labels = match query.text("labelSelector") {
            None => Selector::everything(),
            Some(text) => text.parse().map_err(|error| Status::bad_request(format!("{error}")))?,
        };
        let mut fields: FieldSelector = match query.text("fieldSelector") {
            None => FieldSelector::default(),
            Some(text) => text.parse().map_err(|error| Status::bad_request(format!("{error}")))?,
        };
        if let Some(name) = name {
            fields.require(NAME, name);
        }
        let needs_decoding = check_fields(kind, &fields)?;
        let place = place(kind, namespace, &fields);
        Ok(Self { kind: kind.clone(), labels, fields, needs_decoding, place })
    }

    /// Whether everything at [`Selection::place`] is selected, so that nothing need be looked at.
    pub(super) fn is_everything(&self) -> bool {
        let by_key = |term: &crate::api::fields::Term| {
            term.comparison == crate::api::fields::Comparison::Equal
                && (term.field == NAMESPACE || term.field == NAME)
        };
        // Equalities of name and namespace are in the place, except a name across namespaces.
        let in_place = match &self.place {
            Place::Prefix(_) => {
                self.fields.terms().iter().all(|term| by_key(term) && term.field == NAMESPACE)
            }
            Place::Key(_) | Place::Nowhere => self.fields.terms().iter().all(by_key),
        };
        self.labels.is_everything() && in_place
    }

    /// Whether a key can be that of a selected object: a prefix also covers longer names.
    pub(super) fn covers(&self, key: &Key) -> bool {
        match &self.place {
            Place::Prefix(prefix) => key.as_str().starts_with(prefix.as_str()),
            Place::Key(wanted) => key == wanted,
            Place::Nowhere => false,
        }
    }

    /// Whether this stored object is selected.
    pub(super) fn matches(&self, key: &Key, stored: &[u8]) -> bool {
        self.labels_match(stored) && self.fields_match(key, stored)
    }

    fn labels_match(&self, stored: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Labelled<'a> {
            #[serde(borrow, default)]
            labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
        }
        if self.labels.is_everything() {
            return true;
        }
        let metadata = splice::read_metadata::<Labelled<'_>>(stored);
        let labels = metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
        self.labels.matches_by(|key| labels.get(key).map(Cow::as_ref))
    }

    fn fields_match(&self, key: &Key, stored: &[u8]) -> bool {
        if self.fields.is_everything() {
            return true;
        }
        let (namespace, name) = keys::segments(&self.kind, key);
        let object = match self.needs_decoding.then(|| self.kind.decode_stored(stored)) {
            None => None,
            Some(Ok(object)) => Some(object),
            Some(Err(_unreadable)) => return false,
        };
        let own = object.as_ref().map(|object| object.selectable_fields()).unwrap_or_default();
        self.fields.matches_by(|field| match field {
            NAME => Some(name),
            NAMESPACE => namespace,
            other => own.iter().find(|(name, _)| *name == other).map(|(_, value)| value.as_str()),
        })
    }
}

/// Whether the selector names fields of the kind's own.
fn check_fields(kind: &Kind, fields: &FieldSelector) -> Result<bool, Status> {
    let mut needs_decoding = false;
    for term in fields.terms() {
        if term.field == NAME {
            continue;
        }
        let offered = offered_fields(kind);
        // Kinds that list their fields list the namespace where they have one; the others take it
        // (upstream `DefaultMetaV1FieldSelectorConversion` and the conversions of each kind).
        if term.field == NAMESPACE && (kind.facts.is_namespaced() || offered.is_empty()) {
            continue;
        }
        if !offered.contains(&term.field) {
            return Err(Status::bad_request(if offered.is_empty() {
                format!(
                    "{:?} is not a known field selector: only \"metadata.name\", \
                     \"metadata.namespace\"",
                    term.field
                )
            } else {
                format!("field label not supported: {}", term.field)
            }));
        }
        needs_decoding = true;
    }
    Ok(needs_decoding)
}

/// The fields of its own that a kind offers, which an empty object of it tells.
fn offered_fields(kind: &Kind) -> Vec<String> {
    let facts = &kind.facts;
    let empty = json!({"apiVersion": facts.api_version(), "kind": facts.kind, "metadata": {}});
    let Ok(object) = kind.decode(empty) else { return Vec::new() };
    object.selectable_fields().into_iter().map(|(name, _)| name.into_owned()).collect()
}

fn place(kind: &Kind, namespace: Option<&str>, fields: &FieldSelector) -> Place {
    if fields.is_contradictory() {
        return Place::Nowhere;
    }
    let namespace = match (namespace, fields.required(NAMESPACE)) {
        (Some(path), Some(selected)) if path != selected => return Place::Nowhere,
        // What belongs to the cluster is in no namespace.
        (None, Some(selected)) if !kind.facts.is_namespaced() && !selected.is_empty() => {
            return Place::Nowhere;
        }
        (path, selected) => path.or(selected).filter(|_| kind.facts.is_namespaced()),
    };
    let prefix = keys::prefix(kind, namespace);
    let is_one_name = namespace.is_some() || !kind.facts.is_namespaced();
    match fields.required(NAME) {
        Some("") => Place::Nowhere,
        Some(name) if is_one_name => Place::Key(Key::from(prefix + name)),
        _ => Place::Prefix(prefix),
    }
}
