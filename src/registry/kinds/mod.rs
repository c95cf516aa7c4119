//! One file per kind, and the table that lists them.

use super::Kind;

/// Every built-in kind. The order is the order in discovery documents.
pub static KINDS: &[Kind] = &[];
