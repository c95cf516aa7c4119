//! Which type fits which, and what that says of types that are still open.
//!
//! Follows cel-go checker/types.go, v0.26. The work is counted: types can be much larger than the
//! expression that they come from.

use super::types::{Param, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// Steps that checking one expression may take; beyond, it is refused.
const STEPS_MAX: u64 = 2_000_000;

/// What has been found out of open types.
#[derive(Debug, Default)]
pub(super) struct Unifier {
    known: HashMap<Param, Type>,
    /// What was known before, for when an attempt fails.
    undo: Vec<(Param, Option<Type>)>,
    fresh: u32,
    steps: u64,
}

/// Whether a type can stand in for an open one, and whether something was known of that.
struct Substitution {
    is_valid: bool,
    was_known: bool,
}

impl Unifier {
    /// Whether the checker has worked too much.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps > STEPS_MAX
    }

    fn step(&mut self) -> bool {
        self.steps += 1;
        !self.is_exhausted()
    }

    pub(super) fn fresh(&mut self) -> Type {
        self.fresh += 1;
        Type::Param(Param::Fresh(self.fresh - 1))
    }

    fn learn(&mut self, param: Param, ty: Type) {
        let before = self.known.insert(param, ty);
        self.undo.push((param, before));
    }

    /// Whether all pairs fit; if not, nothing is learned.
    pub(super) fn fits_all(&mut self, given: &[Type], wanted: &[Type]) -> bool {
        self.undo.clear();
        let fits = given.len() == wanted.len()
            && given.iter().zip(wanted).all(|(given, wanted)| self.fits_now(given, wanted));
        if !fits {
            while let Some((param, before)) = self.undo.pop() {
                match before {
                    Some(ty) => self.known.insert(param, ty),
                    None => self.known.remove(&param),
                };
            }
        }
        fits
    }

    /// cel-go `isAssignable`.
    pub(super) fn fits(&mut self, given: &Type, wanted: &Type) -> bool {
        self.fits_all(std::slice::from_ref(given), std::slice::from_ref(wanted))
    }

    /// cel-go `internalIsAssignable`.
    fn fits_now(&mut self, one: &Type, two: &Type) -> bool {
        if !self.step() {
            return false;
        }
        if let Type::Param(param) = two {
            let found = self.substitutes(one, *param);
            if found.is_valid || found.was_known {
                return found.is_valid;
            }
        }
        if let Type::Param(param) = one {
            return self.substitutes(two, *param).is_valid;
        }
        match (one, two) {
            (one, two) if one.is_dyn_or_error() || two.is_dyn_or_error() => true,
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::List(one), Type::List(two)) => self.fits_now(one, two),
            (Type::Map(one), Type::Map(two)) => {
                self.fits_now(&one.0, &two.0) && self.fits_now(&one.1, &two.1)
            }
            (Type::Opaque(a, one), Type::Opaque(b, two)) => {
                a == b
                    && match (one, two) {
                        (Some(one), Some(two)) => self.fits_now(one, two),
                        (one, two) => one.is_none() && two.is_none(),
                    }
            }
            (Type::Type(_), Type::Type(_)) => true,
            (one, two) => is_same_plain(one, two),
        }
    }

    /// cel-go `isValidTypeSubstitution`.
    fn substitutes(&mut self, ty: &Type, param: Param) -> Substitution {
        let valid = |was_known| Substitution { is_valid: true, was_known };
        if is_param(ty, param) {
            return valid(true);
        }
        if let Some(known) = self.known.get(&param).cloned() {
            if self.same(ty, &known) {
                return valid(true);
            }
            if !self.fits_now(ty, &known) {
                return Substitution { is_valid: false, was_known: true };
            }
            let general = self.more_general(ty, &known);
            if self.is_free_of(param, &general) {
                self.learn(param, general);
            }
            return valid(true);
        }
        if !self.is_free_of(param, ty) {
            return Substitution { is_valid: false, was_known: false };
        }
        self.learn(param, ty.clone());
        valid(false)
    }

    /// cel-go `notReferencedIn`: an open type may not be part of what it stands for.
    fn is_free_of(&mut self, param: Param, within: &Type) -> bool {
        if !self.step() {
            return false;
        }
        match within {
            Type::Param(other) if *other == param => false,
            Type::Param(other) => match self.known.get(other).cloned() {
                Some(known) => self.is_free_of(param, &known),
                None => true,
            },
            Type::List(inner) | Type::Opaque(_, Some(inner)) | Type::Type(Some(inner)) => {
                self.is_free_of(param, inner)
            }
            Type::Map(pair) => self.is_free_of(param, &pair.0) && self.is_free_of(param, &pair.1),
            _ => true,
        }
    }

    /// The less specific of two that fit (cel-go `mostGeneral`).
    pub(super) fn more_general(&mut self, one: &Type, two: &Type) -> Type {
        if self.is_as_general(one, two) { one.clone() } else { two.clone() }
    }

    fn is_as_general(&mut self, one: &Type, two: &Type) -> bool {
        if !self.step() {
            return false;
        }
        match (one, two) {
            (Type::Dyn | Type::Param(_), _) => true,
            (_, Type::Dyn | Type::Param(_)) => false,
            (Type::List(one), Type::List(two)) => self.is_as_general(one, two),
            (Type::Map(one), Type::Map(two)) => {
                self.is_as_general(&one.0, &two.0) && self.is_as_general(&one.1, &two.1)
            }
            (Type::Opaque(a, Some(one)), Type::Opaque(b, Some(two))) => {
                a == b && self.is_as_general(one, two)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (one, two) => is_same_plain(one, two),
        }
    }

    /// Whether two types are the same to the last part.
    pub(super) fn same(&mut self, one: &Type, two: &Type) -> bool {
        if !self.step() {
            return false;
        }
        match (one, two) {
            (Type::List(one), Type::List(two)) => self.same(one, two),
            (Type::Map(one), Type::Map(two)) => {
                Arc::ptr_eq(one, two) || (self.same(&one.0, &two.0) && self.same(&one.1, &two.1))
            }
            (Type::Opaque(a, Some(one)), Type::Opaque(b, Some(two))) => {
                a == b && self.same(one, two)
            }
            (Type::Type(Some(one)), Type::Type(Some(two))) => self.same(one, two),
            (Type::Type(None), Type::Type(None)) => true,
            (Type::Param(one), Type::Param(two)) => one == two,
            (one, two) => is_same_plain(one, two),
        }
    }

    /// With what is known put in for what was open (cel-go `substitute`).
    pub(super) fn resolved(&mut self, ty: &Type) -> Type {
        self.substituted(ty, false)
    }

    /// Likewise, and what is still open can be anything.
    pub(super) fn settled(&mut self, ty: &Type) -> Type {
        self.substituted(ty, true)
    }

    fn substituted(&mut self, ty: &Type, settles: bool) -> Type {
        if !self.step() {
            return Type::Error;
        }
        match ty {
            Type::Param(param) => match self.known.get(param).cloned() {
                Some(known) => self.substituted(&known, settles),
                None if settles => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(inner) => Type::list(self.substituted(inner, settles)),
            Type::Map(pair) => {
                let key = self.substituted(&pair.0, settles);
                Type::map(key, self.substituted(&pair.1, settles))
            }
            Type::Opaque(name, Some(inner)) => {
                Type::Opaque(name, Some(Arc::new(self.substituted(inner, settles))))
            }
            Type::Type(Some(inner)) => Type::Type(Some(Arc::new(self.substituted(inner, settles)))),
            plain => plain.clone(),
        }
    }

    /// A declaration's types with open types of their own for its letters.
    pub(super) fn instance(&mut self, types: &[Type]) -> Vec<Type> {
        let mut letters = HashMap::new();
        types.iter().map(|ty| self.instantiated(ty, &mut letters)).collect()
    }

    fn instantiated(&mut self, ty: &Type, letters: &mut HashMap<char, Type>) -> Type {
        match ty {
            Type::Param(Param::Declared(letter)) => match letters.get(letter) {
                Some(found) => found.clone(),
                None => {
                    let fresh = self.fresh();
                    letters.insert(*letter, fresh.clone());
                    fresh
                }
            },
            Type::List(inner) => Type::list(self.instantiated(inner, letters)),
            Type::Map(pair) => {
                let key = self.instantiated(&pair.0, letters);
                Type::map(key, self.instantiated(&pair.1, letters))
            }
            Type::Opaque(name, Some(inner)) => {
                Type::Opaque(name, Some(Arc::new(self.instantiated(inner, letters))))
            }
            Type::Type(Some(inner)) => {
                Type::Type(Some(Arc::new(self.instantiated(inner, letters))))
            }
            plain => plain.clone(),
        }
    }
}

fn is_param(ty: &Type, param: Param) -> bool {
    matches!(ty, Type::Param(other) if *other == param)
}

fn is_nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null
            | Type::Opaque(..)
            | Type::Named(_)
            | Type::Object(_)
            | Type::Timestamp
            | Type::Duration
    )
}

fn is_same_plain(one: &Type, two: &Type) -> bool {
    match (one, two) {
        (Type::Object(one), Type::Object(two)) => one.name() == two.name(),
        (Type::Named(one), Type::Named(two)) => one == two,
        (Type::Opaque(one, None), Type::Opaque(two, None)) => one == two,
        (Type::List(_) | Type::Map(_) | Type::Opaque(..) | Type::Type(_) | Type::Param(_), _) => {
            false
        }
        (one, two) => std::mem::discriminant(one) == std::mem::discriminant(two),
    }
}
