//! What an expression is after it has been read: a tree with its macros expanded.
//!
//! Architecture invariant: no tree is deeper than [`DEPTH_MAX`] and none has more than [`NODES_MAX`]
//! nodes; the parser refuses what would be. Walkers may recurse for that reason.

use super::source::Offset;
use std::sync::Arc;

/// How many nodes may be above each other. Upstream's parser gives up at the same number
/// (`maxRecursionDepth`), counted before macros are expanded.
pub(super) const DEPTH_MAX: u16 = 250;
/// How many nodes an expression may have after its macros are expanded; `optMap` copies.
pub(super) const NODES_MAX: usize = 100_000;

/// Which node; an index for what is known of nodes.
pub(super) type Id = usize;

#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) id: Id,
    /// How many nodes are above each other from here down.
    pub(super) depth: u16,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(String),
    Select {
        operand: Box<Expr>,
        field: String,
        is_test: bool,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List {
        elements: Vec<Expr>,
        optional: Vec<usize>,
    },
    Map(Vec<Entry>),
    /// There are no types that could be made so; the values of the fields are checked all the same.
    Struct {
        name: String,
        values: Vec<Expr>,
    },
    Fold(Box<Fold>),
    /// What could not be read and has been reported.
    Broken,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Expr,
    pub(super) value: Expr,
    pub(super) is_optional: bool,
}

/// What macros become: a loop over a list or map, with an accumulator.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) range: Expr,
    pub(super) variable: String,
    /// The value beside its key or index, with two variables.
    pub(super) second: Option<String>,
    pub(super) accumulator: String,
    pub(super) init: Expr,
    pub(super) condition: Expr,
    pub(super) step: Expr,
    pub(super) result: Expr,
}

impl Fold {
    /// Whether this only gives a value a name (cel-go `coster.isBind`).
    pub(super) fn is_binding(&self) -> bool {
        let is_empty =
            matches!(&self.range.kind, Kind::List { elements, .. } if elements.is_empty());
        let is_never = matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)));
        is_empty && is_never && self.accumulator != "__result__"
    }
}

/// An expression with the place of each of its nodes.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Expr,
    pub(super) places: Vec<Offset>,
}

impl Expr {
    /// What is directly below.
    pub(super) fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) | Kind::Broken => Vec::new(),
            Kind::Select { operand, .. } => vec![operand],
            Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).collect(),
            Kind::List { elements, .. } => elements.iter().collect(),
            Kind::Map(entries) => {
                entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect()
            }
            Kind::Struct { values, .. } => values.iter().collect(),
            Kind::Fold(fold) => {
                vec![&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]
            }
        }
    }

    /// The dotted name that this may be, as `a.b.c`.
    pub(super) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select { operand, field, is_test: false } => {
                Some(format!("{}.{field}", operand.qualified_name()?))
            }
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Literal(Literal::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        match self.kind {
            Kind::Literal(Literal::Int(value)) => Some(value),
            _ => None,
        }
    }
}
