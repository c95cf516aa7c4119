//! Whether a document is of its type, as far as merging asks (structured-merge-diff v6,
//! typed/validate.go). The texts reach clients as they are.

use super::document::{Node, Sort};
use super::element::Element;
use super::items;
use super::place::{Form, Items, ListForm, MapForm, Member, Place, Scalar};
use super::problems::Problems;
use std::collections::BTreeSet;

/// # Errors
/// Fields that the type does not have, values of another sort, and list elements that come twice.
pub(super) fn validate(place: Place<'_>, document: &Node<'_>) -> Result<(), Problems> {
    match place.form(Some(document)) {
        Form::Scalar(scalar) => check_scalar(scalar, document),
        Form::Map(form) => check_map(&form, document),
        Form::List(form) => check_list(&form, document),
    }
}

fn check_scalar(scalar: Scalar, node: &Node<'_>) -> Result<(), Problems> {
    if node.sort() == Sort::Null {
        return Ok(());
    }
    let is_number = matches!(node, Node::Int(_) | Node::Float(_));
    let is_bool = matches!(node, Node::Bool(_));
    let fits = match scalar {
        Scalar::Numeric => is_number,
        Scalar::String => node.text().is_some(),
        Scalar::Boolean => is_bool,
        Scalar::Untyped => node.sort() == Sort::Scalar,
    };
    if fits {
        return Ok(());
    }
    Err(Problems::one(match scalar {
        Scalar::Numeric => format!("expected numeric (int or float), got {}", go_type(node)),
        Scalar::String => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(node))
        }
        Scalar::Boolean => format!("expected boolean, got &{{{}}}", node.go()),
        Scalar::Untyped => format!("expected any scalar, got &{{{}}}", node.go()),
    }))
}

/// Go's `%T` of a value in an unstructured object.
fn go_type(node: &Node<'_>) -> &'static str {
    match node.sort() {
        Sort::Map => "map[string]interface {}",
        Sort::List => "[]interface {}",
        Sort::Null => "<nil>",
        Sort::Scalar if node.text().is_some() => "string",
        Sort::Scalar if matches!(node, Node::Bool(_)) => "bool",
        Sort::Scalar if matches!(node, Node::Int(_)) => "int64",
        Sort::Scalar => "float64",
    }
}

/// Go's `%#v` of the same.
fn go_syntax(node: &Node<'_>) -> String {
    if let Some(list) = node.elements() {
        let parts: Vec<_> = list.iter().map(go_syntax).collect();
        return format!("[]interface {{}}{{{}}}", parts.join(", "));
    }
    if let Some(map) = node.members() {
        let part = |(name, value): &(_, Node<'_>)| format!("{name:?}:{}", go_syntax(value));
        let parts: Vec<_> = map.iter().map(part).collect();
        return format!("map[string]interface {{}}{{{}}}", parts.join(", "));
    }
    if node.sort() == Sort::Null { "interface {}(nil)".to_owned() } else { node.in_path() }
}

fn check_map(form: &MapForm<'_>, node: &Node<'_>) -> Result<(), Problems> {
    if node.sort() == Sort::Null {
        return Ok(());
    }
    let Some(members) = node.members() else {
        return Err(Problems::one(format!("expected map, got &{{{}}}", node.go())));
    };
    let mut problems = Problems::default();
    for (name, value) in members {
        let found = match form.member(name) {
            Member::Declared(place) | Member::Other(place) => validate(place, value),
            Member::Unknown => Err(Problems::one("field not declared in schema")),
        };
        if let Err(found) = found {
            problems.extend(found.below(Element::field(name)));
        }
    }
    problems.none()
}

fn check_list(form: &ListForm<'_>, node: &Node<'_>) -> Result<(), Problems> {
    if node.sort() == Sort::Null {
        return Ok(());
    }
    let Some(list) = node.elements() else {
        return Err(Problems::one(format!("expected list, got &{{{}}}", node.go())));
    };
    let mut problems = Problems::default();
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let element = match (form.items, i64::try_from(index)) {
            (Items::Atomic, Ok(index)) => Element::Index(index),
            _ => match items::element(form, item) {
                Ok(element) => element,
                Err(why) => {
                    problems.push(format!("element {index}: {why}"));
                    break;
                }
            },
        };
        if let Err(found) = validate(form.element, item) {
            problems.extend(found.below(&element));
        }
        if seen.contains(&element) {
            problems.push(format!("duplicate entries for key {element}"));
        }
        seen.insert(element);
    }
    problems.none()
}
