//! One row of the table of kinds.

use super::custom::{CustomVersion, Reading};
use super::managed::{Place, Resets};
use super::object::{Decoded, Resource, decode, decode_stored};
use super::schema::{self, BUILT_IN, Checked, TypeRef};
use super::version::{Version, View};
use bytes::Bytes;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// The verbs of a kind without peculiarities, sorted as discovery lists them.
pub const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The verb of a kind whose objects are questions: they are answered, and not stored.
pub const QUESTION: &[&str] = &["create"];

/// The verbs of a kind whose objects are worked out when they are read, and not stored.
pub const READ_ONLY: &[&str] = &["get", "list"];

/// The constant facts of a kind: enough for routing, discovery and storage keys.
///
/// The texts are `Cow`s because the rows of custom resources are made at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindFacts {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub short_names: Cow<'static, [Cow<'static, str>]>,
    pub categories: Cow<'static, [Cow<'static, str>]>,
    pub scope: Scope,
    pub verbs: &'static [&'static str],
    /// Sorted by name, as discovery lists them.
    pub subresources: Cow<'static, [Subresource]>,
}

/// Something below an object that has a path of its own: `pods/log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    pub body: Body,
    pub verbs: &'static [&'static str],
}

/// What is read or written at the path of a [`Subresource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The object itself.
    Parent,
    /// An object of another kind. Group and version are empty where they are the parent's.
    Other { group: &'static str, version: &'static str, kind: &'static str },
}

impl Subresource {
    /// The object seen through its status.
    pub const STATUS: Self =
        Self { name: "status", body: Body::Parent, verbs: &["get", "patch", "update"] };
    /// The object seen through its number of replicas.
    pub const SCALE: Self = Self {
        name: "scale",
        body: Body::Other { group: "autoscaling", version: "v1", kind: "Scale" },
        verbs: &["get", "patch", "update"],
    };

    /// Group, version and kind of what is read or written there.
    #[must_use]
    pub fn speaks<'a>(&self, parent: &'a KindFacts) -> (&'a str, &'a str, &'a str) {
        match self.body {
            Body::Parent => (&parent.group, &parent.version, &parent.kind),
            Body::Other { group: "", version: "", kind } => (&parent.group, &parent.version, kind),
            Body::Other { group, version, kind } => (group, version, kind),
        }
    }
}

/// What of [`KindFacts`] does not follow from the generated type.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    pub singular: &'static str,
    pub short_names: &'static [Cow<'static, str>],
    pub categories: &'static [Cow<'static, str>],
    pub scope: Scope,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
}

impl BuiltIn {
    pub const NAMESPACED: Self = Self {
        singular: "",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: VERBS,
        subresources: &[],
    };
    pub const CLUSTER: Self = Self { scope: Scope::Cluster, ..Self::NAMESPACED };
}

/// The category that `kubectl get all` asks for.
pub const ALL: &[Cow<'static, str>] = &[Cow::Borrowed("all")];

impl KindFacts {
    #[must_use]
    pub const fn built_in<T: k8s_openapi::Resource>(rest: BuiltIn) -> Self {
        Self {
            group: Cow::Borrowed(T::GROUP),
            version: Cow::Borrowed(T::VERSION),
            kind: Cow::Borrowed(T::KIND),
            plural: Cow::Borrowed(T::URL_PATH_SEGMENT),
            singular: Cow::Borrowed(rest.singular),
            short_names: Cow::Borrowed(rest.short_names),
            categories: Cow::Borrowed(rest.categories),
            scope: rest.scope,
            verbs: rest.verbs,
            subresources: Cow::Borrowed(rest.subresources),
        }
    }

    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone().into_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether objects of this kind are asked, and answered.
    #[must_use]
    pub fn is_question(&self) -> bool {
        self.verbs == QUESTION
    }

    /// Whether objects of this kind are kept.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !self.is_question() && self.verbs != READ_ONLY
    }

    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    #[must_use]
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// One column of a `Table`, as `kubectl get` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// OpenAPI type of the cells: `string`, `integer`, ...
    pub kind: Cow<'static, str>,
    /// `name` for the column that holds the object's name.
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// Columns above zero are printed with `-o wide` only.
    pub priority: i32,
}

