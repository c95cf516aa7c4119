//! A checked expression in the form in which it is evaluated.
//!
//! Start at [`Program`]. The form follows cel-go's planner (interpreter/planner.go and decorators.go,
//! v0.26) with upstream's optimisations, because run-time costs go by it: selections and
//! indices are parts of the name they begin with, constants cost nothing, and neither does looking
//! for something in a constant list.

use super::ast::{Entry, Expr, Fold, Kind, Literal};
use super::checker::{Checked, Reference};
use super::cost::Range;
use super::functions::{Function, Site, implementation, regexes};
use super::signatures::named_type;
use super::types::Type;
use super::value::{Entries, Items, Key, Map, Value, type_value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An expression that can be evaluated, again and again, by several threads.
#[derive(Debug)]
pub struct Program {
    pub(super) root: Step,
    output: Type,
    cost: Range,
    names: BTreeSet<String>,
}

impl Program {
    /// The type of what it evaluates to.
    #[must_use]
    pub fn output(&self) -> &Type {
        &self.output
    }

    /// What it may cost, by the sizes that its variables are declared to have.
    #[must_use]
    pub fn estimated_cost(&self) -> Range {
        self.cost
    }

    /// Whether it uses a variable.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Brings a checked expression into its form; the text says why that is impossible.
pub(super) fn plan(checked: Checked, cost: Range) -> Result<Program, String> {
    let root = Planner { checked: &checked }.step(&checked.tree.root)?;
    let output = checked.ty(checked.tree.root.id).clone();
    Ok(Program { root, output, cost, names: checked.names })
}

#[derive(Debug)]
pub(super) enum Step {
    Constant(Value<'static>),
    Attribute(Attribute),
    /// Whether what the last qualifier leads to is there.
    Has(Attribute),
    And(Vec<Step>),
    Or(Vec<Step>),
    Equal {
        sides: Box<(Step, Step)>,
        is_negated: bool,
    },
    Call(Call),
    /// `x in [1, 2]`.
    Among {
        value: Box<Step>,
        keys: BTreeSet<Key>,
    },
    /// Elements, and whether each is an optional.
    List(Vec<(Step, bool)>),
    Map(Vec<(Step, Step, bool)>),
    /// The first, if it has a value; else the second. With `is_value` the first is unwrapped.
    Otherwise {
        sides: Box<(Step, Step)>,
        is_value: bool,
    },
    Fold(Box<Loop>),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) site: Site,
    pub(super) run: Option<Function>,
    pub(super) args: Vec<Step>,
}

/// A value, and the way from it to a part of it.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) base: Base,
    pub(super) qualifiers: Vec<Qualifier>,
}

#[derive(Debug)]
pub(super) enum Base {
    Name(String),
    Of(Box<Step>),
    If(Box<(Step, Attribute, Attribute)>),
}

#[derive(Clone, Debug)]
pub(super) struct Qualifier {
    pub(super) key: QualifierKey,
    pub(super) is_optional: bool,
}

#[derive(Clone, Debug)]
pub(super) enum QualifierKey {
    Constant(Value<'static>),
    Found(Arc<Attribute>),
}

#[derive(Debug)]
pub(super) struct Loop {
    pub(super) range: Step,
    pub(super) variable: String,
    pub(super) second: Option<String>,
    pub(super) accumulator: String,
    pub(super) init: Step,
    pub(super) condition: Step,
    pub(super) step: Step,
    pub(super) result: Step,
}

impl Attribute {
    fn of(step: Step) -> Self {
        match step {
            Step::Attribute(attribute) => attribute,
            step => Self { base: Base::Of(Box::new(step)), qualifiers: Vec::new() },
        }
    }

    fn qualify(&mut self, qualifier: Qualifier) {
        match &mut self.base {
            Base::If(branches) => {
                branches.1.qualify(qualifier.clone());
                branches.2.qualify(qualifier);
            }
            _ => self.qualifiers.push(qualifier),
        }
    }
}

struct Planner<'c> {
    checked: &'c Checked,
}

type Planned = Result<Step, String>;

impl Planner<'_> {
    fn step(&self, expr: &Expr) -> Planned {
        match &expr.kind {
            Kind::Literal(literal) => Ok(Step::Constant(constant(literal))),
            Kind::Ident(name) => Ok(self.ident(expr, name)),
            Kind::Select { operand, field, is_test } => self.select(operand, field, *is_test),
            Kind::Call { function, target, args } => {
                let args = target.as_deref().into_iter().chain(args);
                let args = args.map(|arg| self.step(arg)).collect::<Result<Vec<_>, _>>()?;
                self.call(expr, function, args)
            }
            Kind::List { elements, optional } => self.list(elements, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Struct { .. } | Kind::Broken => Err("unknown type".to_owned()),
        }
    }

    fn ident(&self, expr: &Expr, name: &str) -> Step {
        if let Reference::Type = self.checked.reference(expr.id)
            && let Some(ty) = named_type(name)
        {
            return Step::Constant(type_value(&ty));
        }
        Step::Attribute(Attribute { base: Base::Name(name.to_owned()), qualifiers: Vec::new() })
    }

    fn select(&self, operand: &Expr, field: &str, is_test: bool) -> Planned {
        let mut attribute = Attribute::of(self.step(operand)?);
        let key = QualifierKey::Constant(Value::text(field));
        attribute.qualify(Qualifier { key, is_optional: false });
        Ok(if is_test { Step::Has(attribute) } else { Step::Attribute(attribute) })
    }

    fn call(&self, expr: &Expr, function: &str, mut args: Vec<Step>) -> Planned {
        let overload = match self.checked.overloads(expr.id) {
            [only] => only.to_string(),
            _ => String::new(),
        };
        match function {
            "_&&_" => return Ok(Step::And(args)),
            "_||_" => return Ok(Step::Or(args)),
            "_?_:_" => return conditional(args),
            "_==_" | "_!=_" => {
                let sides = Box::new(pair(args)?);
                return Ok(Step::Equal { sides, is_negated: function == "_!=_" });
            }
            "_[_]" | "_[?_]" | "_?._" => return index(args, function != "_[_]"),
            "or" | "orValue" if args.len() == 2 => {
                let sides = Box::new(pair(args)?);
                return Ok(Step::Otherwise { sides, is_value: function == "orValue" });
            }
            "@in" if overload == "in_list" => match args.get(1).map(members) {
                Some(Some(keys)) if keys.is_empty() => {
                    return Ok(Step::Constant(Value::Bool(false)));
                }
                Some(Some(keys)) => {
                    let value = Box::new(args.swap_remove(0));
                    return Ok(Step::Among { value, keys });
                }
                _ => {}
            },
            _ => {}
        }
        let mut site = Site { function: function.to_owned(), overload, regex: None };
        if let ("matches" | "find" | "findAll", Some(Step::Constant(Value::Text(pattern)))) =
            (function, args.get(1))
        {
            site.regex = Some(regexes::compile(pattern)?);
        }
        let run = implementation(function);
        if let (true, Some(run), [Step::Constant(value)]) =
            (is_conversion(function), run, args.as_slice())
        {
            let converted = run(&site, vec![value.clone()]);
            return converted.map(Step::Constant).map_err(|fault| fault.to_string());
        }
        Ok(Step::Call(Call { site, run, args }))
    }

    fn list(&self, elements: &[Expr], optional: &[usize]) -> Planned {
        let mut steps = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            steps.push((self.step(element)?, optional.contains(&index)));
        }
        let constants = steps.iter().map(|(step, is_optional)| match step {
            Step::Constant(value) if !is_optional => Some(value.clone()),
            _ => None,
        });
        Ok(match constants.collect::<Option<Vec<_>>>() {
            Some(values) => Step::Constant(Value::list(values)),
            None => Step::List(steps),
        })
    }

    fn map(&self, entries: &[Entry]) -> Planned {
        let mut steps = Vec::with_capacity(entries.len());
        for entry in entries {
            steps.push((self.step(&entry.key)?, self.step(&entry.value)?, entry.is_optional));
        }
        let mut made = Entries::new();
        for (key, value, is_optional) in &steps {
            let (Step::Constant(key), Step::Constant(value), false) = (key, value, is_optional)
            else {
                return Ok(Step::Map(steps));
            };
            let Some(name) = Key::of(key) else { return Ok(Step::Map(steps)) };
            made.insert(name, (key.clone(), value.clone()));
        }
        Ok(Step::Constant(Value::Map(Map::made(made))))
    }

    fn fold(&self, fold: &Fold) -> Planned {
        Ok(Step::Fold(Box::new(Loop {
            range: self.step(&fold.range)?,
            variable: fold.variable.clone(),
            second: fold.second.clone(),
            accumulator: fold.accumulator.clone(),
            init: self.step(&fold.init)?,
            condition: self.step(&fold.condition)?,
            step: self.step(&fold.step)?,
            result: self.step(&fold.result)?,
        })))
    }
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::Text(text) => Value::text(Arc::clone(text)),
        Literal::Bytes(bytes) => Value::Bytes(Arc::clone(bytes)),
    }
}

