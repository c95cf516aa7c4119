//! The form of the schema table: types, fields and their facts as arrays that refer to each other
//! by index and to one text by offset.
//!
//! The table of the built-in types is made by `build.rs` from `facts.txt`. It holds no pointers
//! but these few, so it stays in shared, read-only pages and costs nothing at start. The arrays
//! are `Cow`s because a custom resource's schema becomes a table of the same form at run time.

use serde_json::Value;
use std::borrow::Cow;

/// A type in the schema table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeRef(pub u16);

/// What the elements of a list or the values of a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementRef(u16);

/// A part of the table's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    at: u32,
    length: u32,
}

impl Span {
    const EMPTY: Self = Self { at: 0, length: 0 };
}

/// Which JSON values a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// A string in base64.
    Bytes,
    /// A `resource.Quantity`: a string or a number.
    Quantity,
    IntOrString,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    /// An object that is kept as it is, such as a `runtime.RawExtension`.
    Object,
    /// Any JSON.
    Any,
    Struct(TypeRef),
    List(ElementRef),
    /// String keys; what the values are.
    Map(ElementRef),
}

/// `x-kubernetes-list-type`: how server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// By the keys in [`FieldView::list_keys`].
    Map,
}

/// `x-kubernetes-map-type`: how server-side apply merges a map or struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    Atomic,
    Granular,
}

/// `x-kubernetes-patch-strategy`: how a strategic merge patch merges a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchStrategy {
    /// Structs are merged, lists replaced.
    None,
    Merge,
    Replace,
}

#[derive(Clone, Debug)]
struct Package {
    name: Span,
    group: Span,
    version: Span,
}

#[derive(Clone, Debug)]
struct Type {
    name: Span,
    first: u32,
    fields: u16,
    package: u16,
    is_kind: bool,
    is_atomic: bool,
    is_any: bool,
    union: Span,
}

#[derive(Clone, Debug)]
struct Field {
    name: Span,
    shape: Shape,
    number: [u8; 3],
    facts: u16,
}

#[derive(Clone, Debug)]
struct FieldFacts {
    required: bool,
    zero: bool,
    wrapped: bool,
    pointer: bool,
    deprecated: bool,
    list: Option<ListKind>,
    map: Option<MapKind>,
    patch: PatchStrategy,
    retain_keys: bool,
    keys: Span,
    merge_key: Span,
    default: Span,
    values: Span,
}

/// Types that refer to each other.
#[derive(Clone, Debug)]
pub struct Table {
    text: Cow<'static, str>,
    packages: Cow<'static, [Package]>,
    types: Cow<'static, [Type]>,
    /// The fields of each type side by side, sorted by name.
    fields: Cow<'static, [Field]>,
    elements: Cow<'static, [Shape]>,
    facts: Cow<'static, [FieldFacts]>,
}

impl Table {
    /// The type at `of`, which comes from this table.
    #[must_use]
    pub fn get(&self, of: TypeRef) -> TypeView<'_> {
        TypeView { table: self, entry: &self.types[usize::from(of.0)] }
    }

    /// What the elements of a list or the values of a map are.
    #[must_use]
    pub fn element(&self, of: ElementRef) -> Shape {
        self.elements[usize::from(of.0)]
    }

    /// Every type, in the order of their references.
    pub fn types(&self) -> impl Iterator<Item = (TypeRef, TypeView<'_>)> {
        (0..).map(TypeRef).zip(self.types.iter().map(|entry| TypeView { table: self, entry }))
    }

    /// How many types and how many fields there are.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.types.len(), self.fields.len())
    }

    /// Where the fields of `of` begin among those of all types.
    pub(super) fn first_field(&self, of: TypeRef) -> usize {
        self.types[usize::from(of.0)].first as usize
    }

    /// The type of this name in a group's version that has kinds of its own.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, name: &str) -> Option<TypeRef> {
        let of_version = |package: &Package| {
            (self.text(package.group), self.text(package.version)) == (group, version)
        };
        // Types stand by their packages, and by their names within each.
        let packages = self.packages.iter().enumerate().filter(|(_, one)| of_version(one));
        packages.map(|(at, _)| at).find_map(|package| {
            let place = |one: &Type| (usize::from(one.package), self.text(one.name));
            let found = self.types.binary_search_by(|one| place(one).cmp(&(package, name)));
            found.ok().and_then(|at| u16::try_from(at).ok()).map(TypeRef)
        })
    }

    fn text(&self, span: Span) -> &str {
        let (at, length) = (span.at as usize, span.length as usize);
        &self.text[at..at + length]
    }
}

/// One type of a table.
#[derive(Clone, Copy, Debug)]
pub struct TypeView<'t> {
    table: &'t Table,
    entry: &'t Type,
}

