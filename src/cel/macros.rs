//! What macros stand for: `has`, the loops over lists and maps with one or two variables,
//! `optMap`, `optFlatMap` and `sortBy`.
//!
//! They are those of upstream's base environment (apiserver pkg/cel/environment/base.go, v1.35):
//! the standard ones (cel-go parser/macro.go), ext.TwoVarComprehensions, OptionalTypes and
//! ext.Lists version 3. `cel.bind` (ext.Bindings) is one where an environment asks for it.

use super::ast::{Entry, Expr, Fold, Kind, Literal};
use super::parser::Nodes;
use super::source::Offset;
use std::borrow::Cow;

/// What loops gather in; no user can write such a name.
pub(super) const ACCUMULATOR: &str = "@result";
const OLD_ACCUMULATOR: &str = "__result__";
const SORT_INPUT: &str = "@__sortBy_input__";

const NOT_A_NAME: &str = "argument must be a simple name";
const OVERWRITES: &str = "iteration variable overwrites accumulator variable";

/// A call of something's member, which may be a macro.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) at: Offset,
    pub(super) target: Expr,
    pub(super) args: Vec<Expr>,
}

#[derive(Debug)]
pub(super) enum Expanded<T> {
    /// No macro; here is what was given.
    Not(T),
    To(Expr),
    /// A macro, used wrongly.
    Wrong(Offset, Cow<'static, str>),
}

type Wrong = (Offset, Cow<'static, str>);

pub(super) fn expand_global(
    nodes: &mut Nodes,
    at: Offset,
    function: &str,
    mut args: Vec<Expr>,
) -> Expanded<Vec<Expr>> {
    if function != "has" || args.len() != 1 {
        return Expanded::Not(args);
    }
    let place = nodes.place(&args[0]);
    match args.remove(0).kind {
        Kind::Select { operand, field, is_test: false } => {
            Expanded::To(nodes.make(at, Kind::Select { operand, field, is_test: true }))
        }
        _ => Expanded::Wrong(place, "invalid argument to has() macro".into()),
    }
}

pub(super) fn expand_member(nodes: &mut Nodes, name: &str, call: Call) -> Expanded<Call> {
    type Expand = fn(&mut Macro<'_>, Call) -> Result<Expr, Wrong>;
    let expand: Expand = match (name, call.args.len()) {
        ("all", 2 | 3) => |m, call| m.quantifier(Quantifier::All, call),
        ("exists", 2 | 3) => |m, call| m.quantifier(Quantifier::Exists, call),
        ("exists_one" | "existsOne", 2 | 3) => |m, call| m.quantifier(Quantifier::One, call),
        ("map", 2 | 3) => |m, call| m.map(call),
        ("filter", 2) => |m, call| m.filter(call),
        ("transformList", 3 | 4) => |m, call| m.transform(Into::List, call),
        ("transformMap", 3 | 4) => |m, call| m.transform(Into::Map, call),
        ("transformMapEntry", 3 | 4) => |m, call| m.transform(Into::Entries, call),
        ("optMap", 2) => |m, call| m.on_optional(true, call),
        ("optFlatMap", 2) => |m, call| m.on_optional(false, call),
        ("sortBy", 2) => |m, call| m.sort_by(call),
        ("bind", 3) if nodes.has_bind && is_cel(&call.target) => |m, call| m.named(call),
        _ => return Expanded::Not(call),
    };
    let mut within = Macro { at: call.at, nodes };
    match expand(&mut within, call) {
        Ok(expr) => Expanded::To(expr),
        Err((at, message)) => Expanded::Wrong(at, message),
    }
}

/// Whether this is the namespace of `cel.bind`.
fn is_cel(target: &Expr) -> bool {
    matches!(&target.kind, Kind::Ident(name) if name == "cel")
}

#[derive(Clone, Copy)]
enum Quantifier {
    All,
    Exists,
    One,
}

#[derive(Clone, Copy)]
enum Into {
    List,
    Map,
    Entries,
}

/// A macro that is being expanded: all its nodes are where it is called.
struct Macro<'n> {
    at: Offset,
    nodes: &'n mut Nodes,
}

impl Macro<'_> {
    fn make(&mut self, kind: Kind) -> Expr {
        self.nodes.make(self.at, kind)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.make(Kind::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.make(Kind::Ident(name.to_owned()))
    }

    fn result(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.make(Kind::Call { function: function.to_owned(), target: None, args })
    }

    fn member(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let target = Some(Box::new(target));
        self.make(Kind::Call { function: function.to_owned(), target, args })
    }

    fn list(&mut self, elements: Vec<Expr>) -> Expr {
        self.make(Kind::List { elements, optional: Vec::new() })
    }

    /// The name of a loop's variable.
    fn variable(&self, expr: &Expr, otherwise: &'static str) -> Result<String, Wrong> {
        let place = self.nodes.place(expr);
        match &expr.kind {
            Kind::Ident(name) if name == ACCUMULATOR || name == OLD_ACCUMULATOR => {
                Err((place, OVERWRITES.into()))
            }
            Kind::Ident(name) => Ok(name.clone()),
            _ => Err((place, otherwise.into())),
        }
    }

    /// The two names at the beginning of the arguments.
    fn variables(&self, args: &[Expr]) -> Result<(String, String), Wrong> {
        let first = self.variable(&args[0], NOT_A_NAME)?;
        let second = self.variable(&args[1], NOT_A_NAME)?;
        if first == second {
            let message = format!("duplicate variable name: {first}");
            return Err((self.nodes.place(&args[1]), message.into()));
        }
        Ok((first, second))
    }

    fn quantifier(&mut self, quantifier: Quantifier, call: Call) -> Result<Expr, Wrong> {
        let mut args = call.args;
        let (variable, second) = if args.len() == 3 {
            let (first, second) = self.variables(&args)?;
            (first, Some(second))
        } else {
            (self.variable(&args[0], NOT_A_NAME)?, None)
        };
        let predicate = args.remove(args.len() - 1);
        let result = self.result();
        let (init, condition, step, result) = match quantifier {
            Quantifier::All => {
                let so_far = self.result();
                let condition = self.call("@not_strictly_false", vec![so_far]);
                let so_far = self.result();
                let step = self.call("_&&_", vec![so_far, predicate]);
                (self.literal(Literal::Bool(true)), condition, step, result)
            }
            Quantifier::Exists => {
                let so_far = self.result();
                let not = self.call("!_", vec![so_far]);
                let condition = self.call("@not_strictly_false", vec![not]);
                let so_far = self.result();
                let step = self.call("_||_", vec![so_far, predicate]);
                (self.literal(Literal::Bool(false)), condition, step, result)
            }
            Quantifier::One => {
                let (so_far, one) = (self.result(), self.literal(Literal::Int(1)));
                let more = self.call("_+_", vec![so_far, one]);
                let same = self.result();
                let step = self.call("_?_:_", vec![predicate, more, same]);
                let one = self.literal(Literal::Int(1));
                let result = self.call("_==_", vec![result, one]);
                let (init, always) = (Literal::Int(0), Literal::Bool(true));
                (self.literal(init), self.literal(always), step, result)
            }
        };
        let accumulator = ACCUMULATOR.to_owned();
        let range = call.target;
        let fold = Fold { range, variable, second, accumulator, init, condition, step, result };
        Ok(self.make(Kind::Fold(Box::new(fold))))
    }

    /// A loop that takes all, into what begins as `init`.
    fn gather(
        &mut self,
        range: Expr,
        names: (String, Option<String>),
        init: Expr,
        step: Expr,
    ) -> Expr {
        let condition = self.literal(Literal::Bool(true));
        let result = self.result();
        let accumulator = ACCUMULATOR.to_owned();
        let (variable, second) = names;
        let fold = Fold { range, variable, second, accumulator, init, condition, step, result };
        self.make(Kind::Fold(Box::new(fold)))
    }

    /// `step` where the filter says so.
    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        let Some(filter) = filter else { return step };
        let same = self.result();
        self.call("_?_:_", vec![filter, step, same])
    }

    fn append(&mut self, element: Expr) -> Expr {
        let so_far = self.result();
        let element = self.list(vec![element]);
        self.call("_+_", vec![so_far, element])
    }

    fn map(&mut self, call: Call) -> Result<Expr, Wrong> {
        let variable = self.variable(&call.args[0], "argument is not an identifier")?;
        Ok(self.map_of(variable, call.target, call.args))
    }

    fn map_of(&mut self, variable: String, range: Expr, mut args: Vec<Expr>) -> Expr {
        let element = args.remove(args.len() - 1);
        let filter = (args.len() == 2).then(|| args.remove(1));
        let init = self.list(Vec::new());
        let step = self.append(element);
        let step = self.filtered(filter, step);
        self.gather(range, (variable, None), init, step)
    }

    fn filter(&mut self, call: Call) -> Result<Expr, Wrong> {
        let mut args = call.args;
        let variable = self.variable(&args[0], "argument is not an identifier")?;
        let predicate = args.remove(1);
        let init = self.list(Vec::new());
        let step = self.append(args.remove(0));
        let step = self.filtered(Some(predicate), step);
        Ok(self.gather(call.target, (variable, None), init, step))
    }

    fn transform(&mut self, into: Into, call: Call) -> Result<Expr, Wrong> {
        let mut args = call.args;
        let (first, second) = self.variables(&args)?;
        let element = args.remove(args.len() - 1);
        let filter = (args.len() == 3).then(|| args.remove(2));
        let init = match into {
            Into::List => self.list(Vec::new()),
            Into::Map | Into::Entries => self.make(Kind::Map(Vec::new())),
        };
        let step = match into {
            Into::List => self.append(element),
            Into::Map => {
                let (so_far, key) = (self.result(), self.ident(&first));
                self.call("cel.@mapInsert", vec![so_far, key, element])
            }
            Into::Entries => {
                let so_far = self.result();
                self.call("cel.@mapInsert", vec![so_far, element])
            }
        };
        let step = self.filtered(filter, step);
        Ok(self.gather(call.target, (first, Some(second)), init, step))
    }

    /// A name for `value` within `result`.
    fn bind(&mut self, name: String, value: Expr, result: Expr) -> Expr {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(&name);
        let fold = Fold {
            range,
            variable: "#unused".to_owned(),
            second: None,
            accumulator: name,
            init: value,
            condition,
            step,
            result,
        };
        self.make(Kind::Fold(Box::new(fold)))
    }

    fn named(&mut self, call: Call) -> Result<Expr, Wrong> {
        let mut args = call.args;
        let (result, value) = (args.remove(2), args.remove(1));
        match &args[0].kind {
            Kind::Ident(name) => Ok(self.bind(name.clone(), value, result)),
            _ => {
                let message = "cel.bind() variable names must be simple identifiers";
                Err((self.nodes.place(&args[0]), message.into()))
            }
        }
    }

    fn on_optional(&mut self, wraps: bool, call: Call) -> Result<Expr, Wrong> {
        let mut args = call.args;
        let place = self.nodes.place(&args[0]);
        let Kind::Ident(name) = &args[0].kind else {
            let message = if wraps {
                "optMap() variable name must be a simple identifier"
            } else {
                "optFlatMap() variable name must be a simple identifier"
            };
            return Err((place, message.into()));
        };
        let name = name.clone();
        let copy = self.copy(&call.target);
        let has_value = self.member("hasValue", call.target, Vec::new());
        let value = self.member("value", copy, Vec::new());
        let mut found = self.bind(name, value, args.remove(1));
        if wraps {
            found = self.call("optional.of", vec![found]);
        }
        let none = self.call("optional.none", Vec::new());
        Ok(self.call("_?_:_", vec![has_value, found, none]))
    }

    fn sort_by(&mut self, call: Call) -> Result<Expr, Wrong> {
        if matches!(call.target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call \
                           or select expression";
            return Err((self.nodes.place(&call.target), message.into()));
        }
        let variable = self.variable(&call.args[0], "argument is not an identifier")?;
        let input = self.ident(SORT_INPUT);
        let keys = self.map_of(variable, input, call.args);
        let input = self.ident(SORT_INPUT);
        let sorted = self.member("@sortByAssociatedKeys", input, vec![keys]);
        Ok(self.bind(SORT_INPUT.to_owned(), call.target, sorted))
    }

    /// The same again, with nodes of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        if self.nodes.is_full() {
            return self.make(Kind::Broken);
        }
        let at = self.nodes.place(expr);
        let kind = match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) | Kind::Broken => expr.kind.clone(),
            Kind::Select { operand, field, is_test } => Kind::Select {
                operand: Box::new(self.copy(operand)),
                field: field.clone(),
                is_test: *is_test,
            },
            Kind::Call { function, target, args } => Kind::Call {
                function: function.clone(),
                target: target.as_ref().map(|target| Box::new(self.copy(target))),
                args: self.copies(args),
            },
            Kind::List { elements, optional } => {
                Kind::List { elements: self.copies(elements), optional: optional.clone() }
            }
            Kind::Map(entries) => Kind::Map(entries.iter().map(|e| self.entry(e)).collect()),
            Kind::Struct { name, values } => {
                Kind::Struct { name: name.clone(), values: self.copies(values) }
            }
            Kind::Fold(fold) => Kind::Fold(Box::new(self.fold(fold))),
        };
        self.nodes.make(at, kind)
    }

    fn copies(&mut self, exprs: &[Expr]) -> Vec<Expr> {
        exprs.iter().map(|expr| self.copy(expr)).collect()
    }

    fn entry(&mut self, entry: &Entry) -> Entry {
        let (key, value) = (self.copy(&entry.key), self.copy(&entry.value));
        Entry { key, value, is_optional: entry.is_optional }
    }

    fn fold(&mut self, fold: &Fold) -> Fold {
        Fold {
            range: self.copy(&fold.range),
            variable: fold.variable.clone(),
            second: fold.second.clone(),
            accumulator: fold.accumulator.clone(),
            init: self.copy(&fold.init),
            condition: self.copy(&fold.condition),
            step: self.copy(&fold.step),
            result: self.copy(&fold.result),
        }
    }
}
