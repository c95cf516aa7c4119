//! What has changed from one document to another
//! (structured-merge-diff v6, typed/compare.go).

use super::document::Node;
use super::element::Element;
use super::items;
use super::place::{Form, Items, ListForm, MapForm, Member, Place};
use super::problems::Problems;
use super::set::FieldSet;

/// The places that differ between two documents. No place is in two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison<'a> {
    pub removed: FieldSet<'a>,
    pub modified: FieldSet<'a>,
    pub added: FieldSet<'a>,
}

impl<'a> Comparison<'a> {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// This with each set changed.
    #[must_use]
    pub(super) fn map(self, mut change: impl FnMut(FieldSet<'a>) -> FieldSet<'a>) -> Self {
        Self {
            removed: change(self.removed),
            modified: change(self.modified),
            added: change(self.added),
        }
    }

    fn push(&mut self, element: Element<'a>, found: Found<'a>) {
        let Found { here, below, .. } = found;
        self.removed.push(element.clone(), here.removed, below.removed);
        self.modified.push(element.clone(), here.modified, below.modified);
        self.added.push(element, here.added, below.added);
    }
}

/// What has happened to a place itself.
#[derive(Clone, Copy, Debug, Default)]
struct Here {
    removed: bool,
    modified: bool,
    added: bool,
}

/// What has happened at a place and below it.
#[derive(Debug, Default)]
struct Found<'a> {
    here: Here,
    below: Comparison<'a>,
    /// The place was compared as a whole.
    is_leaf: bool,
}

/// Compares two documents of one type.
///
/// # Errors
/// Where elements of a list cannot be told apart.
pub fn compare<'a>(
    place: Place<'a>,
    old: &Node<'a>,
    new: &Node<'a>,
) -> Result<Comparison<'a>, Problems> {
    visit(place, Sides { old: Some(old), new: Some(new) }).map(|found| found.below)
}

/// One place in both documents; at least one of them has it.
#[derive(Clone, Copy, Debug)]
struct Sides<'n, 'a> {
    old: Option<&'n Node<'a>>,
    new: Option<&'n Node<'a>>,
}

fn visit<'a>(place: Place<'a>, sides: Sides<'_, 'a>) -> Result<Found<'a>, Problems> {
    let mut found = Found::default();
    let (old, new) = (place.form(sides.old), place.form(sides.new));
    match sides {
        Sides { new: None, .. } => handle(&old, sides, &mut found)?,
        Sides { old: Some(_), .. } if old.sort() != new.sort() => {
            // A value of another sort: what was goes, what is comes.
            handle(&old, sides, &mut found)?;
            let gone = std::mem::take(&mut found);
            handle(&new, sides, &mut found)?;
            found.here.modified |= gone.here.modified;
            found.below = Comparison {
                removed: found.below.removed.union(&gone.below.removed),
                modified: found.below.modified.union(&gone.below.modified),
                added: found.below.added.union(&gone.below.added),
            };
        }
        Sides { .. } => handle(&new, sides, &mut found)?,
    }
    if !found.is_leaf {
        found.here.added |= sides.old.is_none();
        found.here.removed |= sides.new.is_none();
    }
    Ok(found)
}

fn handle<'a>(
    form: &Form<'a>,
    sides: Sides<'_, 'a>,
    found: &mut Found<'a>,
) -> Result<(), Problems> {
    match form {
        Form::Scalar(_) => leaf(sides, found),
        Form::Map(form) => {
            let members =
                |node: Option<&Node<'a>>| node.and_then(Node::members).unwrap_or(&[]).len();
            if form.is_atomic || members(sides.old) + members(sides.new) == 0 {
                leaf(sides, found);
            } else {
                visit_members(form, sides, &mut found.below)?;
            }
        }
        Form::List(form) => {
            let length =
                |node: Option<&Node<'a>>| node.and_then(Node::elements).unwrap_or(&[]).len();
            // Empty and null are told apart.
            if matches!(form.items, Items::Atomic) || length(sides.old) + length(sides.new) == 0 {
                leaf(sides, found);
            } else {
                visit_items(form, sides, &mut found.below)?;
            }
        }
    }
    Ok(())
}