impl<'t> TypeView<'t> {
    /// `PodSpec`.
    #[must_use]
    pub fn name(&self) -> &'t str {
        self.table.text(self.entry.name)
    }

    /// `io.k8s.api.core.v1`: with a dot and the name behind it, the type's name in OpenAPI.
    #[must_use]
    pub fn package(&self) -> &'t str {
        self.table.text(self.package_entry().name)
    }

    /// `apps`; empty for the core group.
    #[must_use]
    pub fn group(&self) -> &'t str {
        self.table.text(self.package_entry().group)
    }

    /// `v1`.
    #[must_use]
    pub fn version(&self) -> &'t str {
        self.table.text(self.package_entry().version)
    }

    fn package_entry(&self) -> &'t Package {
        &self.table.packages[usize::from(self.entry.package)]
    }

    /// Whether objects of this type carry `apiVersion` and `kind`.
    #[must_use]
    pub fn is_kind(&self) -> bool {
        self.entry.is_kind
    }

    /// Whether server-side apply owns the whole struct at once.
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.entry.is_atomic
    }

    /// Whether this is free-form JSON. Its fields are those of its protobuf message then: one of
    /// them holds what the JSON is.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.entry.is_any
    }

    /// `x-kubernetes-unions`: the field that says which of the others is set, and these with the
    /// value that each is set for.
    #[must_use]
    pub fn union(&self) -> Option<(&'t str, impl Iterator<Item = (&'t str, &'t str)> + use<'t>)> {
        let (discriminator, fields) = self.table.text(self.entry.union).split_once(':')?;
        Some((discriminator, fields.split(',').filter_map(|field| field.split_once('='))))
    }

    fn entries(&self) -> &'t [Field] {
        let first = self.entry.first as usize;
        &self.table.fields[first..first + usize::from(self.entry.fields)]
    }

    /// The fields, sorted by name.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = FieldView<'t>> + use<'t> {
        let table = self.table;
        self.entries().iter().map(move |entry| FieldView { table, entry })
    }

    /// The field of this name; names are compared with case, as apimachinery's JSON does.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<FieldView<'t>> {
        let entries = self.entries();
        let at = entries.binary_search_by(|field| self.table.text(field.name).cmp(name)).ok()?;
        Some(FieldView { table: self.table, entry: &entries[at] })
    }
}

/// One field of a type.
#[derive(Clone, Copy, Debug)]
pub struct FieldView<'t> {
    table: &'t Table,
    entry: &'t Field,
}

impl<'t> FieldView<'t> {
    #[must_use]
    pub fn name(&self) -> &'t str {
        self.table.text(self.entry.name)
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        self.entry.shape
    }

    /// The field's protobuf number, with the numbers of the messages it is nested in before it.
    /// Empty where protobuf does not have the field.
    #[must_use]
    pub fn protobuf_path(&self) -> &'t [u8] {
        let length = self.entry.number.iter().take_while(|number| **number != 0).count();
        &self.entry.number[..length]
    }

    fn facts(&self) -> &'t FieldFacts {
        &self.table.facts[usize::from(self.entry.facts)]
    }

    #[must_use]
    pub fn is_required(&self) -> bool {
        self.facts().required
    }

    /// Whether OpenAPI gives the zero value of the field's type as its default.
    #[must_use]
    pub fn is_zero_by_default(&self) -> bool {
        self.facts().zero
    }

    /// Whether protobuf has the list in a message of its own (`ExtraValue`, `Verbs`).
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        self.facts().wrapped
    }

    /// Whether a zero of this scalar says something. Elsewhere it is as good as nothing, and Go
    /// clients send it in protobuf where they mean nothing.
    #[must_use]
    pub fn is_pointer(&self) -> bool {
        self.facts().pointer
    }

    /// Whether this is a zero that is as good as nothing: Go leaves it out when it writes an object
    /// (`omitempty`).
    #[must_use]
    pub fn is_left_out(&self, value: &Value) -> bool {
        let is_zero = match self.shape() {
            Shape::String | Shape::Bytes => value == "",
            Shape::Bool => value == &Value::Bool(false),
            Shape::Int32 | Shape::Int64 => value.as_i64() == Some(0),
            Shape::Double => value.as_f64() == Some(0.0),
            _ => false,
        };
        is_zero && !self.is_pointer() && !self.is_required() && !self.is_zero_by_default()
    }

    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.facts().deprecated
    }

    #[must_use]
    pub fn list_kind(&self) -> Option<ListKind> {
        self.facts().list
    }

    /// `x-kubernetes-list-map-keys`.
    pub fn list_keys(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.parts(self.facts().keys, ',')
    }

    #[must_use]
    pub fn map_kind(&self) -> Option<MapKind> {
        self.facts().map
    }

    #[must_use]
    pub fn patch_strategy(&self) -> PatchStrategy {
        self.facts().patch
    }

    /// Whether clients may send `$retainKeys` for this struct.
    #[must_use]
    pub fn retains_keys(&self) -> bool {
        self.facts().retain_keys
    }

    /// `x-kubernetes-patch-merge-key`; empty where a list has none.
    #[must_use]
    pub fn merge_key(&self) -> &'t str {
        self.table.text(self.facts().merge_key)
    }

    /// The default as JSON, where it is not the zero value.
    #[must_use]
    pub fn default_json(&self) -> Option<&'t str> {
        Some(self.table.text(self.facts().default)).filter(|json| !json.is_empty())
    }

    /// The values an enum may have; none where the field is no enum.
    pub fn enum_values(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.parts(self.facts().values, '|')
    }

    fn parts(&self, span: Span, separator: char) -> impl Iterator<Item = &'t str> + use<'t> {
        let text = self.table.text(span);
        text.split(separator).filter(move |_| !text.is_empty())
    }
}

include!(concat!(env!("OUT_DIR"), "/schema_tables.rs"));
