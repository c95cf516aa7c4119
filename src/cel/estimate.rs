//! What an expression may cost at most, before it is ever evaluated.
//!
//! Start at [`estimate`]. Follows `checker.Cost` of cel-go (checker/cost.go, v0.26) with upstream's
//! options; which rules a CustomResourceDefinition may have depends on it to the last unit, so
//! its oddities are kept: a size is looked up by a path of which the first name is not looked at.

use super::ast::{Expr, Fold, Id, Kind, Literal};
use super::checker::Checked;
use super::cost::{LIST_CREATE, MAP_CREATE, Range, SELECT, STRUCT_CREATE};
use super::declared::Declared;
use super::estimate_calls::{self, Estimate};
use super::macros::ACCUMULATOR;
use super::types::Type;
use std::collections::HashMap;
use std::sync::Arc;

/// The cost of a checked expression. `root` says how large the fields are that it looks at.
pub(super) fn estimate(checked: &Checked, root: Option<&Arc<Declared>>) -> Range {
    let mut estimator = Estimator {
        checked,
        root,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(&checked.tree.root)
}

/// How large the keys and values of a list or map are.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntrySize {
    is_list: bool,
    key: Range,
    pub(super) value: Range,
}

impl EntrySize {
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

#[derive(Clone, Debug)]
struct Local {
    name: String,
    path: Vec<String>,
    size: Option<Range>,
    entries: Option<EntrySize>,
}

/// A part of an expression, with what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Node<'e> {
    pub(super) path: Vec<String>,
    pub(super) ty: Type,
    pub(super) expr: Option<&'e Expr>,
    pub(super) size: Option<Range>,
}

/// Walks an expression once.
pub(super) struct Estimator<'c> {
    checked: &'c Checked,
    root: Option<&'c Arc<Declared>>,
    paths: HashMap<Id, Vec<String>>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, EntrySize>,
    locals: Vec<Local>,
}

/// A call that is being estimated, with the costs of its arguments.
pub(super) struct Call<'e> {
    pub(super) expr: &'e Expr,
    pub(super) function: &'e str,
    pub(super) overload: &'e str,
    pub(super) target: Option<Node<'e>>,
    pub(super) args: Vec<Node<'e>>,
    pub(super) costs: Vec<Range>,
}

