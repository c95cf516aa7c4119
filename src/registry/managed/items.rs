//! The elements of lists that are told apart: by a value, or by keys
//! (structured-merge-diff v6, typed/helpers.go).

use super::document::{Node, Sort};
use super::element::Element;
use super::place::{Items, ListForm};
use super::problems::Problems;
use std::borrow::Cow;

/// Upstream `listItemToPathElement`.
pub(super) fn element<'a>(form: &ListForm<'a>, item: &Node<'a>) -> Result<Element<'a>, String> {
    match form.items {
        Items::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        Items::Set => value_element(item),
        Items::Keyed(_) => keyed_element(form, item),
    }
}

fn value_element<'a>(item: &Node<'a>) -> Result<Element<'a>, String> {
    Err(match item.sort() {
        Sort::Scalar => return Ok(Element::Value(item.clone())),
        Sort::Map => "associative list without keys has an element that's a map type",
        Sort::List => "not supported: associative list with lists as elements",
        Sort::Null => "associative list without keys has an element that's an explicit null",
    }
    .to_owned())
}

fn keyed_element<'a>(form: &ListForm<'a>, item: &Node<'a>) -> Result<Element<'a>, String> {
    match item.sort() {
        Sort::Map => {}
        Sort::Null => {
            return Err("associative list with keys may not have a null element".to_owned());
        }
        Sort::Scalar | Sort::List => {
            return Err("associative list with keys may not have non-map elements".to_owned());
        }
    }
    let mut fields = Vec::with_capacity(2);
    for name in form.keys() {
        let value = item.get(name).cloned().or_else(|| form.key_default(name));
        fields.extend(value.map(|value| (Cow::Borrowed(name), value)));
    }
    if fields.is_empty() {
        let names: Vec<_> = form.keys().map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't \
             have default values for any key fields)",
            names.join(" ")
        ));
    }
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Element::Key(fields))
}

/// The elements of a list with what they are called, in the list's order.
///
/// # Errors
/// One problem for each that cannot be told apart.
pub(super) fn named<'a, 'n>(
    form: &ListForm<'a>,
    list: &'n [Node<'a>],
) -> Result<Vec<(Element<'a>, &'n Node<'a>)>, Problems> {
    let mut named = Vec::with_capacity(list.len());
    let mut problems = Problems::default();
    for (index, item) in list.iter().enumerate() {
        match element(form, item) {
            Ok(element) => named.push((element, item)),
            Err(why) => problems.push(format!("element {index}: {why}")),
        }
    }
    problems.none().map(|()| named)
}
