//! A set of fields: which places of a document somebody owns
//! (structured-merge-diff v6, fieldpath/set.go).
//!
//! A place may be a member, have members below it, or both: a list's element is owned as such, and
//! so are its fields. Architecture invariant: a node of the tree is a member or has some below it.

use super::element::Element;
use super::place::{Member, Place};
use std::cmp::Ordering;

/// A set of paths, as a tree. Sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet<'a> {
    pub(super) nodes: Vec<Branch<'a>>,
}

/// What of a set begins with one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch<'a> {
    pub(super) element: Element<'a>,
    pub(super) is_member: bool,
    pub(super) below: FieldSet<'a>,
}

impl Branch<'_> {
    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

/// Elements of two sorted sets side by side.
enum Pair<L, R> {
    Left(L),
    Right(R),
    Both(L, R),
}

fn zip<'a, 'b: 's, 's>(
    left: Vec<Branch<'a>>,
    right: &'s [Branch<'b>],
) -> impl Iterator<Item = Pair<Branch<'a>, &'s Branch<'b>>> {
    let mut left = left.into_iter().peekable();
    let mut right = right.iter().peekable();
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.element.cmp(&other.element),
        };
        Some(match order {
            Ordering::Less => Pair::Left(left.next()?),
            Ordering::Greater => Pair::Right(right.next()?),
            Ordering::Equal => Pair::Both(left.next()?, right.next()?),
        })
    })
}

