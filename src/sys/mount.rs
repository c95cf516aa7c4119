//! Mounting, unmounting, and reading what is mounted.
//!
//! Start at [`unmount_all`], which undoes everything else here.

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The kernel's numbers of file systems in memory: linux/magic.h.
const TMPFS_MAGIC: u32 = 0x0102_1994;
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// Mounts a file or directory at another place.
///
/// # Errors
/// Whatever the kernel says.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount_bind(source, target)?)
}

/// As [`bind`], read-only.
///
/// # Errors
/// Whatever the kernel says; nothing is mounted then.
pub fn bind_read_only(source: &Path, target: &Path) -> io::Result<()> {
    mount_bind(source, target)?;
    // The first mount ignores all flags but MS_BIND: mount(2).
    if let Err(errno) = mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"") {
        unmount_all(target)?;
        return Err(errno.into());
    }
    Ok(())
}

/// Mounts a tree at another place, read-only with all that is mounted in it, which needs a kernel of
/// 5.12 or later.
///
/// # Errors
/// `Unsupported` where the kernel is older, and as it says; nothing is mounted then.
pub fn bind_read_only_tree(source: &Path, target: &Path) -> io::Result<()> {
    rustix::mount::mount_bind_recursive(source, target)?;
    let changed = make_private(target).and_then(|()| set_read_only_tree(target));
    if changed.is_err() {
        unmount_all(target)?;
    }
    changed
}

/// mount_setattr(2), which libc has no function for.
#[expect(unsafe_code, reason = "a system call without a safe wrapper")]
fn set_read_only_tree(target: &Path) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let wanted = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `path` ends with a zero, `wanted` is as long as it is said to be, and both outlive the
    // call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            std::ptr::from_ref(&wanted),
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => {
                io::ErrorKind::Unsupported.into()
            }
            error => error,
        }),
    }
}

/// Keeps mounts below `target` from spreading to other mount namespaces, and theirs from coming in.
///
/// # Errors
/// Whatever the kernel says.
pub fn make_private(target: &Path) -> io::Result<()> {
    Ok(mount_change(target, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// A file system in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// The most it may hold.
    pub size_bytes: u64,
    /// Of its root, whose owner is root.
    pub mode: u32,
    /// Of its root; `None`: root's.
    pub group: Option<u32>,
}

/// Mounts memory, without programs that can be run from there.
///
/// # Errors
/// Whatever the kernel says.
pub fn tmpfs(target: &Path, tmpfs: Tmpfs) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_tmpfs(target, flags, &options(tmpfs))
}

/// Mounts memory that is never written to a disk, where the kernel can promise that (6.4): a volume
/// of a pod, or where secrets are.
///
/// # Errors
/// Whatever the kernel says.
pub fn volume_tmpfs(target: &Path, tmpfs: Tmpfs) -> io::Result<()> {
    let options = options(tmpfs);
    match mount_tmpfs(target, MountFlags::empty(), &format!("{options},noswap")) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            mount_tmpfs(target, MountFlags::empty(), &options)
        }
        mounted => mounted,
    }
}

fn options(tmpfs: Tmpfs) -> String {
    let group = tmpfs.group.map(|group| format!(",gid={group}")).unwrap_or_default();
    format!("size={},mode={:o}{group}", tmpfs.size_bytes, tmpfs.mode)
}

fn mount_tmpfs(target: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = CString::new(options).expect("made of digits and letters");
    Ok(mount(c"tmpfs", target, c"tmpfs", flags, &*options)?)
}

/// A file system of another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMount {
    /// `server:/path`
    pub source: String,
    pub file_system: String,
    /// For the file system, as mount(8) writes them; those that are for every mount are understood,
    /// too.
    pub options: String,
    pub read_only: bool,
}

/// Mounts a file system of another machine, without device files. May take minutes where that machine
/// says nothing: [`mounter`](super::mounter) does not.
///
/// # Errors
/// Whatever the kernel says.
pub fn network(target: &Path, wanted: &NetworkMount) -> io::Result<()> {
    let mut flags = MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, wanted.read_only);
    let mut rest = Vec::new();
    for option in wanted.options.split(',').filter(|option| !option.is_empty()) {
        match FLAG_OPTIONS.iter().find(|(name, _)| *name == option) {
            Some((_, flag)) => flags |= *flag,
            None => rest.push(option),
        }
    }
    let rest = CString::new(rest.join(","))?;
    Ok(mount(wanted.source.as_str(), target, &*wanted.file_system, flags, &*rest)?)
}

/// Options that are flags of the mount and not for its file system. Those that only mount(8) knows
/// mean nothing here.
const FLAG_OPTIONS: &[(&str, MountFlags)] = &[
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("strictatime", MountFlags::STRICTATIME),
    ("lazytime", MountFlags::LAZYTIME),
    ("sync", MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC),
    ("rw", MountFlags::empty()),
    ("suid", MountFlags::empty()),
    ("dev", MountFlags::empty()),
    ("exec", MountFlags::empty()),
    ("atime", MountFlags::empty()),
    ("diratime", MountFlags::empty()),
    ("async", MountFlags::empty()),
    ("defaults", MountFlags::empty()),
    ("auto", MountFlags::empty()),
    ("noauto", MountFlags::empty()),
    ("nofail", MountFlags::empty()),
    ("_netdev", MountFlags::empty()),
];

