//! What the schema says of a place in a document: whether it is owned as a whole, and what is in it.
//!
//! Start at [`Place`]. Built-in types are places of the schema table, custom ones of a structural
//! schema ([`custom`]); what has no schema is deduced: maps are granular and lists atomic.
//! Follows how upstream makes types of its OpenAPI documents (kube-openapi pkg/schemaconv, and
//! structured-merge-diff v6, schema/elements.go).

mod custom;

use super::document::{Implied, Node, Sort};
use crate::registry::schema::structural::Structural;
use crate::registry::schema::{BUILT_IN, FieldView, ListKind, MapKind, PatchStrategy};
use crate::registry::schema::{Shape, Table, TypeRef, TypeView, types};
pub use custom::Custom;
use std::borrow::Cow;

/// A place in a document.
#[derive(Clone, Copy, Debug)]
pub enum Place<'s> {
    Typed(Typed<'s>),
    Custom(Custom<'s>),
    /// Anything; maps are granular.
    Deduced,
    /// Anything, owned as a whole.
    Untyped,
}

/// A place of the schema table.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'s> {
    table: &'s Table,
    shape: Shape,
    /// The field that holds it; elements of lists and maps have none.
    field: Option<FieldView<'s>>,
}

/// Which scalars a place takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

/// A place that holds a map or a struct.
#[derive(Clone, Copy, Debug)]
pub struct MapForm<'s> {
    pub is_atomic: bool,
    contents: Contents<'s>,
}

