//! Evaluates programs, and counts what that costs.
//!
//! Start at [`evaluate`]. Follows cel-go's interpreter (interpreter/interpretable.go, attributes.go
//! and runtimecost.go, v0.26): errors are values that `&&`, `||` and `?:` may pass by, and every
//! step has the cost that upstream gives it. An evaluation that costs more than its budget ends.

use super::call_cost;
use super::compare::equal;
use super::cost::{LIST_CREATE, MAP_CREATE, SELECT};
use super::macros::ACCUMULATOR;
use super::numbers::double_to_int;
use super::program::{Attribute, Base, Call, Loop, Program, Qualifier, QualifierKey, Step};
use super::show::shown;
use super::value::{Entries, Fault, Key, List, Map, Outcome, Value};

/// What one evaluation may cost (upstream `PerCallLimit`).
pub const CALL_COST_MAX: u64 = 1_000_000;
/// After so many turns of a loop it is asked whether to go on (upstream `CheckFrequency`).
const INTERRUPT_TURNS: u32 = 100;
/// How many elements may be looked at for each unit of cost that is left. Some functions
/// are told what they cost after they have run; this is what holds them back.
const ELEMENTS_PER_COST: u64 = 20;

/// How much an evaluation may do.
#[derive(Clone, Copy)]
pub struct Budget<'i> {
    pub cost_max: u64,
    /// Whether nobody waits for the result any more.
    pub is_interrupted: &'i dyn Fn() -> bool,
}

impl std::fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("cost_max", &self.cost_max).finish_non_exhaustive()
    }
}

impl Budget<'_> {
    /// Upstream's limit for one call, without interruption.
    pub const CALL: Budget<'static> = Budget { cost_max: CALL_COST_MAX, is_interrupted: &|| false };
}

/// What came of an evaluation.
#[derive(Clone, Debug)]
pub struct Output<'a> {
    pub result: Result<Value<'a>, Fault>,
    pub cost: u64,
}

/// Variables by their names. One that cannot be read is an error where it is used.
pub type Bindings<'a, 'b> = &'b [(&'b str, Result<Value<'a>, Fault>)];

/// Evaluates a program with these variables.
#[must_use]
pub fn evaluate<'a>(
    program: &Program,
    bindings: Bindings<'a, '_>,
    budget: Budget<'_>,
) -> Output<'a> {
    let mut evaluator =
        Evaluator { bindings, budget, cost: 0, turns: 0, frames: Vec::new(), scope: None };
    let result = evaluator.step(&program.root);
    let result = if evaluator.cost > budget.cost_max { Err(Fault::CostExceeded) } else { result };
    Output { result, cost: evaluator.cost }
}

/// A loop that is being evaluated.
struct Frame<'a, 'p> {
    fold: &'p Loop,
    /// `None` until somebody asks for it.
    gathered: Option<Outcome<'a>>,
    first: Option<Outcome<'a>>,
    second: Option<Outcome<'a>>,
    /// The loop around this one.
    outer: Option<usize>,
}

struct Evaluator<'a, 'b, 'i, 'p> {
    bindings: Bindings<'a, 'b>,
    budget: Budget<'i>,
    cost: u64,
    turns: u32,
    frames: Vec<Frame<'a, 'p>>,
    /// The innermost loop whose names can be seen.
    scope: Option<usize>,
}

