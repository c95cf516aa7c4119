//! A document without some of its places (structured-merge-diff v6, typed/remove.go).

use super::document::Node;
use super::element::Element;
use super::items;
use super::place::{Form, Items, Member, Place};
use super::set::FieldSet;

/// The document without what is in the set. What of it holds nothing any more is null.
#[must_use]
pub fn remove<'a>(place: Place<'a>, document: &Node<'a>, what: &FieldSet<'_>) -> Node<'a> {
    match place.form(Some(document)) {
        Form::Scalar(_) => document.clone(),
        Form::Map(form) => {
            let members = document.members().unwrap_or(&[]);
            if form.is_atomic || members.is_empty() {
                return Node::Null;
            }
            let mut left = Vec::with_capacity(members.len());
            for (name, value) in members {
                let element = Element::Field(name.clone());
                if what.has(&element) {
                    continue;
                }
                let place = match form.member(name) {
                    Member::Declared(place) | Member::Other(place) => place,
                    Member::Unknown => Place::Untyped,
                };
                let value = match what.below(&element) {
                    Some(what) => remove(place, value, what),
                    None => value.clone(),
                };
                left.push((name.clone(), value));
            }
            if left.is_empty() { Node::Null } else { Node::Map(left) }
        }
        Form::List(form) => {
            let list = document.elements().unwrap_or(&[]);
            if matches!(form.items, Items::Atomic) || list.is_empty() {
                return Node::Null;
            }
            let mut left = Vec::with_capacity(list.len());
            for item in list {
                let Ok(element) = items::element(&form, item) else {
                    left.push(item.clone());
                    continue;
                };
                if what.has(&element) {
                    continue;
                }
                left.push(match what.below(&element) {
                    Some(what) => remove(form.element, item, what),
                    None => item.clone(),
                });
            }
            if left.is_empty() { Node::Null } else { Node::List(left) }
        }
    }
}
