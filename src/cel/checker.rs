//! Finds the type of every part of an expression, or says what cannot be.
//!
//! Start at [`check`]. Follows cel-go checker/checker.go, v0.26, with the options of upstream's base
//! environment: literals of lists and maps are homogeneous, numbers of different types compare.

use super::ast::{Entry, Expr, Fold, Id, Kind, Literal, Tree};
use super::environment::Environment;
use super::signatures::{Overload, named_type, overloads};
use super::source::Report;
use super::types::Type;
use super::unify::Unifier;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a part of an expression refers to.
#[derive(Clone, Debug, Default)]
pub(super) enum Reference {
    #[default]
    None,
    Variable,
    /// The name of a type.
    Type,
    /// A function in all the ways that the types allow.
    Overloads(Vec<Arc<str>>),
}

/// An expression of which all types are known.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) tree: Tree,
    types: Vec<Type>,
    references: Vec<Reference>,
    /// Every name that is used for a value.
    pub(super) names: BTreeSet<String>,
}

impl Checked {
    pub(super) fn ty(&self, id: Id) -> &Type {
        self.types.get(id).unwrap_or(&Type::Error)
    }

    pub(super) fn reference(&self, id: Id) -> &Reference {
        self.references.get(id).unwrap_or(&Reference::None)
    }

    pub(super) fn overloads(&self, id: Id) -> &[Arc<str>] {
        match self.reference(id) {
            Reference::Overloads(names) => names,
            _ => &[],
        }
    }
}

/// Checks a tree; what is wrong goes into the report.
pub(super) fn check(
    mut tree: Tree,
    environment: &Environment,
    report: &mut Report<'_>,
) -> Option<Checked> {
    let nodes = tree.places.len();
    let mut checker = Checker {
        environment,
        scopes: Vec::new(),
        unifier: Unifier::default(),
        types: vec![Type::Error; nodes],
        references: vec![Reference::None; nodes],
        names: BTreeSet::new(),
        problems: Vec::new(),
    };
    checker.expr(&mut tree.root);
    let Checker { mut unifier, types, references, names, problems, .. } = checker;
    for (id, message) in problems {
        report.add(tree.places.get(id).copied().unwrap_or_default(), message);
    }
    let types = types.iter().map(|ty| unifier.settled(ty)).collect();
    if unifier.is_exhausted() {
        report.add_nowhere("the types of this expression are too large");
    }
    report.is_empty().then_some(Checked { tree, types, references, names })
}

struct Checker<'e> {
    environment: &'e Environment,
    /// Variables of the loops around, the innermost last.
    scopes: Vec<(String, Type)>,
    unifier: Unifier,
    types: Vec<Type>,
    references: Vec<Reference>,
    names: BTreeSet<String>,
    problems: Vec<(Id, String)>,
}

/// The arguments of a call.
struct Given {
    /// With the one before the dot, if there is one.
    types: Vec<Type>,
    /// Of those in parentheses.
    ids: Vec<Id>,
    is_member: bool,
}