impl Column {
    /// The column of the objects' names, the first of every table.
    pub const NAME: Self = Self {
        name: Cow::Borrowed("Name"),
        kind: Cow::Borrowed("string"),
        format: Cow::Borrowed("name"),
        description: Cow::Borrowed("Name, unique within a namespace."),
        priority: 0,
    };
    /// As [`Column::NAME`], for tables that show something else first.
    pub const WIDE_NAME: Self = Self {
        name: Cow::Borrowed("Name"),
        kind: Cow::Borrowed("string"),
        format: Cow::Borrowed("name"),
        description: Cow::Borrowed("Name, unique within a namespace."),
        priority: 1,
    };
    /// The time since the object was created.
    pub const AGE: Self = Self::text("Age", "Time since the object was created.");

    /// The time of creation itself, for kinds that upstream prints without a printer of their own.
    pub const CREATED_AT: Self = Self {
        name: Cow::Borrowed("Created At"),
        kind: Cow::Borrowed("date"),
        format: Cow::Borrowed(""),
        description: Cow::Borrowed("When the object was created."),
        priority: 0,
    };

    #[must_use]
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self::new(name, "string", description, 0)
    }

    #[must_use]
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self::new(name, "integer", description, 0)
    }

    #[must_use]
    pub const fn boolean(name: &'static str, description: &'static str) -> Self {
        Self::new(name, "boolean", description, 0)
    }

    /// A text that is shown with `-o wide` only.
    #[must_use]
    pub const fn wide(name: &'static str, description: &'static str) -> Self {
        Self::new(name, "string", description, 1)
    }

    const fn new(
        name: &'static str,
        kind: &'static str,
        description: &'static str,
        priority: i32,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: Cow::Borrowed(kind),
            format: Cow::Borrowed(""),
            description: Cow::Borrowed(description),
            priority,
        }
    }
}

/// A kind of objects with its behaviour, its type erased.
#[derive(Clone, Debug)]
pub struct Kind {
    pub facts: KindFacts,
    pub columns: Cow<'static, [Column]>,
    /// For a version that is not stored: what it is a view of.
    pub view: Option<View>,
    /// See [`Resource::CREATES_ON_UPDATE`].
    pub creates_on_update: bool,
    /// See [`Resource::UPDATES_UNCONDITIONALLY`].
    pub updates_unconditionally: bool,
    /// See [`Resource::RETURNS_DELETED`].
    pub returns_deleted: bool,
    /// See [`Resource::resets`].
    pub resets: fn(&str) -> Resets,
    behaviour: Behaviour,
}

/// What objects of a kind are made of.
#[derive(Clone, Debug)]
enum Behaviour {
    BuiltIn {
        /// The kind's root in the schema table.
        schema: TypeRef,
        deprecation: Option<&'static str>,
        decode: fn(Value) -> Decoded,
        decode_stored: fn(&[u8]) -> Decoded,
    },
    Custom(Arc<CustomVersion>),
}

impl Kind {
    /// The row of a built-in kind.
    #[must_use]
    pub const fn of<T: Resource>() -> Self {
        Self::row::<T>(None)
    }

    const fn row<T: Resource>(view: Option<View>) -> Self {
        Self {
            facts: T::FACTS,
            columns: Cow::Borrowed(T::COLUMNS),
            view,
            creates_on_update: T::CREATES_ON_UPDATE,
            updates_unconditionally: T::UPDATES_UNCONDITIONALLY,
            returns_deleted: T::RETURNS_DELETED,
            resets: T::resets,
            behaviour: Behaviour::BuiltIn {
                schema: T::SCHEMA,
                deprecation: T::DEPRECATION,
                decode: decode::<T>,
                decode_stored: decode_stored::<T>,
            },
        }
    }

    /// The row of a version of a definition.
    pub(super) fn custom(
        facts: KindFacts,
        columns: Vec<Column>,
        version: Arc<CustomVersion>,
    ) -> Self {
        let has_status = facts.has_status();
        Self {
            facts,
            columns: columns.into(),
            view: None,
            creates_on_update: false,
            updates_unconditionally: false,
            returns_deleted: false,
            resets: if has_status { Resets::of_halves } else { |_| Resets::NONE },
            behaviour: Behaviour::Custom(version),
        }
    }

