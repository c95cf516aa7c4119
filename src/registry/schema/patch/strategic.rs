//! Strategic merge patch: a merge patch that knows which lists are sets and which are maps.
//!
//! Start at [`strategic_merge_patch`]. Follows `StrategicMergeMapPatch` (apimachinery
//! pkg/util/strategicpatch/patch.go, v1.35) with the merge keys and strategies of the schema
//! table. Where several directives are for one list, upstream applies them in random order; here
//! deletions come first. Directives in values that are taken over whole are always taken out;
//! upstream leaves some in.

use super::super::table::{BUILT_IN, FieldView, PatchStrategy, Shape, Table, TypeRef};
use super::PatchError;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";

/// A patch that looks at more list elements than this is refused. Each element is looked at a few
/// times; more often only where a patch names one element again and again, each time with a list
/// that is to be merged into a long one.
pub const STRATEGIC_WORK_MAX: usize = 2_000_000;

/// Applies a strategic merge patch to a document of the built-in type `of`.
///
/// # Errors
/// If the patch or one of its directives is malformed, or if it does not fit the document.
pub fn strategic_merge_patch(
    of: TypeRef,
    document: Value,
    patch: Value,
) -> Result<Value, PatchError> {
    strategic_merge_patch_in(&BUILT_IN, of, document, patch)
}

/// As [`strategic_merge_patch`], for a type of any table.
///
/// # Errors
/// As [`strategic_merge_patch`].
pub fn strategic_merge_patch_in(
    table: &Table,
    of: TypeRef,
    document: Value,
    patch: Value,
) -> Result<Value, PatchError> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(PatchError::malformed("invalid JSON document"));
    };
    let merger = Merger { table, work: Cell::new(0) };
    merger.merge_maps(Shape::Struct(of), document, patch).map(Value::Object)
}

type Object = Map<String, Value>;

struct Merger<'t> {
    table: &'t Table,
    /// How many elements of lists were looked at.
    work: Cell<usize>,
}

/// How a list is merged.
#[derive(Clone, Copy)]
struct ListRules<'t> {
    strategy: PatchStrategy,
    /// Empty: elements are the same when they are equal.
    key: &'t str,
    element: Shape,
}

impl<'t> ListRules<'t> {
    /// Of lists that the table does not know.
    const REPLACED: Self = Self { strategy: PatchStrategy::None, key: "", element: Shape::Any };
}

impl<'t> Merger<'t> {
    fn spend(&self, elements: usize) -> Result<(), PatchError> {
        self.work.set(self.work.get() + elements);
        if self.work.get() <= STRATEGIC_WORK_MAX {
            return Ok(());
        }
        let problem = format!("the patch merges more than {STRATEGIC_WORK_MAX} elements of lists");
        Err(PatchError::does_not_apply(problem))
    }

