//! Checks, and makes where it may, what a hostPath names: upstream pkg/volume/hostpath/host_path.go
//! (v1.35).

use super::plan::HostPathKind;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// # Errors
/// What is wrong with the path, in upstream's words.
pub(super) fn ensure(path: &Path, kind: HostPathKind) -> Result<(), String> {
    let made = match kind {
        HostPathKind::DirectoryOrCreate if !path.exists() => {
            DirBuilder::new().recursive(true).mode(0o755).create(path)
        }
        HostPathKind::FileOrCreate if !path.exists() => {
            OpenOptions::new().append(true).create(true).mode(0o644).open(path).map(drop)
        }
        _ => Ok(()),
    };
    made.map_err(|error| format!("{}: {error}", path.display()))?;
    check(path, kind)
}

fn check(path: &Path, kind: HostPathKind) -> Result<(), String> {
    let wanted = match kind {
        HostPathKind::Any => return Ok(()),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => "a directory",
        HostPathKind::File | HostPathKind::FileOrCreate => "a file",
        HostPathKind::Socket => "a socket file",
        HostPathKind::CharDevice => "a character device",
        HostPathKind::BlockDevice => "a block device",
    };
    let is_it = |found: fs::FileType| match kind {
        HostPathKind::Any => true,
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => found.is_dir(),
        HostPathKind::File | HostPathKind::FileOrCreate => found.is_file(),
        HostPathKind::Socket => found.is_socket(),
        HostPathKind::CharDevice => found.is_char_device(),
        HostPathKind::BlockDevice => found.is_block_device(),
    };
    match fs::metadata(path) {
        Ok(found) if is_it(found.file_type()) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Err(format!("hostPath type check failed: {} is not {wanted}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn paths_are_what_they_have_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        for (name, kind, expected) in [
            (".", HostPathKind::Directory, true),
            ("file", HostPathKind::Directory, false),
            ("none", HostPathKind::Directory, false),
            ("none", HostPathKind::Any, true),
            ("file", HostPathKind::File, true),
            (".", HostPathKind::File, false),
            ("socket", HostPathKind::Socket, true),
            ("file", HostPathKind::Socket, false),
            ("file", HostPathKind::CharDevice, false),
            ("file", HostPathKind::BlockDevice, false),
            ("made/dir", HostPathKind::DirectoryOrCreate, true),
            ("file", HostPathKind::DirectoryOrCreate, false),
            ("made/file", HostPathKind::FileOrCreate, true),
            ("nowhere/file", HostPathKind::FileOrCreate, false),
        ] {
            assert_eq!(ensure(&path(name), kind).is_ok(), expected, "{name} {kind:?}");
        }
        assert!(ensure(Path::new("/dev/null"), HostPathKind::CharDevice).is_ok());
        let error = ensure(&path("file"), HostPathKind::Directory).unwrap_err();
        assert!(error.starts_with("hostPath type check failed: "), "{error}");
        assert!(error.ends_with("file is not a directory"), "{error}");
    }
}