impl<'a, 'p> Evaluator<'a, '_, '_, 'p> {
    fn charge(&mut self, cost: u64) -> Result<(), Fault> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.budget.cost_max { Err(Fault::CostExceeded) } else { Ok(()) }
    }

    fn step(&mut self, step: &'p Step) -> Outcome<'a> {
        match step {
            Step::Constant(value) => Ok(value.clone()),
            Step::Attribute(attribute) => {
                let found = self.resolve(attribute);
                if !matches!(attribute.base, Base::If(_)) {
                    self.charge(SELECT)?;
                }
                found
            }
            Step::Has(attribute) => self.has(attribute),
            Step::And(terms) => self.logical(terms, false),
            Step::Or(terms) => self.logical(terms, true),
            Step::Equal { sides, is_negated } => self.equal(sides, *is_negated),
            Step::Call(call) => self.call(call),
            Step::Among { value, keys } => {
                let value = self.step(value)?;
                let is_nan = matches!(value, Value::Double(double) if double.is_nan());
                let key = Key::of(&value).filter(|_| !is_nan);
                Ok(Value::Bool(key.is_some_and(|key| keys.contains(&key))))
            }
            Step::List(elements) => self.list(elements),
            Step::Map(entries) => self.map(entries),
            Step::Otherwise { sides, is_value } => match self.step(&sides.0)? {
                Value::Optional(Some(value)) if *is_value => Ok((*value).clone()),
                Value::Optional(None) => self.step(&sides.1),
                value => Ok(value),
            },
            Step::Fold(fold) => self.fold(fold),
        }
    }

    /// `&&`, which a `false` settles, or `||`, which a `true` does, whatever else is wrong.
    fn logical(&mut self, terms: &'p [Step], settles: bool) -> Outcome<'a> {
        let mut problem = None;
        for term in terms {
            match self.step(term) {
                Ok(Value::Bool(value)) if value == settles => return Ok(Value::Bool(settles)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => problem = problem.or(Some(Fault::NO_OVERLOAD)),
                Err(fault @ Fault::Failed(_)) => problem = problem.or(Some(fault)),
                Err(fault) => return Err(fault),
            }
        }
        problem.map_or(Ok(Value::Bool(!settles)), Err)
    }

    fn equal(&mut self, sides: &'p (Step, Step), is_negated: bool) -> Outcome<'a> {
        let (one, two) = (self.step(&sides.0), self.step(&sides.1));
        let (one, two) = match (one, two) {
            (Ok(one), Ok(two)) => (one, two),
            (Err(fault), _) | (_, Err(fault)) => {
                self.charge(1)?;
                return Err(fault);
            }
        };
        self.charge(call_cost::equality(&one, &two))?;
        equal(&one, &two).map(|equal| Value::Bool(equal != is_negated))
    }

    fn call(&mut self, call: &'p Call) -> Outcome<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut problem = None;
        for arg in &call.args {
            match self.step(arg) {
                Ok(value) => args.push(value),
                Err(fault @ Fault::Failed(_)) if call.args.len() < 3 => {
                    problem = problem.or(Some(fault));
                }
                Err(fault) => return Err(fault),
            }
        }
        if call.site.function == "@not_strictly_false" {
            self.charge(1)?;
            return Ok(Value::Bool(!matches!(args.as_slice(), [Value::Bool(false)])));
        }
        if let Some(fault) = problem {
            self.charge(1)?;
            return Err(fault);
        }
        let left = self.budget.cost_max - self.cost.min(self.budget.cost_max);
        let elements_max = left.saturating_add(1).saturating_mul(ELEMENTS_PER_COST);
        if call.site.function != "size" && args.iter().any(|arg| elements(arg) > elements_max) {
            self.cost = self.budget.cost_max.saturating_add(1);
            return Err(Fault::CostExceeded);
        }
        if let Some(result) = self.append(call, &mut args) {
            return result;
        }
        let result = match call.run {
            Some(run) => run(&call.site, args.clone()),
            None => Err(Fault::NO_OVERLOAD),
        };
        self.charge(call_cost::cost(&call.site, &args, &result))?;
        result.map_err(|fault| named(fault, &call.site.function, &args))
    }

    /// What a loop gathers grows in place.
    fn append(&mut self, call: &'p Call, args: &mut Vec<Value<'a>>) -> Option<Outcome<'a>> {
        let Some(Step::Attribute(Attribute { base: Base::Name(name), qualifiers })) =
            call.args.first()
        else {
            return None;
        };
        if name != ACCUMULATOR || !qualifiers.is_empty() {
            return None;
        }
        let is_list = call.site.overload == "add_list";
        if !is_list && call.site.function != "cel.@mapInsert" {
            return None;
        }
        if let Err(fault) = self.charge(1) {
            return Some(Err(fault));
        }
        let mut rest = args.split_off(1);
        let gathered = args.pop();
        // Nobody but the frame may have it now, and the frame gets what comes of this.
        let scope = self.holder(name)?;
        self.frames[scope].gathered = None;
        Some(match (gathered, is_list) {
            (Some(Value::List(list)), true) => match rest.pop() {
                Some(Value::List(more)) => {
                    more.iter().try_fold(list, |list, value| Ok(list.push(value?))).map(Value::List)
                }
                _ => Err(Fault::NO_OVERLOAD),
            },
            (Some(map), false) => {
                rest.insert(0, map);
                match call.run {
                    Some(run) => run(&call.site, rest),
                    None => Err(Fault::NO_OVERLOAD),
                }
            }
            _ => Err(Fault::NO_OVERLOAD),
        })
    }

    fn list(&mut self, elements: &'p [(Step, bool)]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for (element, is_optional) in elements {
            match (self.step(element)?, is_optional) {
                (value, false) => values.push(value),
                (Value::Optional(value), true) => values.extend(value.map(|v| (*v).clone())),
                (value, true) => {
                    return Err(Fault::new(format!(
                        "cannot initialize optional list element from non-optional value {}",
                        shown(&value)
                    )));
                }
            }
        }
        self.charge(LIST_CREATE)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'p [(Step, Step, bool)]) -> Outcome<'a> {
        let mut made = Entries::new();
        for (key, value, is_optional) in entries {
            let key = self.step(key)?;
            let mut value = self.step(value)?;
            let Some(name) = Key::of(&key) else {
                let ty = key.type_name();
                return Err(Fault::new(format!("unsupported key type: {ty}")));
            };
            if *is_optional {
                match value {
                    Value::Optional(Some(inner)) => value = (*inner).clone(),
                    Value::Optional(None) => {
                        made.remove(&name);
                        continue;
                    }
                    value => {
                        return Err(Fault::new(format!(
                            "cannot initialize optional entry '{}' from non-optional value {}",
                            shown(&key),
                            shown(&value)
                        )));
                    }
                }
            }
            made.insert(name, (key, value));
        }
        self.charge(MAP_CREATE)?;
        Ok(Value::Map(Map::made(made)))
    }

    fn resolve(&mut self, attribute: &'p Attribute) -> Outcome<'a> {
        let base = match &attribute.base {
            Base::Name(name) => self.name(name)?,
            Base::Of(step) => self.step(step)?,
            Base::If(branches) => match self.step(&branches.0)? {
                Value::Bool(true) => return self.resolve(&branches.1),
                Value::Bool(false) => return self.resolve(&branches.2),
                _ => return Err(Fault::NO_OVERLOAD),
            },
        };
        if attribute.qualifiers.is_empty() {
            return Ok(base);
        }
        let (value, is_optional) = self.qualified(base, &attribute.qualifiers)?;
        Ok(match (value, is_optional) {
            (None, _) => Value::Optional(None),
            (Some(value), true) => Value::some(value),
            (Some(value), false) => value,
        })
    }

    /// What the qualifiers lead to, and whether it may be absent (cel-go `applyQualifiers`).
    fn qualified(
        &mut self,
        base: Value<'a>,
        qualifiers: &'p [Qualifier],
    ) -> Result<(Option<Value<'a>>, bool), Fault> {
        let (mut value, mut is_optional) = match base {
            Value::Optional(None) => return Ok((None, true)),
            Value::Optional(Some(value)) => ((*value).clone(), true),
            value => (value, false),
        };
        for qualifier in qualifiers {
            is_optional |= qualifier.is_optional;
            let key = match &qualifier.key {
                QualifierKey::Constant(key) => key.clone(),
                QualifierKey::Found(attribute) => self.resolve(attribute)?,
            };
            let found = part(&value, &key, is_optional);
            if !is_optional || matches!(found, Ok(Some(_)) | Err(_)) {
                self.charge(SELECT)?;
            }
            value = match found? {
                Some(value) => value,
                None if is_optional => return Ok((None, true)),
                None => return Err(missing(&value, &key)),
            };
        }
        Ok((Some(value), is_optional))
    }

    fn has(&mut self, attribute: &'p Attribute) -> Outcome<'a> {
        if let Base::If(branches) = &attribute.base {
            return match self.step(&branches.0)? {
                Value::Bool(true) => self.has(&branches.1),
                Value::Bool(false) => self.has(&branches.2),
                _ => Err(Fault::NO_OVERLOAD),
            };
        }
        let base = match &attribute.base {
            Base::Name(name) => self.name(name)?,
            Base::Of(step) => self.step(step)?,
            Base::If(_) => return Err(Fault::NO_OVERLOAD),
        };
        let Some((last, before)) = attribute.qualifiers.split_last() else {
            return Err(Fault::NO_OVERLOAD);
        };
        let (Some(value), _) = self.qualified(base, before)? else {
            return Ok(Value::Bool(false));
        };
        self.charge(SELECT)?;
        let QualifierKey::Constant(key) = &last.key else { return Err(Fault::NO_OVERLOAD) };
        part(&value, key, true).map(|found| Value::Bool(found.is_some()))
    }

    /// The loop that gathers under a name.
    fn holder(&self, name: &str) -> Option<usize> {
        let mut scope = self.scope;
        while let Some(index) = scope {
            if self.frames[index].fold.accumulator == name {
                return Some(index);
            }
            scope = self.frames[index].outer;
        }
        None
    }

    fn name(&mut self, name: &str) -> Outcome<'a> {
        let mut scope = self.scope;
        while let Some(index) = scope {
            let frame = &self.frames[index];
            if frame.fold.accumulator == name {
                return self.gathered(index);
            }
            if frame.fold.variable == name
                && let Some(first) = &frame.first
            {
                return first.clone();
            }
            if frame.fold.second.as_deref() == Some(name)
                && let Some(second) = &frame.second
            {
                return second.clone();
            }
            scope = frame.outer;
        }
        match self.bindings.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => value.clone(),
            None => Err(Fault::new(format!("no such attribute(s): {name}"))),
        }
    }

    /// What a loop has gathered; before its first turn, what it begins with, which is found out
    /// when it is asked for.
    fn gathered(&mut self, index: usize) -> Outcome<'a> {
        if let Some(gathered) = &self.frames[index].gathered {
            return gathered.clone();
        }
        let (fold, outer) = (self.frames[index].fold, self.frames[index].outer);
        let scope = std::mem::replace(&mut self.scope, outer);
        let init = self.step(&fold.init);
        self.scope = scope;
        self.frames[index].gathered = Some(init.clone());
        init
    }

    fn fold(&mut self, fold: &'p Loop) -> Outcome<'a> {
        let range = self.step(&fold.range)?;
        let items = Turns::of(&range, fold.second.is_some())?;
        let outer = self.scope;
        let index = self.frames.len();
        self.frames.push(Frame { fold, gathered: None, first: None, second: None, outer });
        self.scope = Some(index);
        let result = self.turns(index, &items).and_then(|()| {
            let frame = &mut self.frames[index];
            (frame.first, frame.second) = (None, None);
            self.step(&fold.result)
        });
        self.frames.truncate(index);
        self.scope = outer;
        result
    }

    fn turns(&mut self, index: usize, items: &Turns<'a>) -> Result<(), Fault> {
        let fold = self.frames[index].fold;
        for turn in 0..items.len() {
            let (first, second) = items.get(turn);
            let frame = &mut self.frames[index];
            (frame.first, frame.second) = (Some(first), second);
            match self.step(&fold.condition) {
                Ok(Value::Bool(false)) => return Ok(()),
                Err(fault @ (Fault::CostExceeded | Fault::Interrupted)) => return Err(fault),
                _ => {}
            }
            let gathered = self.step(&fold.step);
            if let Err(fault @ (Fault::CostExceeded | Fault::Interrupted)) = gathered {
                return Err(fault);
            }
            self.frames[index].gathered = Some(gathered);
            self.turns += 1;
            if self.turns.is_multiple_of(INTERRUPT_TURNS) && (self.budget.is_interrupted)() {
                return Err(Fault::Interrupted);
            }
        }
        Ok(())
    }
}

/// What a loop goes over.
enum Turns<'a> {
    List(List<'a>, bool),
    Keys(Vec<Value<'a>>, Option<Map<'a>>),
}

impl<'a> Turns<'a> {
    fn of(range: &Value<'a>, has_two: bool) -> Result<Self, Fault> {
        match range {
            Value::List(list) => Ok(Self::List(list.clone(), has_two)),
            Value::Map(map) => Ok(Self::Keys(map.keys(), has_two.then(|| map.clone()))),
            other => {
                let ty = other.type_name();
                Err(Fault::new(format!("got '{ty}', expected iterable type")))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::List(list, _) => list.len(),
            Self::Keys(keys, _) => keys.len(),
        }
    }

    fn get(&self, turn: usize) -> (Outcome<'a>, Option<Outcome<'a>>) {
        match self {
            Self::List(list, false) => (list.get(turn), None),
            Self::List(list, true) => (Ok(Value::count(turn)), Some(list.get(turn))),
            Self::Keys(keys, None) => (Ok(keys[turn].clone()), None),
            Self::Keys(keys, Some(map)) => {
                let value = map.find(&keys[turn]);
                let value = value.and_then(|value| value.ok_or(Fault::NO_OVERLOAD));
                (Ok(keys[turn].clone()), Some(value))
            }
        }
    }
}

/// Elements that a function may have to look at.
fn elements(value: &Value<'_>) -> u64 {
    match value {
        Value::List(list) => list.len() as u64,
        Value::Int(_) | Value::Bool(_) => 1,
        _ => 0,
    }
}

/// A part of a value (cel-go `refQualify`).
fn part<'a>(
    value: &Value<'a>,
    key: &Value<'_>,
    is_presence: bool,
) -> Result<Option<Value<'a>>, Fault> {
    match value {
        Value::Map(map) => map.find(key),
        Value::List(list) => {
            let index = match key {
                Value::Int(index) => Some(*index),
                Value::Uint(index) => i64::try_from(*index).ok(),
                Value::Double(index) => double_to_int(*index),
                _ => None,
            };
            let Some(index) = index else {
                let ty = key.type_name();
                return Err(Fault::new(format!("unsupported index type '{ty}' in list")));
            };
            match usize::try_from(index).ok().filter(|index| *index < list.len()) {
                Some(index) => list.get(index).map(Some),
                None => Ok(None),
            }
        }
        _ if is_presence => Ok(None),
        _ => Ok(None),
    }
}

fn missing(value: &Value<'_>, key: &Value<'_>) -> Fault {
    let what = if matches!(value, Value::List(_)) { "index out of bounds" } else { "no such key" };
    Fault::new(format!("{what}: {}", shown(key)))
}

/// A function that does not take its arguments says which they were.
fn named(fault: Fault, function: &str, args: &[Value<'_>]) -> Fault {
    let is_word = function.starts_with(|c: char| c.is_ascii_alphabetic());
    if fault != Fault::NO_OVERLOAD || !is_word {
        return fault;
    }
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    Fault::new(format!("no such overload: {function}({})", types.join(", ")))
}
