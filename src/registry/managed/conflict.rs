//! What an apply would take from others (apimachinery pkg/util/managedfields/internal/conflict.go,
//! v1.35).

use super::entries::Owner;
use super::set::FieldSet;
use std::fmt::{self, Display};

/// Fields that others manage and that an apply would change, by their owners in upstream's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts<'a> {
    by_owner: Vec<(Owner<'a>, FieldSet<'a>)>,
}

/// One field that somebody else manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `conflict with "kubectl" using apps/v1`.
    pub message: String,
    /// `.spec.replicas`.
    pub field: String,
}

impl<'a> Conflicts<'a> {
    /// `None` where there are none.
    pub(super) fn of(mut by_owner: Vec<(Owner<'a>, FieldSet<'a>)>) -> Option<Self> {
        by_owner.retain(|(_, fields)| !fields.is_empty());
        by_owner.sort_by_cached_key(|(owner, _)| owner.identifier());
        (!by_owner.is_empty()).then_some(Self { by_owner })
    }

    /// These but for the fields in `allowed`.
    pub(super) fn without(self, allowed: &FieldSet<'_>) -> Option<Self> {
        let left = |(owner, fields): (Owner<'a>, FieldSet<'a>)| {
            let shared = fields.intersection(allowed);
            (owner, fields.difference(&shared))
        };
        Self::of(self.by_owner.into_iter().map(left).collect())
    }

    /// Every field with its owner.
    #[must_use]
    pub fn each(&self) -> Vec<Conflict> {
        let of_owner = |(owner, fields): &(Owner<'a>, FieldSet<'a>)| {
            let message = format!("conflict with {}", owner.described());
            let each = move |field| Conflict { message: message.clone(), field };
            fields.paths().into_iter().map(each)
        };
        self.by_owner.iter().flat_map(of_owner).collect()
    }
}

impl Display for Conflicts<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.each();
        if let [Conflict { message, field }] = &each[..] {
            return write!(out, "Apply failed with 1 conflict: {message}: {field}");
        }
        write!(out, "Apply failed with {} conflicts: ", each.len())?;
        for (index, (owner, fields)) in self.by_owner.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(out, "{line}conflicts with {}:", owner.described())?;
            for path in fields.paths() {
                write!(out, "\n- {path}")?;
            }
        }
        Ok(())
    }
}