    fn field(&self, shape: Shape, name: &str) -> Option<FieldView<'t>> {
        match shape {
            Shape::Struct(of) => self.table.get(of).field(name),
            _ => None,
        }
    }

    fn list_rules(&self, shape: Shape, name: &str) -> ListRules<'t> {
        let Some(field) = self.field(shape, name) else { return ListRules::REPLACED };
        let Shape::List(of) = field.shape() else { return ListRules::REPLACED };
        ListRules {
            strategy: field.patch_strategy(),
            key: field.merge_key(),
            element: self.table.element(of),
        }
    }

    /// The shape of what `name` holds in an object of this shape.
    fn child(&self, shape: Shape, name: &str) -> Shape {
        match shape {
            Shape::Map(of) => self.table.element(of),
            _ => self.field(shape, name).map_or(Shape::Any, |field| field.shape()),
        }
    }

    fn merge_maps(
        &self,
        shape: Shape,
        mut original: Object,
        mut patch: Object,
    ) -> Result<Object, PatchError> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(without_directives(patch)),
                Some("delete") => Ok(Object::new()),
                _ => Err(unknown_directive(&directive, &patch)),
            };
        }
        self.spend(1 + if patch.contains_key(RETAIN_KEYS) { original.len() } else { 0 })?;
        retain_keys(&mut original, &mut patch)?;
        self.merge_ordered_lists(shape, &mut original, &mut patch)?;
        for (name, value) in patch {
            match name.strip_prefix(DELETE_FROM_LIST) {
                Some(rest) => {
                    let name = rest.strip_prefix('/').unwrap_or(rest);
                    let list = original.get(name).and_then(Value::as_array);
                    self.spend(list.map_or(0, Vec::len))?;
                    delete_from_list(&mut original, rest, &value)?;
                }
                None => self.merge_field(shape, &mut original, name, value)?,
            }
        }
        Ok(original)
    }

    fn merge_field(
        &self,
        shape: Shape,
        original: &mut Object,
        name: String,
        patch: Value,
    ) -> Result<(), PatchError> {
        let merged = match (original.remove(&name), patch) {
            (_, Value::Null) => return Ok(()),
            (Some(Value::Object(old)), Value::Object(new)) => {
                let strategy = self.field(shape, &name).map(|field| field.patch_strategy());
                if strategy == Some(PatchStrategy::Replace) {
                    Some(Value::Object(without_directives(new)))
                } else {
                    let child = self.child(shape, &name);
                    Some(Value::Object(self.merge_maps(child, old, new)?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let rules = self.list_rules(shape, &name);
                if rules.strategy == PatchStrategy::Merge {
                    Some(Value::Array(self.merge_lists(rules, old, new)?))
                } else {
                    clean(Value::Array(new))
                }
            }
            (_, new) => clean(new),
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
        Ok(())
    }

    /// Merges the lists whose order the patch sets, and takes them out of it.
    fn merge_ordered_lists(
        &self,
        shape: Shape,
        original: &mut Object,
        patch: &mut Object,
    ) -> Result<(), PatchError> {
        let directives: Vec<String> =
            patch.keys().filter(|name| name.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
        for directive in directives {
            let order = list(patch.remove(&directive).unwrap_or_default())?;
            let name = directive
                .strip_prefix(SET_ELEMENT_ORDER)
                .and_then(|rest| rest.strip_prefix('/'))
                .ok_or_else(bad_order)?;
            let rules = self.list_rules(shape, name);
            let old = original.remove(name).map(list).transpose()?;
            let new = patch.remove(name).map(list).transpose()?;
            check_order(rules.key, new.as_deref().unwrap_or_default(), &order)?;
            if let Some(merged) = self.merge_ordered_list(rules, old, new, &order)? {
                original.insert(name.to_owned(), Value::Array(merged));
            }
        }
        Ok(())
    }

    fn merge_ordered_list(
        &self,
        rules: ListRules<'_>,
        old: Option<Vec<Value>>,
        new: Option<Vec<Value>>,
        order: &[Value],
    ) -> Result<Option<Vec<Value>>, PatchError> {
        let length = |list: &Option<Vec<Value>>| list.as_ref().map_or(0, Vec::len);
        self.spend(length(&old) + length(&new) + order.len())?;
        let old_order = place_order(rules.key, old.as_deref(), new.as_deref());
        let merged = match (old, new) {
            (None, None) => return Ok(None),
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(clean).collect(),
            (Some(old), Some(new)) if rules.strategy == PatchStrategy::Merge => {
                self.merge_lists(rules, old, new)?
            }
            (Some(_), Some(new)) => new.into_iter().filter_map(clean).collect(),
        };
        arrange(rules.key, merged, &identities(rules.key, order), &old_order).map(Some)
    }

    fn merge_lists(
        &self,
        rules: ListRules<'_>,
        old: Vec<Value>,
        new: Vec<Value>,
    ) -> Result<Vec<Value>, PatchError> {
        if old.is_empty() && new.is_empty() {
            return Ok(old);
        }
        self.spend(old.len() + new.len())?;
        if !are_objects(&old, &new)? {
            let mut seen = HashSet::with_capacity(old.len() + new.len());
            let both = old.iter().chain(&new).filter(|value| seen.insert(*value));
            let both = both.cloned().collect();
            return arrange("", both, &new, &old);
        }
        if rules.key.is_empty() {
            return Err(PatchError::does_not_apply("cannot merge lists without merge key"));
        }
        let (mut merged, new) = apply_special_elements(rules.key, old, new)?;
        let old_order = identities(rules.key, &merged);
        let mut place_of = HashMap::with_capacity(merged.len() + new.len());
        for (place, element) in merged.iter().enumerate() {
            if let Some(identity) = element.get(rules.key) {
                place_of.entry(identity.clone()).or_insert(place);
            }
        }
        let mut new_order = Vec::with_capacity(new.len());
        for element in new {
            let identity = identity(rules.key, &element)?.clone();
            let place = *place_of.entry(identity.clone()).or_insert(merged.len());
            self.merge_element(rules, &mut merged, element, place)?;
            new_order.push(identity);
        }
        arrange(rules.key, merged, &new_order, &old_order)
    }

    /// Merges an element of the patch into the one at `place`, which has its merge key, or adds it
    /// where there is none.
    fn merge_element(
        &self,
        rules: ListRules<'_>,
        merged: &mut Vec<Value>,
        element: Value,
        place: usize,
    ) -> Result<(), PatchError> {
        match (merged.get_mut(place), element) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                *old = self.merge_maps(rules.element, std::mem::take(old), new)?;
            }
            (_, element) => merged.extend(clean(element)),
        }
        Ok(())
    }
}

fn bad_order() -> PatchError {
    PatchError::malformed("invalid patch format of setElementOrder list")
}

fn bad_retain_keys() -> PatchError {
    PatchError::malformed("invalid patch format of retainKeys")
}

fn unknown_directive(directive: &Value, object: &Object) -> PatchError {
    let object = go_text(&Value::Object(object.clone()));
    PatchError::malformed(format!("unknown patch type: {} in map: {object}", go_text(directive)))
}

fn list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(PatchError::malformed(format!(
            "expected a []interface {{}}, but received a {}",
            match other {
                Value::Object(_) => "map[string]interface {}",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Number(number) if number.is_f64() => "float64",
                Value::Number(_) => "int64",
                _ => "nil",
            }
        ))),
    }
}