fn pair(args: Vec<Step>) -> Result<(Step, Step), String> {
    let pair: [Step; 2] = args.try_into().map_err(|_| "no such overload".to_owned())?;
    let [one, two] = pair;
    Ok((one, two))
}

fn conditional(args: Vec<Step>) -> Planned {
    let three: [Step; 3] = args.try_into().map_err(|_| "no such overload".to_owned())?;
    let [condition, yes, no] = three;
    let branches = Box::new((condition, Attribute::of(yes), Attribute::of(no)));
    Ok(Step::Attribute(Attribute { base: Base::If(branches), qualifiers: Vec::new() }))
}

fn index(args: Vec<Step>, is_optional: bool) -> Planned {
    let (operand, index) = pair(args)?;
    let mut attribute = Attribute::of(operand);
    let key = match index {
        Step::Constant(value) => QualifierKey::Constant(value),
        other => QualifierKey::Found(Arc::new(Attribute::of(other))),
    };
    attribute.qualify(Qualifier { key, is_optional });
    Ok(Step::Attribute(attribute))
}

/// What a constant list of scalars has.
fn members(list: &Step) -> Option<BTreeSet<Key>> {
    let Step::Constant(Value::List(list)) = list else { return None };
    let Items::Made(items) = &list.items else { return None };
    items.iter().map(Key::of).collect()
}

fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "uint"
    )
}
