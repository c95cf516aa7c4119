//! What becomes of a set when the schema has changed since it was written: what is atomic now is
//! owned as a whole (structured-merge-diff v6, typed/reconcile_schema.go).

use super::element::Element;
use super::place::{Form, Items, Member, Place};
use super::set::FieldSet;

/// The set as it is by the schema of today.
#[must_use]
pub(super) fn reconcile<'a>(place: Place<'a>, set: FieldSet<'a>) -> FieldSet<'a> {
    let form = place.form(None);
    let mut nodes = set.nodes;
    for branch in nodes.iter_mut().filter(|branch| !branch.below.is_empty()) {
        let inner = match (&form, &branch.element) {
            (Form::Map(form), Element::Field(name)) => match form.member(name) {
                Member::Declared(place) | Member::Other(place) => place,
                Member::Unknown => continue,
            },
            (Form::List(form), _) => form.element,
            _ => continue,
        };
        let is_atomic = match inner.form(None) {
            // Free-form JSON is atomic or granular as its values are.
            Form::Map(form) => form.is_atomic && !form.is_free(),
            Form::List(form) => matches!(form.items, Items::Atomic),
            Form::Scalar(_) => false,
        };
        if is_atomic {
            branch.is_member = true;
            branch.below = FieldSet::default();
        } else {
            branch.below = reconcile(inner, std::mem::take(&mut branch.below));
        }
    }
    FieldSet { nodes }
}
