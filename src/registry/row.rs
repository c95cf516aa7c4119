//! The rows that are served: those of the table, and those that definitions add at run time.

use super::kind::Kind;
use super::kinds::KINDS;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

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

    /// Takes these for the rows of `group` and `plural`. A kind of the table stays what it is: its
    /// objects are where those of the others would be.
    pub fn set(&mut self, (group, plural): (&str, &str), versions: Vec<Arc<Kind>>) {
        let is_of_table = |kind: &Kind| kind.facts.group == group && kind.facts.plural == plural;
        if !KINDS.iter().any(is_of_table) {
            self.custom.insert((group.to_owned(), plural.to_owned()), versions);
        }
    }

    /// Takes the rows of `group` and `plural` away.
    pub fn remove(&mut self, (group, plural): (&str, &str)) {
        self.custom.remove(&(group.to_owned(), plural.to_owned()));
    }
}