fn leaf(sides: Sides<'_, '_>, found: &mut Found<'_>) {
    found.is_leaf = true;
    match (sides.old, sides.new) {
        (None, _) => found.here.added = true,
        (_, None) => found.here.removed = true,
        (Some(old), Some(new)) => found.here.modified |= old != new,
    }
}

fn visit_members<'a>(
    form: &MapForm<'a>,
    sides: Sides<'_, 'a>,
    below: &mut Comparison<'a>,
) -> Result<(), Problems> {
    let mut old = sides.old.and_then(Node::members).unwrap_or(&[]).iter().peekable();
    let mut new = sides.new.and_then(Node::members).unwrap_or(&[]).iter().peekable();
    loop {
        let (name, sides) = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some((name, _)), other) if other.is_none_or(|(other, _)| name < other) => {
                (name, Sides { old: old.next().map(|(_, node)| node), new: None })
            }
            (Some((one, _)), Some((name, _))) if one == name => {
                let old = old.next().map(|(_, node)| node);
                (name, Sides { old, new: new.next().map(|(_, node)| node) })
            }
            (_, Some((name, _))) => {
                (name, Sides { old: None, new: new.next().map(|(_, node)| node) })
            }
            (Some(_), None) => unreachable!("taken by the second arm"),
        };
        // Equal members are most members, and nothing changes in them.
        if sides.old.is_some() && sides.old == sides.new {
            continue;
        }
        let place = match form.member(name) {
            Member::Declared(place) | Member::Other(place) => place,
            Member::Unknown => Place::Untyped,
        };
        let element = Element::Field(name.clone());
        let found = visit(place, sides).map_err(|problems| problems.below(&element))?;
        below.push(element, found);
    }
}

fn visit_items<'a>(
    form: &ListForm<'a>,
    sides: Sides<'_, 'a>,
    below: &mut Comparison<'a>,
) -> Result<(), Problems> {
    let old = items::named(form, sides.old.and_then(Node::elements).unwrap_or(&[]))?;
    let new = items::named(form, sides.new.and_then(Node::elements).unwrap_or(&[]))?;
    let mut all: Vec<_> = old.into_iter().map(|(element, item)| (element, true, item)).collect();
    all.extend(new.into_iter().map(|(element, item)| (element, false, item)));
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    for group in all.chunk_by(|(one, ..), (other, ..)| one == other) {
        let element = group[0].0.clone();
        let of = |is_old: bool| {
            group.iter().filter(move |(_, own, _)| *own == is_old).map(|(_, _, item)| *item)
        };
        let found = visit_group(form, of(true).collect(), of(false).collect())
            .map_err(|problems| problems.below(&element))?;
        below.push(element, found);
    }
    Ok(())
}

/// The elements of one name. Several of them count as one thing, owned as a whole.
fn visit_group<'a>(
    form: &ListForm<'a>,
    old: Vec<&Node<'a>>,
    new: Vec<&Node<'a>>,
) -> Result<Found<'a>, Problems> {
    let mut found = Found::default();
    match (&old[..], &new[..]) {
        ([] | [_], [] | [_]) => {
            let sides = Sides { old: old.first().copied(), new: new.first().copied() };
            return visit(form.element, sides);
        }
        ([_, _, ..], [_, _, ..]) => found.here.modified = old != new,
        ([_, _, ..], rest) => {
            if let [new] = rest {
                found = visit(form.element, Sides { old: None, new: Some(new) })?;
            }
            found.here.removed = true;
        }
        (rest, _) => {
            if let [old] = rest {
                found = visit(form.element, Sides { old: Some(old), new: None })?;
            }
            found.here.added = true;
        }
    }
    Ok(found)
}
