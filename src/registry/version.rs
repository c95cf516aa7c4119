//! Kinds with more than one served version: one of them is stored, the others are shown of it.
//!
//! A version that is not stored is a row of the table like any other, with its own schema and
//! discovery. Its objects live where those of the stored version do, and are converted at the seam
//! between the store and the verbs; nothing else knows of it. Conversions are pure, and lose
//! nothing: what the one version cannot say goes into annotations of the other.

use super::object::{Object, Resource};
use bytes::Bytes;
use std::borrow::Cow;

/// A version that is served and not stored.
pub trait Version: Resource {
    type Stored: Resource;

    /// What this version shows of a stored object.
    fn of_stored(stored: Self::Stored) -> Self;

    /// What is stored of an object of this version, before its defaults.
    fn into_stored(self) -> Self::Stored;
}

/// Where the objects of a version are, and what they are there.
#[derive(Clone, Debug)]
pub struct View {
    pub group: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    /// What this version shows of stored bytes.
    pub of_stored: fn(&[u8]) -> Result<Bytes, serde_json::Error>,
    /// What is stored of bytes of this version.
    pub to_stored: fn(&[u8]) -> Result<Bytes, serde_json::Error>,
}

impl View {
    pub(super) const fn of<T: Version>() -> Self {
        Self {
            group: Cow::Borrowed(<T::Stored as k8s_openapi::Resource>::GROUP),
            plural: Cow::Borrowed(<T::Stored as k8s_openapi::Resource>::URL_PATH_SEGMENT),
            of_stored: of_stored::<T>,
            to_stored: to_stored::<T>,
        }
    }
}

fn of_stored<T: Version>(stored: &[u8]) -> Result<Bytes, serde_json::Error> {
    let stored: T::Stored = serde_json::from_slice(stored)?;
    Ok(T::of_stored(stored).encode())
}

fn to_stored<T: Version>(shown: &[u8]) -> Result<Bytes, serde_json::Error> {
    let shown: T = serde_json::from_slice(shown)?;
    let mut stored = shown.into_stored();
    Resource::apply_defaults(&mut stored);
    Ok(stored.encode())
}