    /// The row of a version of a built-in kind that is served and not stored.
    #[must_use]
    pub const fn version_of<T: Version>() -> Self {
        Self::row::<T>(Some(View::of::<T>()))
    }

    /// The kind's root in the schema table, where it is of the table.
    #[must_use]
    pub fn built_in_schema(&self) -> Option<TypeRef> {
        match &self.behaviour {
            Behaviour::BuiltIn { schema, .. } => Some(*schema),
            Behaviour::Custom(_) => None,
        }
    }

    /// What whoever uses this kind is told, where it should not be used any more.
    #[must_use]
    pub fn deprecation(&self) -> Option<&str> {
        match &self.behaviour {
            Behaviour::BuiltIn { deprecation, .. } => *deprecation,
            Behaviour::Custom(version) => version.deprecation(),
        }
    }

    /// Whether objects of this kind take the verb. Discovery tells of fewer while a definition goes,
    /// whose objects can still be let go then.
    #[must_use]
    pub fn takes(&self, verb: &str) -> bool {
        match &self.behaviour {
            Behaviour::BuiltIn { .. } => self.facts.verbs.contains(&verb),
            Behaviour::Custom(version) => version.takes(verb),
        }
    }

    /// What the schema says of objects of this kind, as those see it who share their fields.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        match &self.behaviour {
            Behaviour::BuiltIn { schema, .. } => Place::root(&BUILT_IN, *schema),
            Behaviour::Custom(version) => Place::root_of_custom(&version.compiled().schema),
        }
    }

    /// Checks a document against the kind's schema, and prunes it.
    #[must_use]
    pub fn check(&self, value: &mut Value) -> Checked {
        match &self.behaviour {
            Behaviour::BuiltIn { schema, .. } => schema::check(*schema, value),
            Behaviour::Custom(version) => version.compiled().check(value),
        }
    }

    /// Reads an object of this kind. The value has been [checked](Self::check) before.
    ///
    /// # Errors
    /// Where it is none.
    pub fn decode(&self, value: Value) -> Decoded {
        match &self.behaviour {
            Behaviour::BuiltIn { decode, .. } => decode(value),
            Behaviour::Custom(version) => version.compiled().decode(value),
        }
    }

    /// As [`decode`](Self::decode), from what [`Object::encode`](super::Object::encode) wrote.
    ///
    /// # Errors
    /// Where it did not.
    pub fn decode_stored(&self, stored: &[u8]) -> Decoded {
        match &self.behaviour {
            Behaviour::BuiltIn { decode_stored, .. } => decode_stored(stored),
            Behaviour::Custom(version) => version.compiled().decode_stored(stored),
        }
    }

    /// Whether the store has exactly what this version shows.
    #[must_use]
    pub fn is_stored_as_shown(&self) -> bool {
        self.view.is_none() && self.custom_version().is_none()
    }

    /// The version of a definition that this is the row of.
    #[must_use]
    pub fn custom_version(&self) -> Option<&Arc<CustomVersion>> {
        match &self.behaviour {
            Behaviour::BuiltIn { .. } => None,
            Behaviour::Custom(version) => Some(version),
        }
    }

    /// Group and plural of the kind that objects of this one are stored as.
    #[must_use]
    pub fn home(&self) -> (&str, &str) {
        match &self.view {
            None => (&self.facts.group, &self.facts.plural),
            Some(view) => (&view.group, &view.plural),
        }
    }

    /// What this version shows of stored bytes.
    ///
    /// # Errors
    /// Where they are not of the stored version.
    pub fn shown(&self, stored: Bytes) -> Result<Reading, serde_json::Error> {
        match (&self.behaviour, &self.view) {
            (Behaviour::Custom(version), _) => version.shown(&stored),
            (_, None) => Ok(Reading::Done(stored)),
            (_, Some(view)) => (view.of_stored)(&stored).map(Reading::Done),
        }
    }

    /// What is stored of bytes of this version.
    ///
    /// # Errors
    /// Where they are not of this version.
    pub fn stored(&self, shown: Bytes) -> Result<Reading, serde_json::Error> {
        match (&self.behaviour, &self.view) {
            (Behaviour::Custom(version), _) => version.stored(shown),
            (_, None) => Ok(Reading::Done(shown)),
            (_, Some(view)) => (view.to_stored)(&shown).map(Reading::Done),
        }
    }
}