/// Whether files at `path` are in memory and nowhere else, but for what is swapped.
///
/// # Errors
/// Where there is no such path.
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statfs(path)?.f_type;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].iter().any(|magic| i128::from(found) == i128::from(*magic)))
}

/// Unmounts everything mounted at or below `path`, the latest first, busy or not. Succeeds where
/// nothing is mounted. Links on the way to `path` are followed.
///
/// # Errors
/// Where the kernel refuses.
pub fn unmount_all(path: &Path) -> io::Result<()> {
    let mounted = mounted()?;
    let Some(path) = true_path(path, &mounted)? else {
        return Ok(());
    };
    for target in targets_below(&mounted, &path) {
        match unmount(target.as_path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Unmounted by somebody else since it was listed.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Where something is mounted at or below `path`, in the order to unmount it.
fn targets_below(mounted: &[Mounted], path: &Path) -> Vec<PathBuf> {
    let below = mounted.iter().rev().filter(|mounted| mounted.target.starts_with(path));
    below.map(|mounted| mounted.target.clone()).collect()
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The part of its file system that is mounted.
    pub root: PathBuf,
    pub target: PathBuf,
    pub file_system: String,
    /// Options of the file system, as against those of this mount of it.
    pub super_options: String,
    /// `shared:5`, `master:2` and the like, as the kernel lists them.
    pub propagation: Vec<String>,
}

/// What is mounted in this process's mount namespace, in the order it was mounted.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn mounted() -> io::Result<Vec<Mounted>> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
}

/// Whether something is mounted at `path`. Links on the way there are followed.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    let mounted = mounted()?;
    let path = true_path(path, &mounted)?;
    Ok(path.is_some_and(|path| is_target(&mounted, &path)))
}

fn is_target(mounted: &[Mounted], path: &Path) -> bool {
    mounted.iter().any(|mounted| mounted.target == path)
}

/// A path as the kernel lists it, without links; `None` where there is nothing.
fn true_path(path: &Path, mounted: &[Mounted]) -> io::Result<Option<PathBuf>> {
    // What is mounted there is not looked at: it may be a file system whose server is dead, where
    // every look waits for it.
    let (parent, name) = (path.parent().map(fs::canonicalize), path.file_name());
    if let (Some(Ok(parent)), Some(name)) = (parent, name) {
        let place = parent.join(name);
        if is_target(mounted, &place) {
            return Ok(Some(place));
        }
    }
    match fs::canonicalize(path) {
        Ok(path) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// proc(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let target = fields.next()?;
    fields.next()?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let propagation = fields.by_ref().take_while(|field| *field != b"-").map(text).collect();
    let file_system = text(fields.next()?);
    let super_options = text(fields.nth(1)?);
    Some(Mounted {
        root: unescape(root).into(),
        target: unescape(target).into(),
        file_system,
        super_options,
        propagation,
    })
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| octal(after)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = OsStr::from_bytes(digits.get(..3)?).to_str()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_understood() {
        let line = b"36 35 98:0 /mnt\\0401 /a\\134b rw,noatime shared:5 master:1 - ext3 /dev/root rw,errors=continue";
        let expected = Mounted {
            root: "/mnt 1".into(),
            target: "/a\\b".into(),
            file_system: "ext3".to_owned(),
            super_options: "rw,errors=continue".to_owned(),
            propagation: vec!["shared:5".to_owned(), "master:1".to_owned()],
        };
        assert_eq!(parse_line(line), Some(expected));
        assert_eq!(parse_line(b""), None);
        let line = b"36 35 0:1 / /proc rw - proc proc rw";
        assert_eq!(parse_line(line).unwrap().file_system, "proc");
    }

    #[test]
    fn paths_are_compared_without_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let check = |path: &str, expected: Option<&str>| {
            let actual = true_path(&root.join(path), &[]).unwrap();
            assert_eq!(actual, expected.map(|path| root.join(path)), "{path}");
        };
        check("real", Some("real"));
        check("link", Some("real"));
        check("link/none", None);
        let place = root.join("real/unseen");
        let mounted = [at(place.to_str().unwrap())];
        let seen = true_path(&root.join("link/unseen"), &mounted).unwrap();
        assert_eq!(seen, Some(place), "what is mounted is there, whatever it says itself");
        std::os::unix::fs::symlink("/proc", root.join("processes")).unwrap();
        assert!(is_mounted(&root.join("processes")).unwrap());
        assert!(!is_mounted(&root.join("link")).unwrap());
    }

    fn at(target: &str) -> Mounted {
        Mounted {
            root: "/".into(),
            target: target.into(),
            file_system: "tmpfs".to_owned(),
            super_options: String::new(),
            propagation: vec![],
        }
    }

    #[test]
    fn the_latest_mount_goes_first() {
        let mounted = ["/", "/run/a", "/run/ab", "/run/a/b", "/run/a"].map(at);
        let targets = targets_below(&mounted, Path::new("/run/a"));
        assert_eq!(targets, ["/run/a", "/run/a/b", "/run/a"].map(PathBuf::from));
    }
}
