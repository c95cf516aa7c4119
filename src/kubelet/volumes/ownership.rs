//! Whose a volume is where the pod names an `fsGroup`: the group's as well as root's, with new files
//! in it the group's, too.
//!
//! Upstream `changeFilePermission` (pkg/volume/volume_linux.go, v1.35).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

/// What the group may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    Writable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// What is in a directory belongs to the directory's group.
const SET_GROUP: u32 = 0o2000;

/// The mode of what has `mode` without a group.
pub(super) fn mode(mode: u32, group: Option<u32>, kind: Kind, access: Access) -> u32 {
    if group.is_none() {
        return mode;
    }
    let content = match access {
        Access::ReadOnly => 0o440,
        Access::Writable => 0o660,
    };
    let entry = match kind {
        Kind::File => 0,
        Kind::Directory => SET_GROUP | 0o110,
    };
    mode | content | entry
}

/// Gives one file, directory or link to the group, where there is one.
///
/// # Errors
/// As the file system says.
pub(super) fn give(path: &Path, group: Option<u32>, access: Access) -> io::Result<()> {
    if group.is_none() {
        return Ok(());
    }
    let found = fs::symlink_metadata(path)?;
    lchown(path, None, group)?;
    // A link has no mode of its own.
    if found.is_symlink() {
        return Ok(());
    }
    let kind = if found.is_dir() { Kind::Directory } else { Kind::File };
    let wanted = mode(found.permissions().mode() & 0o7777, group, kind, access);
    fs::set_permissions(path, Permissions::from_mode(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_may_read_and_where_there_is_something_to_write_write() {
        for (given, group, kind, access, expected) in [
            (0o777, None, Kind::Directory, Access::Writable, 0o777),
            (0o400, None, Kind::File, Access::ReadOnly, 0o400),
            (0o777, Some(1), Kind::Directory, Access::Writable, 0o2777),
            (0o700, Some(1), Kind::Directory, Access::Writable, 0o2770),
            (0o600, Some(1), Kind::File, Access::Writable, 0o660),
            (0o755, Some(1), Kind::Directory, Access::ReadOnly, 0o2755),
            (0o400, Some(1), Kind::File, Access::ReadOnly, 0o440),
        ] {
            assert_eq!(mode(given, group, kind, access), expected, "{given:o} {kind:?} {access:?}");
        }
    }
}
