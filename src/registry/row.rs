//! The rows that are served: those of the table, and those that definitions add at run time.

use super::kind::Kind;
use super::kinds::KINDS;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, RwLock};

/// One row, wherever it comes from. A clone costs next to nothing.
#[derive(Clone, Debug)]
pub enum KindRef {
    /// Of the table.
    BuiltIn(&'static Kind),
    /// Made of a definition. Whoever holds it goes on with it where the definition changes.
    Custom(Arc<Kind>),
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            Self::BuiltIn(kind) => kind,
            Self::Custom(kind) => kind,
        }
    }
}

impl From<&'static Kind> for KindRef {
    fn from(kind: &'static Kind) -> Self {
        Self::BuiltIn(kind)
    }
}

/// Every row that is served at one moment.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// By group and plural; the versions of each in the order in which discovery tells them.
    custom: BTreeMap<(String, String), Vec<Arc<Kind>>>,
}

impl Rows {
    /// The kind served at `group`/`version`/`plural`.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        if let Some(kind) = super::find(group, version, plural) {
            return Some(kind.into());
        }
        if self.custom.is_empty() {
            return None;
        }
        let versions = self.custom.get(&(group.to_owned(), plural.to_owned()))?;
        let kind = versions.iter().find(|kind| kind.facts.version == version)?;
        Some(KindRef::Custom(Arc::clone(kind)))
    }

    /// All of them: the table's first, then the others by group and plural.
    pub fn iter(&self) -> impl Iterator<Item = KindRef> {
        let custom = self.custom.values().flatten();
        let custom = custom.map(|kind| KindRef::Custom(Arc::clone(kind)));
        KINDS.iter().map(KindRef::BuiltIn).chain(custom)
    }

    /// The rows with these in the place of those of `group` and `plural`; none takes them away.
    #[must_use]
    pub fn with(&self, (group, plural): (&str, &str), versions: Vec<Arc<Kind>>) -> Self {
        let mut rows = self.clone();
        let key = (group.to_owned(), plural.to_owned());
        if versions.is_empty() {
            rows.custom.remove(&key);
        } else {
            rows.custom.insert(key, versions);
        }
        rows
    }
}

/// The rows of a server, as they are now.
#[derive(Debug, Default)]
pub struct Served(RwLock<Arc<Rows>>);

impl Served {
    /// A picture of them that stays as it is.
    #[must_use]
    pub fn now(&self) -> Arc<Rows> {
        Arc::clone(&self.0.read().expect("no panics under this lock"))
    }

    /// Serves what `change` makes of them from now on.
    pub fn change(&self, change: impl FnOnce(&Rows) -> Rows) {
        let mut rows = self.0.write().expect("no panics under this lock");
        *rows = Arc::new(change(&rows));
    }
}
