//! The roots of the schema table of built-in types, one constant a kind.
//!
//! Where several versions have a kind of the same name, the core group's or the most mature one
//! has the plain name.

use super::TypeRef;

include!(concat!(env!("OUT_DIR"), "/schema_types.rs"));
