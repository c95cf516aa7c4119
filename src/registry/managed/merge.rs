//! An applied configuration and the live object, merged: nothing is removed, and where both say
//! something, the configuration holds (structured-merge-diff v6, typed/merge.go).

use super::document::Node;
use super::element::Element;
use super::items;
use super::place::{Form, Items, ListForm, MapForm, Member, Place};
use super::problems::Problems;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The live document with what the configuration says.
///
/// # Errors
/// Where elements of a list cannot be told apart, or come twice in the configuration.
pub fn merge<'a>(
    place: Place<'a>,
    live: &Node<'a>,
    config: &Node<'a>,
) -> Result<Node<'a>, Problems> {
    Ok(visit(place, Some(live), Some(config))?.unwrap_or(Node::Null))
}

fn visit<'a>(
    place: Place<'a>,
    live: Option<&Node<'a>>,
    config: Option<&Node<'a>>,
) -> Result<Option<Node<'a>>, Problems> {
    let (Some(one), Some(other)) = (live, config) else {
        return Ok(config.or(live).cloned());
    };
    // What is of another sort in the live object has nothing to add.
    match place.form(Some(other)) {
        Form::Scalar(_) => Ok(Some(other.clone())),
        Form::Map(form) => {
            let (own, new) = (one.members().unwrap_or(&[]), other.members().unwrap_or(&[]));
            if form.is_atomic || own.len() + new.len() == 0 {
                return Ok(Some(other.clone()));
            }
            merge_members(&form, own, new)
        }
        Form::List(form) => {
            let (own, new) = (one.elements().unwrap_or(&[]), other.elements().unwrap_or(&[]));
            if matches!(form.items, Items::Atomic) || own.len() + new.len() == 0 {
                return Ok(Some(other.clone()));
            }
            merge_items(&form, own, new)
        }
    }
}

fn merge_members<'a>(
    form: &MapForm<'a>,
    live: &[(Cow<'a, str>, Node<'a>)],
    config: &[(Cow<'a, str>, Node<'a>)],
) -> Result<Option<Node<'a>>, Problems> {
    let mut both: BTreeMap<&Cow<'a, str>, (Option<&Node<'a>>, Option<&Node<'a>>)> = BTreeMap::new();
    for (name, node) in live {
        both.entry(name).or_default().0 = Some(node);
    }
    for (name, node) in config {
        both.entry(name).or_default().1 = Some(node);
    }
    let mut merged = Vec::with_capacity(both.len());
    let mut problems = Problems::default();
    for (name, (live, config)) in both {
        let place = match form.member(name) {
            Member::Declared(place) | Member::Other(place) => place,
            Member::Unknown => Place::Untyped,
        };
        match visit(place, live, config) {
            Ok(node) => merged.extend(node.map(|node| (name.clone(), node))),
            Err(found) => problems.extend(found.below(Element::Field(name.clone()))),
        }
    }
    problems.none()?;
    Ok(Some(Node::Map(merged)).filter(|_| !(live.is_empty() && config.is_empty())))
}

/// The order is that of the live list where the configuration does not ask for another, else that
/// of the configuration, with the elements it does not name staying where they were among the
/// others.
fn merge_items<'a>(
    form: &ListForm<'a>,
    live: &[Node<'a>],
    config: &[Node<'a>],
) -> Result<Option<Node<'a>>, Problems> {
    let (live, config) = (items::named(form, live)?, items::named(form, config)?);
    let mut known: BTreeMap<&Element<'a>, Option<&Node<'a>>> = BTreeMap::new();
    for (element, item) in &live {
        // Of elements that come twice none is merged with.
        known.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
    }
    let mut wanted = BTreeSet::new();
    for (element, _) in &config {
        if !wanted.insert(element) {
            return Err(Problems::one(format!("duplicate entries for key {element}")));
        }
    }
    let shared = config.iter().map(|(element, _)| element).filter(|name| known.contains_key(name));
    let null = Node::Null;
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    for step in order(&live, &config, &wanted, shared.collect()) {
        let node = match step {
            Step::Live(index) => Some(live[index].1.clone()),
            Step::Config(index) => {
                let (element, item) = &config[index];
                let own = known.get(element).map(|item| item.unwrap_or(&null));
                visit(form.element, own, Some(item)).map_err(|found| found.below(element))?
            }
        };
        merged.extend(node);
    }
    Ok(Some(Node::List(merged)).filter(|_| !(live.is_empty() && config.is_empty())))
}

/// Which element comes next, of those of a list.
enum Step {
    Live(usize),
    /// Merged with the live element of its name.
    Config(usize),
}

type Named<'a, 'n> = [(Element<'a>, &'n Node<'a>)];

fn order<'a>(
    live: &Named<'a, '_>,
    config: &Named<'a, '_>,
    wanted: &BTreeSet<&Element<'a>>,
    shared: Vec<&Element<'a>>,
) -> Vec<Step> {
    let mut steps = Vec::with_capacity(live.len().max(config.len()));
    let mut shared = shared.into_iter();
    let mut awaited = shared.next();
    let mut done = BTreeSet::new();
    let (mut at_live, mut at_config) = (0, 0);
    while at_live < live.len() || at_config < config.len() {
        if let (Some((own, _)), Some((new, _))) = (live.get(at_live), config.get(at_config)) {
            if own == new {
                done.insert(new);
                steps.push(Step::Config(at_config));
                (at_live, at_config) = (at_live + 1, at_config + 1);
                awaited = shared.next();
                continue;
            }
            if wanted.contains(own) && awaited.is_some_and(|awaited| awaited != own) {
                // The configuration has it at another place.
                at_live += 1;
                continue;
            }
        }
        if let Some((own, _)) = live.get(at_live) {
            if !wanted.contains(own) {
                steps.push(Step::Live(at_live));
                at_live += 1;
                continue;
            }
            if done.contains(own) {
                at_live += 1;
            }
        }
        if let Some((new, _)) = config.get(at_config) {
            done.insert(new);
            steps.push(Step::Config(at_config));
            at_config += 1;
            if awaited == Some(new) {
                awaited = shared.next();
            }
        }
    }
    steps
}