impl<'c> Estimator<'c> {
    fn cost(&mut self, expr: &'c Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) | Kind::Broken => Range::NOTHING,
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.clone()],
                };
                self.paths.insert(expr.id, path);
                Range::fixed(SELECT)
            }
            Kind::Select { operand, is_test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => self.select(expr, operand, field),
            Kind::Call { .. } => self.call(expr),
            Kind::List { elements, .. } => self.list(expr, elements),
            Kind::Map(_) => self.map(expr),
            Kind::Struct { values, .. } => {
                let values = values.iter().map(|value| self.cost(value));
                values.fold(Range::fixed(STRUCT_CREATE), Range::plus)
            }
            Kind::Fold(fold) if fold.is_binding() => self.binding(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn path(&self, expr: &Expr) -> Vec<String> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn path_below(&self, expr: &Expr, name: &str) -> Vec<String> {
        let mut path = self.path(expr);
        path.push(name.to_owned());
        path
    }

    fn select(&mut self, expr: &'c Expr, operand: &'c Expr, field: &str) -> Range {
        let mut sum = self.cost(operand);
        let ty = self.checked.ty(operand.id);
        if matches!(ty, Type::Map(_) | Type::Object(_) | Type::Named(_) | Type::Param(_)) {
            sum = sum.plus(Range::fixed(SELECT));
        }
        let path = self.path_below(operand, field);
        self.paths.insert(expr.id, path);
        sum
    }

    fn node(&mut self, expr: &'c Expr) -> Node<'c> {
        let mut path = self.path(expr);
        if path.first().is_some_and(|name| name == ACCUMULATOR || name == "__result__") {
            path.clear();
        }
        let size = self.size(expr);
        Node { path, ty: self.checked.ty(expr.id).clone(), expr: Some(expr), size }
    }

    fn call(&mut self, expr: &'c Expr) -> Range {
        let Kind::Call { function, target, args } = &expr.kind else { return Range::NOTHING };
        if let ("dyn", [arg]) = (function.as_str(), args.as_slice()) {
            let cost = self.cost(arg).plus(Range::fixed(1));
            self.copy_sizes(expr, arg);
            return cost;
        }
        let mut nodes = Vec::new();
        let mut costs = Vec::new();
        for arg in args {
            costs.push(self.cost(arg));
            nodes.push(self.node(arg));
        }
        let checked = self.checked;
        let overloads = checked.overloads(expr.id);
        if overloads.is_empty() {
            return Range::NOTHING;
        }
        let mut sum = Range::NOTHING;
        let mut receiver = None;
        if let Some(target) = target {
            sum = self.cost(target);
            receiver = Some(self.node(target));
        }
        let mut call = Call { expr, function, overload: "", target: receiver, args: nodes, costs };
        let mut cost = Range::NONE;
        let mut size: Option<Range> = None;
        for overload in overloads {
            call.overload = overload;
            let found = estimate_calls::estimate(self, &call);
            cost = cost.union(found.cost);
            if let Some(result) = found.size {
                size = Some(size.map_or(result, |size| size.union(result)));
            }
            self.index(expr, overload, args, &mut size);
            if size.is_none() {
                size = self.size(expr);
            }
        }
        self.set_size(expr, size);
        sum.plus(cost)
    }

    /// What an index leads to has a path, and the size of an entry.
    fn index(&mut self, expr: &Expr, overload: &str, args: &'c [Expr], size: &mut Option<Range>) {
        let name = match overload {
            "index_list" => "@items",
            "index_map" => "@values",
            _ => return,
        };
        if let Some(arg) = args.first() {
            *size = self.entry_size(arg).map(|entry| entry.value);
            let path = self.path_below(arg, name);
            self.paths.insert(expr.id, path);
        }
    }

    fn list(&mut self, expr: &'c Expr, elements: &'c [Expr]) -> Range {
        let mut sum = Range::fixed(LIST_CREATE);
        let mut size = if elements.is_empty() { Range::NOTHING } else { Range::NONE };
        for element in elements {
            sum = sum.plus(self.cost(element));
            size = size.union(self.size_or_unknown(element));
        }
        let entry = EntrySize { is_list: true, key: Range::fixed(1), value: size };
        self.entries.insert(expr.id, entry);
        sum
    }

    fn map(&mut self, expr: &'c Expr) -> Range {
        let Kind::Map(entries) = &expr.kind else { return Range::NOTHING };
        let mut sum = Range::fixed(MAP_CREATE);
        let none = if entries.is_empty() { Range::NOTHING } else { Range::NONE };
        let (mut key, mut value) = (none, none);
        for entry in entries {
            sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
            key = key.union(self.size_or_unknown(&entry.key));
            value = value.union(self.size_or_unknown(&entry.value));
        }
        self.entries.insert(expr.id, EntrySize { is_list: false, key, value });
        sum
    }

    fn push_local(&mut self, name: &str, expr: &'c Expr) {
        let size = self.size(expr);
        let (path, entries) = (self.path(expr), self.entry_size(expr));
        self.locals.push(Local { name: name.to_owned(), path, size, entries });
    }

    /// One of a loop's variables: the key or index, or the value.
    fn push_iterated(&mut self, name: &str, range: &Expr, is_value: bool) {
        let entry = self.entry_size(range);
        let is_list = entry.map_or_else(
            || matches!(self.checked.ty(range.id), Type::List(_)),
            |entry| entry.is_list,
        );
        let below = match (is_value, is_list) {
            (true, true) => "@items",
            (true, false) => "@values",
            (false, true) => "@indices",
            (false, false) => "@keys",
        };
        let size = entry.map(|entry| if is_value { entry.value } else { entry.key });
        let path = self.path_below(range, below);
        self.locals.push(Local { name: name.to_owned(), path, size, entries: None });
    }

    fn fold(&mut self, expr: &'c Expr, fold: &'c Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let outer = self.locals.len();
        self.push_local(&fold.accumulator, &fold.init);
        match &fold.second {
            Some(second) => {
                self.push_iterated(&fold.variable, &fold.range, false);
                self.push_iterated(second, &fold.range, true);
            }
            None => {
                let is_list = self.entry_size(&fold.range).map_or_else(
                    || matches!(self.checked.ty(fold.range.id), Type::List(_)),
                    |entry| entry.is_list,
                );
                self.push_iterated(&fold.variable, &fold.range, is_list);
            }
        }
        let condition = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        self.locals.truncate(outer + 1);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(outer);
        let count = self.size_or_unknown(&fold.range);
        sum = sum.plus(count.times(step.plus(condition)));
        match &fold.init.kind {
            Kind::Literal(_) => {
                let size = self.size(&fold.init);
                self.set_size(expr, size);
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.set_size(expr, Some(count));
                if let Some(entry) = self.entry_size(&fold.step) {
                    self.entries.insert(expr.id, entry);
                }
            }
            _ => {}
        }
        sum
    }

    fn binding(&mut self, expr: &'c Expr, fold: &'c Fold) -> Range {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let outer = self.locals.len();
        self.push_local(&fold.accumulator, &fold.init);
        let sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(outer);
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        let size = self.size(from);
        self.set_size(to, size);
        self.set_entries(to, self.entry_size(from));
    }

    fn set_size(&mut self, expr: &Expr, size: Option<Range>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
    }

    pub(super) fn set_entries(&mut self, expr: &Expr, entries: Option<EntrySize>) {
        if let Some(entries) = entries {
            self.entries.insert(expr.id, entries);
        }
    }

    pub(super) fn entry_size(&self, expr: &Expr) -> Option<EntrySize> {
        if let Some(found) = self.entries.get(&expr.id) {
            return Some(*found);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    /// The entry sizes of two, if both are known.
    pub(super) fn entries_of_both(&self, one: &Node<'_>, two: &Node<'_>) -> Option<EntrySize> {
        Some(self.entry_size(one.expr?)?.union(self.entry_size(two.expr?)?))
    }

    /// cel-go `computeSize`.
    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(found) = self.sizes.get(&expr.id) {
            return Some(*found);
        }
        if let Some(count) = literal_size(expr) {
            return Some(Range::fixed(count));
        }
        if let Some(found) = self.declared_size(&self.path(expr)) {
            self.sizes.insert(expr.id, found);
            return Some(found);
        }
        if is_scalar(self.checked.ty(expr.id)) {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    /// Upstream `sizeEstimator.EstimateSize`: the first name of a path is not looked at.
    pub(super) fn declared_size(&self, path: &[String]) -> Option<Range> {
        let declared = self.root?.at(path.get(1..)?)?;
        Some(Range { min: 0, max: declared.max_elements })
    }
}

impl Estimate {
    pub(super) fn of(cost: Range) -> Self {
        Self { cost, size: None }
    }
}

fn literal_size(expr: &Expr) -> Option<u64> {
    let size = match &expr.kind {
        Kind::Literal(Literal::Text(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    u64::try_from(size).ok()
}

fn is_scalar(ty: &Type) -> bool {
    match ty.unwrapped() {
        (inner, true) => is_scalar(inner),
        (ty, _) => matches!(
            ty,
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint
        ),
    }
}
