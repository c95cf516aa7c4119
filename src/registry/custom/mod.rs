//! Custom resources: objects whose kind somebody has defined while the server runs.
//!
//! Start at [`Definition::compile`], which makes what is kept of a CustomResourceDefinition:
//! [`CompiledVersion`] is what is true of one of its versions, and [`Definition::rows`] are the
//! [kinds](super::Kind) that are served for it, which no verb can tell from built-in ones.
//! [`CustomObject`] is an object of such a kind.
//!
//! Follows upstream's `apiextensions-apiserver/pkg/registry/customresource` (v1.35).

mod columns;
mod definition;
pub mod json_path;
mod object;
mod read;
mod scale;
#[cfg(test)]
mod tests;
mod version;

pub use definition::{Conversion, CustomVersion, Definition, NotServed};
pub use object::CustomObject;
pub use read::Reading;
pub use scale::{ScalePaths, Scaled};
pub use version::{CompiledVersion, SelectableField};