#[derive(Clone, Copy, Debug)]
enum Contents<'s> {
    Struct(&'s Table, TypeView<'s>),
    Custom(Custom<'s>),
    Elements(Place<'s>),
}

/// What the schema says of one member of a map.
#[derive(Clone, Copy, Debug)]
pub enum Member<'s> {
    /// A field of a struct.
    Declared(Place<'s>),
    /// A value of a map.
    Other(Place<'s>),
    /// The struct has no such field.
    Unknown,
}

/// A place that holds a list.
#[derive(Clone, Copy, Debug)]
pub struct ListForm<'s> {
    pub element: Place<'s>,
    pub items: Items<'s>,
}

/// How the elements of a list are told apart.
#[derive(Clone, Copy, Debug)]
pub enum Items<'s> {
    /// Not at all.
    Atomic,
    /// By their values.
    Set,
    /// By the values of some of their fields.
    Keyed(Keys<'s>),
}

/// Where it says which fields tell the elements of a list apart.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'s> {
    /// In the field that holds the list.
    Field(FieldView<'s>),
    /// In the schema of the list.
    Custom(&'s Structural),
}

/// What a value is taken for.
#[derive(Clone, Copy, Debug)]
pub enum Form<'s> {
    Map(MapForm<'s>),
    Scalar(Scalar),
    List(ListForm<'s>),
}

impl Form<'_> {
    /// What values of this form are.
    pub(super) fn sort(&self) -> Sort {
        match self {
            Self::Map(_) => Sort::Map,
            Self::Scalar(_) => Sort::Scalar,
            Self::List(_) => Sort::List,
        }
    }
}

impl<'s> Place<'s> {
    /// The whole document of a type.
    #[must_use]
    pub fn root(table: &'s Table, of: TypeRef) -> Self {
        Self::Typed(Typed { table, shape: Shape::Struct(of), field: None })
    }

    /// The whole object of a custom resource.
    #[must_use]
    pub fn root_of_custom(schema: &'s Structural) -> Self {
        Self::Custom(Custom::root(schema))
    }

    /// What `value` is taken for here. A value that has no place here, null among them, is taken
    /// for whatever the place takes first (upstream `deduceAtom` and `handleAtom`).
    #[must_use]
    pub fn form(self, value: Option<&Node<'_>>) -> Form<'s> {
        let fitting = match value.map(Node::sort) {
            Some(Sort::Scalar) => self.scalar().map(Form::Scalar),
            Some(Sort::List) => self.list().map(Form::List),
            Some(Sort::Map) => self.map().map(Form::Map),
            Some(Sort::Null) | None => None,
        };
        fitting
            .or_else(|| self.map().map(Form::Map))
            .or_else(|| self.scalar().map(Form::Scalar))
            .or_else(|| self.list().map(Form::List))
            .unwrap_or(Form::Scalar(Scalar::Untyped))
    }

    fn scalar(self) -> Option<Scalar> {
        let typed = match self {
            Self::Typed(typed) => typed,
            Self::Custom(custom) => return custom.scalar(),
            Self::Deduced | Self::Untyped => return Some(Scalar::Untyped),
        };
        Some(match typed.shape {
            Shape::String | Shape::Bytes => Scalar::String,
            Shape::Bool => Scalar::Boolean,
            Shape::Int32 | Shape::Int64 | Shape::Double => Scalar::Numeric,
            Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime => {
                Scalar::Untyped
            }
            Shape::Object | Shape::Any => Scalar::Untyped,
            Shape::Struct(of) if typed.table.get(of).is_any() => Scalar::Untyped,
            Shape::Struct(_) | Shape::List(_) | Shape::Map(_) => return None,
        })
    }

    pub(super) fn map(self) -> Option<MapForm<'s>> {
        let typed = match self {
            Self::Typed(typed) => typed,
            Self::Custom(custom) => return custom.map(),
            Self::Deduced => return Some(MapForm::of(false, Self::Deduced)),
            Self::Untyped => return Some(MapForm::of(true, Self::Untyped)),
        };
        let by_field = typed.field.and_then(|field| field.map_kind());
        let is_atomic = by_field == Some(MapKind::Atomic);
        match typed.shape {
            Shape::Struct(of) => {
                let view = typed.table.get(of);
                if view.is_any() {
                    return Some(MapForm::of(is_atomic, Self::Deduced));
                }
                let is_atomic = by_field.map_or(view.is_atomic(), |kind| kind == MapKind::Atomic);
                Some(MapForm { is_atomic, contents: Contents::Struct(typed.table, view) })
            }
            Shape::Map(of) => {
                let shape = typed.table.element(of);
                let element = Self::Typed(Typed { shape, field: None, ..typed });
                Some(MapForm::of(is_atomic, element))
            }
            Shape::Object => Some(MapForm::of(true, Self::Untyped)),
            Shape::Any | Shape::IntOrString => Some(MapForm::of(is_atomic, Self::Deduced)),
            _ => None,
        }
    }

    pub(super) fn list(self) -> Option<ListForm<'s>> {
        let untyped = ListForm { element: Self::Untyped, items: Items::Atomic };
        let typed = match self {
            Self::Typed(typed) => typed,
            Self::Custom(custom) => return custom.list(),
            Self::Deduced | Self::Untyped => return Some(untyped),
        };
        match typed.shape {
            Shape::List(of) => {
                let shape = typed.table.element(of);
                let element = Self::Typed(Typed { shape, field: None, ..typed });
                Some(ListForm { element, items: typed.field.map_or(Items::Atomic, items) })
            }
            Shape::Struct(of) if typed.table.get(of).is_any() => Some(untyped),
            Shape::Object | Shape::Any | Shape::IntOrString => Some(untyped),
            _ => None,
        }
    }
}

/// Upstream `getListElementRelationship`: without a list type, what a strategic merge patch does.
fn items(field: FieldView<'_>) -> Items<'_> {
    match field.list_kind() {
        Some(ListKind::Atomic) => Items::Atomic,
        Some(ListKind::Set) => Items::Set,
        Some(ListKind::Map) => Items::Keyed(Keys::Field(field)),
        None if field.patch_strategy() != PatchStrategy::Merge => Items::Atomic,
        None if field.merge_key().is_empty() => Items::Set,
        None => Items::Keyed(Keys::Field(field)),
    }
}

impl<'s> MapForm<'s> {
    fn of(is_atomic: bool, element: Place<'s>) -> Self {
        Self { is_atomic, contents: Contents::Elements(element) }
    }

    /// Whether this is free-form: it may hold anything, at any depth.
    pub(super) fn is_free(&self) -> bool {
        match self.contents {
            Contents::Elements(place) => matches!(place, Place::Deduced),
            Contents::Custom(custom) => custom.is_free(),
            Contents::Struct(..) => false,
        }
    }

    #[must_use]
    pub fn member(&self, name: &str) -> Member<'s> {
        match self.contents {
            Contents::Elements(place) => Member::Other(place),
            Contents::Custom(custom) => custom.member(name),
            Contents::Struct(table, view) => declared(table, view, name),
        }
    }

    /// The fields that Go shows also where they hold nothing, and as what, sorted by name: those
    /// without `omitempty`, and structs that are no pointers.
    fn implied(&self) -> impl Iterator<Item = (&'s str, Node<'static>)> + use<'s> {
        let fields = match self.contents {
            Contents::Struct(_, view) => Some(view.fields()),
            Contents::Elements(_) | Contents::Custom(_) => None,
        };
        fields.into_iter().flatten().filter_map(|field| Some((field.name(), implied(field)?)))
    }
}