impl<'a> FieldSet<'a> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds what is at `element`, which comes after all others, unless that is nothing.
    pub(super) fn push(&mut self, element: Element<'a>, is_member: bool, below: Self) {
        debug_assert!(self.nodes.last().is_none_or(|last| last.element < element));
        let branch = Branch { element, is_member, below };
        if !branch.is_empty() {
            self.nodes.push(branch);
        }
    }

    /// The set of the path through fields of these names.
    #[must_use]
    pub fn of_names(names: &[&'a str]) -> Self {
        let mut set = Self::default();
        for (index, name) in names.iter().enumerate().rev() {
            let is_member = index + 1 == names.len();
            set = Self {
                nodes: vec![Branch { element: Element::field(name), is_member, below: set }],
            };
        }
        set
    }

    fn branch(&self, element: &Element<'_>) -> Option<&Branch<'a>> {
        let at = self.nodes.binary_search_by(|branch| branch.element.cmp(element)).ok()?;
        Some(&self.nodes[at])
    }

    /// Whether the child itself is in the set.
    #[must_use]
    pub fn has(&self, element: &Element<'_>) -> bool {
        self.branch(element).is_some_and(|branch| branch.is_member)
    }

    /// What is in the set below the child.
    #[must_use]
    pub fn below(&self, element: &Element<'_>) -> Option<&Self> {
        self.branch(element).map(|branch| &branch.below).filter(|below| !below.is_empty())
    }

    /// Whether the place at the end of the path is in the set.
    #[must_use]
    pub fn has_path(&self, path: &[Element<'_>]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.branch(first).is_some_and(|own| own.below.has_path(rest)),
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: &Self) -> Self {
        let nodes = zip(self.nodes, &other.nodes).map(|pair| match pair {
            Pair::Left(own) => own,
            Pair::Right(other) => other.clone(),
            Pair::Both(own, other) => Branch {
                element: own.element,
                is_member: own.is_member || other.is_member,
                below: own.below.union(&other.below),
            },
        });
        Self { nodes: nodes.collect() }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet<'_>) -> Self {
        let mut set = Self::default();
        let mut push = |own: &Branch<'a>, other: &Branch<'_>| {
            let below = own.below.intersection(&other.below);
            set.push(own.element.clone(), own.is_member && other.is_member, below);
        };
        // Each of the shorter is looked for in the longer: thousands of managers may own a field or
        // two each of an object of which a hundred thousand change.
        if self.nodes.len() <= other.nodes.len() {
            for own in &self.nodes {
                other.branch(&own.element).into_iter().for_each(|other| push(own, other));
            }
        } else {
            for other in &other.nodes {
                self.branch(&other.element).into_iter().for_each(|own| push(own, other));
            }
        }
        set
    }

    /// What is in this and not in the other. What is below a place is a matter of its own.
    #[must_use]
    pub fn difference(self, other: &FieldSet<'_>) -> Self {
        self.without(other, |own, other| {
            own.is_member &= !other.is_member;
            own.below = std::mem::take(&mut own.below).difference(&other.below);
        })
    }

    /// What is in this, and neither in the other nor below anything in it.
    #[must_use]
    pub fn recursive_difference(self, other: &FieldSet<'_>) -> Self {
        self.without(other, |own, other| {
            own.is_member &= !other.is_member;
            let below = std::mem::take(&mut own.below);
            if !other.is_member {
                own.below = below.recursive_difference(&other.below);
            }
        })
    }

    fn without<'b>(self, other: &FieldSet<'b>, cut: impl Fn(&mut Branch<'a>, &Branch<'b>)) -> Self {
        if other.is_empty() {
            return self;
        }
        let nodes = self.nodes.into_iter().filter_map(|mut own| {
            let Some(other) = other.branch(&own.element) else { return Some(own) };
            cut(&mut own, other);
            Some(own).filter(|own| !own.is_empty())
        });
        Self { nodes: nodes.collect() }
    }

    /// What is in this and begins with one of the paths of `wanted`, where a field `*` stands for
    /// every child, and what is on the way there (upstream `FilterIncludeMatches` of prefixes).
    #[must_use]
    pub fn beginning_with(self, wanted: &FieldSet<'_>) -> Self {
        let nodes = self.nodes.into_iter().filter_map(|own| {
            let any = Element::field("*");
            let wanted = wanted.branch(&own.element).or_else(|| wanted.branch(&any))?;
            let mut own = own;
            if !wanted.is_member {
                own.below = own.below.beginning_with(&wanted.below);
            }
            Some(own).filter(|own| !own.is_empty())
        });
        Self { nodes: nodes.collect() }
    }

    /// This with every declared field on the way to a member as a member too (upstream
    /// `EnsureNamedFieldsAreMembers`).
    #[must_use]
    pub fn with_named_fields(mut self, place: Place<'a>) -> Self {
        let (map, list) = (place.map(), place.list());
        for branch in &mut self.nodes {
            if branch.below.is_empty() {
                continue;
            }
            let inner = match &branch.element {
                Element::Field(name) => match map.as_ref().map(|map| map.member(name)) {
                    Some(Member::Declared(place)) => {
                        branch.is_member = true;
                        Some(place)
                    }
                    Some(Member::Other(place)) => Some(place),
                    Some(Member::Unknown) | None => None,
                },
                Element::Key(_) => list.as_ref().map(|list| list.element),
                Element::Value(_) | Element::Index(_) => None,
            };
            if let Some(inner) = inner {
                branch.below = std::mem::take(&mut branch.below).with_named_fields(inner);
            }
        }
        self
    }

    /// Every member as a path, in upstream's order: those of one place before those below.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths("", &mut paths);
        paths
    }

    fn write_paths(&self, prefix: &str, out: &mut Vec<String>) {
        let members = self.nodes.iter().filter(|branch| branch.is_member);
        out.extend(members.map(|branch| format!("{prefix}{}", branch.element)));
        for branch in self.nodes.iter().filter(|branch| !branch.below.is_empty()) {
            branch.below.write_paths(&format!("{prefix}{}", branch.element), out);
        }
    }

    /// Puts branches that came in any order into theirs.
    pub(super) fn of_branches(mut nodes: Vec<Branch<'a>>) -> Self {
        nodes.sort_by(|one, other| one.element.cmp(&other.element));
        let mut set = Self { nodes: Vec::with_capacity(nodes.len()) };
        for branch in nodes {
            match set.nodes.last_mut() {
                Some(last) if last.element == branch.element => {
                    last.is_member |= branch.is_member;
                    last.below = std::mem::take(&mut last.below).union(&branch.below);
                }
                _ => set.nodes.push(branch),
            }
        }
        set
    }
}