impl Checker<'_> {
    fn problem(&mut self, id: Id, message: String) {
        self.problems.push((id, message));
    }

    fn mismatch(&mut self, id: Id, wanted: &Type, found: &Type) {
        self.problem(id, format!("expected type '{wanted}' but found '{found}'"));
    }

    fn undeclared(&mut self, id: Id, name: &str) -> Type {
        self.problem(id, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn ty(&self, id: Id) -> Type {
        self.types[id].clone()
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        if self.unifier.is_exhausted() {
            return Type::Error;
        }
        let ty = match &mut expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => {
                let name = name.clone();
                self.ident(expr, &name).unwrap_or_else(|| self.undeclared(id, &name))
            }
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List { elements, optional } => self.list(elements, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, values } => self.structure(id, name, values),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Broken => Type::Error,
        };
        self.types[id] = ty.clone();
        ty
    }

    /// A name for a value, wherever it is declared; the node becomes that name.
    fn ident(&mut self, expr: &mut Expr, written: &str) -> Option<Type> {
        let name = written.strip_prefix('.').unwrap_or(written);
        let local = self.scopes.iter().rev().find(|(known, _)| known == name);
        let variable = local.map(|(_, ty)| ty).or_else(|| self.environment.variable(name)).cloned();
        let (reference, ty) = match variable {
            Some(ty) => (Reference::Variable, ty),
            None => (Reference::Type, Type::Type(Some(Arc::new(named_type(name)?)))),
        };
        self.names.insert(name.to_owned());
        self.references[expr.id] = reference;
        expr.kind = Kind::Ident(name.to_owned());
        Some(ty)
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        if let Some(name) = expr.qualified_name()
            && let Some(ty) = self.ident(expr, &name)
        {
            return ty;
        }
        let id = expr.id;
        let Kind::Select { operand, field, is_test } = &mut expr.kind else { return Type::Error };
        let found = self.field(id, operand, field, false);
        if *is_test { Type::Bool } else { self.unifier.resolved(&found) }
    }

    /// cel-go `checkSelectField`.
    fn field(&mut self, id: Id, operand: &mut Expr, field: &str, is_optional: bool) -> Type {
        let given = self.expr(operand);
        let given = self.unifier.resolved(&given);
        let (target, was_optional) = given.unwrapped();
        let found = match target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(object) => match object.fields().field(field) {
                Some(declared) => declared.to_type(),
                None => {
                    self.problem(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Named(_) => {
                self.problem(id, format!("undefined field '{field}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.unifier.fits(&Type::Dyn, target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    let message = format!("type '{other}' does not support field selection");
                    self.problem(id, message);
                }
                Type::Dyn
            }
        };
        if was_optional || is_optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        let Kind::Call { function, target, args } = &mut expr.kind else { return Type::Error };
        if function == "_?._" {
            return self.optional_select(id, args);
        }
        let mut given: Vec<Type> = args.iter_mut().map(|arg| self.expr(arg)).collect();
        let ids = args.iter().map(|arg| arg.id).collect();
        let Some(operand) = target else {
            let name = function.strip_prefix('.').unwrap_or(function).to_owned();
            let Some(found) = overloads(&name) else { return self.undeclared(id, function) };
            *function = name;
            let given = Given { types: given, ids, is_member: false };
            return self.resolve(id, function, found, &given);
        };
        if let Some(prefix) = operand.qualified_name() {
            let name = format!("{}.{function}", prefix.strip_prefix('.').unwrap_or(&prefix));
            if let Some(found) = overloads(&name) {
                *function = name;
                *target = None;
                let given = Given { types: given, ids, is_member: false };
                return self.resolve(id, function, found, &given);
            }
        }
        given.insert(0, self.expr(operand));
        let given = Given { types: given, ids, is_member: true };
        match overloads(function) {
            Some(found) => self.resolve(id, function, found, &given),
            None => self.undeclared(id, function),
        }
    }

    fn optional_select(&mut self, id: Id, args: &mut [Expr]) -> Type {
        let [operand, field] = args else { return Type::Error };
        let name = field.as_text().unwrap_or_default().to_owned();
        self.types[field.id] = Type::String;
        let found = self.field(id, operand, &name, true);
        self.references[id] = Reference::Overloads(vec!["select_optional_field".into()]);
        self.unifier.resolved(&found)
    }

    /// cel-go `resolveOverload`: every overload that fits is one that may be called.
    fn resolve(&mut self, id: Id, function: &str, overloads: &[Overload], given: &Given) -> Type {
        let mut names = Vec::new();
        let mut result: Option<Type> = None;
        for overload in overloads.iter().filter(|found| found.is_member == given.is_member) {
            if matches!(function, "_&&_" | "_||_") {
                return self.logical(id, overload, given);
            }
            let types = self.unifier.instance(&overload.types);
            if !self.unifier.fits_all(&given.types, &types[1..]) {
                continue;
            }
            names.push(Arc::clone(&overload.name));
            let found = self.unifier.resolved(&types[0]);
            result = Some(match result {
                None => found,
                Some(Type::Dyn) => Type::Dyn,
                Some(before) if self.unifier.same(&found, &before) => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> =
                given.types.iter().map(|ty| self.unifier.settled(ty).to_string()).collect();
            let (target, args) = shown.split_at(usize::from(given.is_member));
            let target = target.first().map(|ty| format!("{ty}.")).unwrap_or_default();
            let args = args.join(", ");
            self.problem(
                id,
                format!(
                    "found no matching overload for '{function}' applied to '{target}({args})'"
                ),
            );
            return Type::Error;
        };
        self.references[id] = Reference::Overloads(names);
        result
    }

    fn logical(&mut self, id: Id, overload: &Overload, given: &Given) -> Type {
        self.references[id] = Reference::Overloads(vec![Arc::clone(&overload.name)]);
        let mut result = Type::Bool;
        for (ty, arg) in given.types.iter().zip(&given.ids) {
            if !self.unifier.fits(ty, &Type::Bool) {
                result = Type::Error;
                self.mismatch(*arg, &Type::Bool, ty);
            }
        }
        result
    }

    /// The type of an element that is only there if it has a value.
    fn optional_element(&mut self, expr: &Expr, ty: Type) -> Type {
        match ty.unwrapped() {
            (inner, true) => inner.clone(),
            (Type::Dyn, _) => ty,
            _ => {
                self.mismatch(expr.id, &Type::optional(ty.clone()), &ty);
                ty
            }
        }
    }

    fn list(&mut self, elements: &mut [Expr], optional: &[usize]) -> Type {
        let mut common: Option<Type> = None;
        for (index, element) in elements.iter_mut().enumerate() {
            let mut ty = self.expr(element);
            if optional.contains(&index) {
                ty = self.optional_element(element, ty);
            }
            common = Some(self.join(common, ty));
        }
        Type::list(common.unwrap_or_else(|| self.unifier.fresh()))
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let mut keys: Option<Type> = None;
        let mut values: Option<Type> = None;
        for entry in entries {
            let key = self.expr(&mut entry.key);
            keys = Some(self.join(keys, key));
            let mut value = self.expr(&mut entry.value);
            if entry.is_optional {
                value = self.optional_element(&entry.value, value);
            }
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.unifier.fresh());
        Type::map(key, values.unwrap_or_else(|| self.unifier.fresh()))
    }

    /// The type of both (cel-go `joinTypes`). That literals are of one type is checked later.
    fn join(&mut self, common: Option<Type>, ty: Type) -> Type {
        let Some(common) = common else { return ty };
        if self.unifier.fits(&common, &ty) {
            return self.unifier.more_general(&common, &ty);
        }
        Type::Dyn
    }

    /// There are no types that expressions can make: what is left is to say so.
    fn structure(&mut self, id: Id, name: &str, values: &mut [Expr]) -> Type {
        let name = name.strip_prefix('.').unwrap_or(name);
        if self.environment.variable(name).is_some() {
            self.problem(id, format!("'{name}' is not a type"));
        } else if named_type(name).is_some() {
            self.problem(id, format!("'{name}' is not a message type"));
        } else {
            self.undeclared(id, name);
        }
        for value in values {
            self.expr(value);
        }
        Type::Error
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.expr(&mut fold.range);
        let gathered = self.expr(&mut fold.init);
        let range = self.unifier.resolved(&range);
        let (first, second) = self.iterated(fold.range.id, &range, fold.second.is_some());
        let outer = self.scopes.len();
        self.scopes.push((fold.accumulator.clone(), gathered.clone()));
        self.scopes.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.expr(&mut fold.condition);
        self.assert(fold.condition.id, &Type::Bool);
        self.expr(&mut fold.step);
        self.assert(fold.step.id, &gathered);
        self.scopes.truncate(outer + 1);
        let result = self.expr(&mut fold.result);
        self.scopes.truncate(outer);
        self.unifier.resolved(&result)
    }

    /// The types of a loop's variables.
    fn iterated(&mut self, id: Id, range: &Type, has_two: bool) -> (Type, Type) {
        match range {
            Type::List(element) if has_two => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Error),
            Type::Map(pair) => (pair.0.clone(), pair.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.fits(&Type::Dyn, range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                self.problem(
                    id,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension \
                         (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        }
    }

    fn assert(&mut self, id: Id, wanted: &Type) {
        let found = self.ty(id);
        if !self.unifier.fits(wanted, &found) {
            self.mismatch(id, wanted, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::Text(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
