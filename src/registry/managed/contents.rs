//! The set of what a document says: what somebody who applies it owns
//! (structured-merge-diff v6, typed/tofieldset.go).

use super::document::{Node, Sort};
use super::element::Element;
use super::items;
use super::place::{Form, Items, ListForm, MapForm, Member, Place};
use super::set::{Branch, FieldSet};

/// Every leaf and every element of a list that the document mentions.
#[must_use]
pub fn contents<'a>(place: Place<'a>, document: &Node<'a>) -> FieldSet<'a> {
    visit(place, document).1
}

/// Whether the place itself is a member, and what is below it.
fn visit<'a>(place: Place<'a>, node: &Node<'a>) -> (bool, FieldSet<'a>) {
    match place.form(Some(node)) {
        Form::Scalar(_) => (true, FieldSet::default()),
        Form::Map(form) if form.is_atomic => (true, FieldSet::default()),
        Form::List(form) if matches!(form.items, Items::Atomic) => (true, FieldSet::default()),
        Form::Map(form) => (false, visit_members(&form, node)),
        Form::List(form) => (false, visit_items(&form, node)),
    }
}

fn visit_members<'a>(form: &MapForm<'a>, node: &Node<'a>) -> FieldSet<'a> {
    let members = node.members().unwrap_or(&[]);
    let mut set = FieldSet { nodes: Vec::with_capacity(members.len()) };
    for (name, value) in members {
        let member = form.member(name);
        let (is_member, below) = match member {
            Member::Declared(place) | Member::Other(place) => visit(place, value),
            Member::Unknown => continue,
        };
        let is_empty = value.sort() == Sort::Null || value.members().is_some_and(<[_]>::is_empty);
        let is_declared = matches!(member, Member::Declared(_));
        set.push(Element::Field(name.clone()), is_member || is_empty || !is_declared, below);
    }
    set
}

/// Elements of one name are owned together, as a whole.
fn visit_items<'a>(form: &ListForm<'a>, node: &Node<'a>) -> FieldSet<'a> {
    let list = node.elements().unwrap_or(&[]);
    let named = list.iter().filter_map(|item| Some((items::element(form, item).ok()?, item)));
    let mut branches: Vec<_> = named.collect();
    branches.sort_by(|(one, _), (other, _)| one.cmp(other));
    let branches = branches.chunk_by(|(one, _), (other, _)| one == other).map(|group| {
        let below = match group {
            [(_, item)] => visit(form.element, item).1,
            _ => FieldSet::default(),
        };
        Branch { element: group[0].0.clone(), is_member: true, below }
    });
    FieldSet { nodes: branches.collect() }
}