/// A kind of the table. The metadata of all kinds is the same.
fn any_kind() -> TypeView<'static> {
    BUILT_IN.get(types::CONFIG_MAP)
}

fn declared<'s>(table: &'s Table, view: TypeView<'s>, name: &str) -> Member<'s> {
    view.field(name).map_or(Member::Unknown, |field| {
        let (shape, field) = (field.shape(), Some(field));
        Member::Declared(Place::Typed(Typed { table, shape, field }))
    })
}

fn implied(field: FieldView<'_>) -> Option<Node<'static>> {
    if !field.is_zero_by_default() {
        return field.is_required().then_some(Node::Implied(Implied::Null));
    }
    Some(Node::Implied(match field.shape() {
        Shape::String | Shape::Bytes => Implied::Text(""),
        Shape::Quantity => Implied::Text("0"),
        Shape::Bool => Implied::False,
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Implied::Zero,
        Shape::Struct(_) => return Some(Node::ImpliedMap(Vec::new())),
        _ => Implied::Null,
    }))
}

impl<'s> ListForm<'s> {
    /// The value of a key that an element leaves out.
    pub(super) fn key_default(&self, name: &str) -> Option<Node<'s>> {
        let field = match self.element.map()?.contents {
            Contents::Struct(_, view) => view.field(name)?,
            Contents::Custom(custom) => return custom.default_of(name),
            Contents::Elements(_) => return None,
        };
        if let Some(json) = field.default_json() {
            return Node::parse(json.as_bytes()).ok();
        }
        field.is_zero_by_default().then(|| implied(field))?
    }

    /// The names of the fields that tell elements apart.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'s str> + use<'s> {
        let (field, custom) = match self.items {
            Items::Keyed(Keys::Field(field)) => (Some(field), None),
            Items::Keyed(Keys::Custom(schema)) => (None, Some(schema)),
            Items::Atomic | Items::Set => (None, None),
        };
        let merge_key = field.filter(|field| field.list_kind().is_none()).map(|f| f.merge_key());
        let of_field = field.into_iter().flat_map(|field| field.list_keys()).chain(merge_key);
        let of_custom = custom.into_iter().flat_map(Structural::list_keys).map(|key| &**key);
        of_field.chain(of_custom)
    }
}

/// Gives a document what Go shows of absent fields, as upstream compares objects as Go shows them.
pub(super) fn fill<'a>(place: Place<'a>, node: &mut Node<'a>) {
    match place.form(Some(node)) {
        Form::Map(form) if !form.is_atomic => {
            let (Node::Map(members) | Node::ImpliedMap(members)) = node else { return };
            for (name, implied) in form.implied() {
                if let Err(at) = members.binary_search_by(|(own, _)| (**own).cmp(name)) {
                    members.insert(at, (Cow::Borrowed(name), implied));
                }
            }
            for (name, value) in members.iter_mut() {
                if let Member::Declared(place) | Member::Other(place) = form.member(name) {
                    fill(place, value);
                }
            }
        }
        Form::List(form) => {
            if let (Node::List(list), Items::Keyed(_)) = (node, form.items) {
                list.iter_mut().for_each(|value| fill(form.element, value));
            }
        }
        Form::Map(_) | Form::Scalar(_) => {}
    }
}