/// `$retainKeys`: takes everything out of `original` that the list does not name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = directive else { return Err(bad_retain_keys()) };
    let kept: HashSet<&str> = kept.iter().filter_map(Value::as_str).collect();
    let is_kept = |name: &String| kept.contains(name.as_str());
    let has_others = patch.iter().any(|(name, value)| {
        let is_directive =
            name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ELEMENT_ORDER);
        !value.is_null() && !is_directive && !is_kept(name)
    });
    if has_others {
        return Err(bad_retain_keys());
    }
    original.retain(|name, _| is_kept(name));
    Ok(())
}

/// `$deleteFromPrimitiveList/<name>`: `rest` is what follows the directive.
fn delete_from_list(original: &mut Object, rest: &str, gone: &Value) -> Result<(), PatchError> {
    let name = rest
        .strip_prefix('/')
        .ok_or_else(|| PatchError::malformed("invalid patch format of primitive list"))?;
    match (original.get_mut(name), gone) {
        (_, Value::Null) => drop(original.remove(name)),
        (Some(Value::Array(list)), Value::Array(gone)) => {
            if !list.is_empty() || !gone.is_empty() {
                are_objects(list, gone)?;
            }
            let gone: HashSet<&Value> = gone.iter().collect();
            list.retain(|value| !gone.contains(value));
        }
        _ => {}
    }
    Ok(())
}

/// Applies the elements that are directives: `$patch: delete` with a merge key, and
/// `$patch: replace`. Gives back what is left of the old list, and the ordinary elements.
fn apply_special_elements(
    key: &str,
    mut old: Vec<Value>,
    new: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut ordinary = Vec::with_capacity(new.len());
    let mut gone = HashSet::new();
    let mut is_replaced = false;
    for element in new {
        match element.get(DIRECTIVE) {
            None => ordinary.push(element),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    gone.insert(identity(key, &element)?.clone());
                }
                Some("replace") => is_replaced = true,
                Some("merge") => {
                    let problem = "merging lists cannot yet be specified in the patch";
                    return Err(PatchError::malformed(problem));
                }
                _ => {
                    let object = element.as_object().cloned().unwrap_or_default();
                    return Err(unknown_directive(directive, &object));
                }
            },
        }
    }
    if is_replaced {
        Ok((ordinary.into_iter().filter_map(clean).collect(), Vec::new()))
    } else {
        old.retain(|value| value.get(key).is_none_or(|identity| !gone.contains(identity)));
        Ok((old, ordinary))
    }
}

/// The value of the merge key in an element; without a merge key the element itself.
fn identity<'v>(key: &str, element: &'v Value) -> Result<&'v Value, PatchError> {
    if key.is_empty() {
        return Ok(element);
    }
    element.get(key).ok_or_else(|| {
        PatchError::does_not_apply(format!(
            "map: {} does not contain declared merge key: {key}",
            go_text(element)
        ))
    })
}

/// The identities of all elements that have one.
fn identities(key: &str, list: &[Value]) -> Vec<Value> {
    list.iter().filter_map(|element| identity(key, element).ok().cloned()).collect()
}

/// The order of the old list by which elements that the patch does not order find their place.
/// An added element takes the place, at the end, of one that the patch deletes: so it comes about
/// in upstream, which deletes and appends in the memory of the list whose order it reads later.
fn place_order(key: &str, old: Option<&[Value]>, new: Option<&[Value]>) -> Vec<Value> {
    let mut order = identities(key, old.unwrap_or_default());
    let is_deletion =
        |element: &&Value| element.get(DIRECTIVE).is_some_and(|word| word == "delete");
    let (deletions, additions): (Vec<_>, Vec<_>) =
        new.unwrap_or_default().iter().partition(is_deletion);
    let before = order.len();
    let gone: HashSet<_> = deletions.iter().filter_map(|element| element.get(key)).collect();
    order.retain(|identity| !gone.contains(identity));
    let mut known: HashSet<_> = order.iter().cloned().collect();
    for element in additions {
        match identity(key, element) {
            Ok(identity) if order.len() < before && known.insert(identity.clone()) => {
                order.push(identity.clone());
            }
            _ => {}
        }
    }
    order
}

