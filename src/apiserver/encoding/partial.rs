//! Objects of which only the metadata is shown: `PartialObjectMetadata`.

use super::accept::TableVersion;
use super::splice;
use crate::api::{Revision, Status};
use serde_json::value::RawValue;
use std::io::Write as _;

/// Appends the metadata of a stored object as an object of its own.
pub(super) fn push(
    out: &mut Vec<u8>,
    stored: &[u8],
    revision: Revision,
    version: TableVersion,
) -> Result<(), Status> {
    let metadata: &RawValue = splice::read_metadata(stored)
        .ok_or_else(|| Status::internal("a stored object has no metadata"))?;
    let members = metadata.get().strip_prefix('{').unwrap_or("}");
    let api_version = version.api_version();
    write!(
        out,
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{api_version}\",\"metadata\":{{"
    )
    .expect("writing to a Vec succeeds");
    splice::push_member(out, revision, members != "}");
    write!(out, "{members}}}").expect("writing to a Vec succeeds");
    Ok(())
}

/// The metadata of a stored object as an object of its own.
pub(crate) fn object(
    stored: &[u8],
    revision: Revision,
    version: TableVersion,
) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    push(&mut out, stored, revision, version)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_metadata_alone() {
        let stored = br#"{"kind":"Pod","metadata":{"name":"a","labels":{"b":"c"}},"spec":{}}"#;
        let shown = object(stored, Revision(3), TableVersion::V1).unwrap();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"3","name":"a","labels":{"b":"c"}}}"#
        );
    }
}