/// Checks that the elements of the patch come in the order that it sets.
fn check_order(key: &str, new: &[Value], order: &[Value]) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for element in new.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let wanted = identity(key, element)?;
        loop {
            let Some(place) = places.next() else {
                return Err(PatchError::does_not_apply(format!(
                    "The order in patch list:\n{}\n doesn't match {SET_ELEMENT_ORDER} list:\n{}\n",
                    go_text(&Value::Array(new.to_vec())),
                    go_text(&Value::Array(order.to_vec())),
                )));
            };
            if identity(key, place)? == wanted {
                break;
            }
        }
    }
    Ok(())
}

/// Puts a merged list in order: the elements in `new_order` in that order, the others in the
/// order they had, each before the first of the former that it was before.
fn arrange(
    key: &str,
    merged: Vec<Value>,
    new_order: &[Value],
    old_order: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let (new_places, old_places) = (places(new_order), places(old_order));
    let mut patched = Vec::new();
    let mut untouched = Vec::new();
    for element in merged {
        let identity = identity(key, &element)?;
        let old_place = old_places.get(identity).copied();
        match new_places.get(identity).copied() {
            Some(place) => patched.push((place, old_place, element)),
            None => untouched.push((old_place, element)),
        }
    }
    patched.sort_by_key(|(place, ..)| *place);
    untouched.sort_by_key(|(place, _)| place.unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(patched.len() + untouched.len());
    let mut untouched = untouched.into_iter().peekable();
    for (_, patched_place, element) in patched {
        let was_before = |place: Option<usize>| {
            place.zip(patched_place).is_some_and(|(left, right)| left < right)
        };
        while let Some((_, earlier)) = untouched.next_if(|(place, _)| was_before(*place)) {
            arranged.push(earlier);
        }
        arranged.push(element);
    }
    arranged.extend(untouched.map(|(_, element)| element));
    Ok(arranged)
}

/// Where each value of a list is first. A client may send lists of a hundred thousand elements:
/// what is done for each of them must not look at all of them.
fn places(list: &[Value]) -> HashMap<&Value, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (place, value) in list.iter().enumerate() {
        places.entry(value).or_insert(place);
    }
    places
}

/// Whether the elements of two lists, not both empty, are objects; they must be of one kind.
fn are_objects(old: &[Value], new: &[Value]) -> Result<bool, PatchError> {
    let mut elements = old.iter().chain(new);
    let first = elements.next().expect("not both are empty");
    if first.is_array() {
        return Err(PatchError::does_not_apply("lists of lists are not supported"));
    }
    let same = |element: &Value| std::mem::discriminant(element) == std::mem::discriminant(first);
    if !elements.all(same) {
        let lists = Value::Array(vec![Value::Array(old.to_vec()), Value::Array(new.to_vec())]);
        let problem = format!("list element types are not identical: {}", go_text(&lists));
        return Err(PatchError::does_not_apply(problem));
    }
    Ok(first.is_object())
}

/// A value that is taken from the patch as a whole: without nulls and directives. `None` when it
/// is itself a directive.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if object.contains_key(DIRECTIVE) => None,
        Value::Object(object) => Some(Value::Object(without_directives(object))),
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(clean).collect())),
        scalar => Some(scalar),
    }
}

fn without_directives(object: Object) -> Object {
    let is_directive = |name: &String| {
        name == DIRECTIVE
            || name == RETAIN_KEYS
            || name.starts_with(&[SET_ELEMENT_ORDER, "/"].concat())
            || name.starts_with(&[DELETE_FROM_LIST, "/"].concat())
    };
    object
        .into_iter()
        .filter(|(name, value)| !value.is_null() && !is_directive(name))
        .filter_map(|(name, value)| Some((name, clean(value)?)))
        .collect()
}

/// A value as Go prints it with `%v`.
#[must_use]
pub fn go_text(value: &Value) -> String {
    let mut out = String::new();
    write_go_text(&mut out, value);
    out
}

fn write_go_text(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Array(list) => {
            out.push('[');
            for (index, element) in list.iter().enumerate() {
                out.push_str(if index > 0 { " " } else { "" });
                write_go_text(out, element);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push_str("map[");
            for (index, (name, element)) in object.iter().enumerate() {
                let separator = if index > 0 { " " } else { "" };
                write!(out, "{separator}{name}:").expect("a String takes all");
                write_go_text(out, element);
            }
            out.push(']');
        }
        plain => write!(out, "{plain}").expect("a String takes all"),
    }
}
