//! The root file system of one container: layers below, a directory of its own above, one overlay.
//!
//! The mount belongs to the kernel, not to this process: it stays when kinglet ends, and
//! [`Rootfs::is_mounted`] finds it again.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount as kernel;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// mount(2) copies one page of options; the last byte is a zero.
const OPTIONS_BYTES_MAX: usize = 4095;
/// fsconfig(2) takes strings of 256 bytes, the last a zero.
const VALUE_BYTES_MAX: usize = 255;
/// `OVERLAYFS_SUPER_MAGIC`
const OVERLAY_MAGIC: rustix::fs::FsWord = 0x794c_7630;

/// Where overlayfs keeps its marks on files: in names that only the host's root may write, or, in a
/// user namespace, in names that everybody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    Trusted,
    User,
}

impl Marks {
    pub(super) fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// Whether this kernel may have `lowerdir+`: Linux before 6.7 has not, before 5.2 no fsopen at all.
static TAKES_LAYERS_ONE_BY_ONE: AtomicBool = AtomicBool::new(true);

/// The directories of a container's root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// The image's layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// What the container changes.
    pub upper: PathBuf,
    /// Overlayfs's own.
    pub work: PathBuf,
    pub marks: Marks,
}

impl Rootfs {
    /// Mounts the overlay on `target`, a directory. Does nothing where it is mounted already.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn mount(&self, target: &Path) -> io::Result<()> {
        if Self::is_mounted(target)? {
            return Ok(());
        }
        if TAKES_LAYERS_ONE_BY_ONE.load(Ordering::Relaxed) {
            match self.mount_by_fsconfig(target) {
                Err(error) if is_unknown(&error) => {}
                result => return result,
            }
        }
        self.mount_by_options(target)?;
        // It was not the layers that it does not know, then. Each question leaves a line in the
        // kernel's log, and so on the disk.
        TAKES_LAYERS_ONE_BY_ONE.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether an overlay is mounted on `target`.
    ///
    /// # Errors
    /// When `target` cannot be looked at.
    pub fn is_mounted(target: &Path) -> io::Result<bool> {
        let is_overlay = rustix::fs::statfs(target)?.f_type == OVERLAY_MAGIC;
        Ok(is_overlay
            && std::fs::metadata(target)?.dev() != std::fs::metadata(target.join(".."))?.dev())
    }

    /// Takes the overlay off `target`. Succeeds where nothing is mounted or nothing is there.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn unmount(target: &Path) -> io::Result<()> {
        match kernel::unmount(target, kernel::UnmountFlags::DETACH | kernel::UnmountFlags::NOFOLLOW)
        {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// One option for each directory: no page to overflow.
    fn mount_by_fsconfig(&self, target: &Path) -> io::Result<()> {
        let overlay = kernel::fsopen("overlay", kernel::FsOpenFlags::FSOPEN_CLOEXEC)?;
        let fd = || &overlay;
        kernel::fsconfig_set_string(fd(), "source", "kinglet")?;
        // Names by descriptor have to stay open until the file system is made.
        let mut open = Vec::new();
        let upper_and_work = [("upperdir", &self.upper), ("workdir", &self.work)];
        let lower = self.lower.iter().map(|path| ("lowerdir+", path));
        for (key, path) in lower.chain(upper_and_work) {
            let name = Name::of(path, VALUE_BYTES_MAX)?;
            kernel::fsconfig_set_string(fd(), key, name.as_path())?;
            open.push(name);
        }
        if self.marks == Marks::User {
            kernel::fsconfig_set_flag(fd(), "userxattr")?;
        }
        kernel::fsconfig_create(fd())?;
        let mount = kernel::fsmount(
            &overlay,
            kernel::FsMountFlags::FSMOUNT_CLOEXEC,
            kernel::MountAttrFlags::empty(),
        )?;
        kernel::move_mount(
            &mount,
            "",
            CWD,
            target,
            kernel::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(())
    }

    /// Mounts as Linux before 6.7 needs it: with one string of options, in which directories go by
    /// the names of descriptors where their paths do not fit. [`Rootfs::mount`] comes here by itself.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn mount_by_options(&self, target: &Path) -> io::Result<()> {
        let by_path = self.options(VALUE_BYTES_MAX)?;
        let options =
            if by_path.text.len() > OPTIONS_BYTES_MAX { self.options(0)? } else { by_path };
        if options.text.len() > OPTIONS_BYTES_MAX {
            let layers = self.lower.len();
            return Err(io::Error::other(format!(
                "{layers} layers are too many for this kernel; Linux 6.7 takes them"
            )));
        }
        let text = CString::new(options.text).map_err(io::Error::other)?;
        kernel::mount(
            "kinglet",
            target,
            "overlay",
            kernel::MountFlags::empty(),
            Some(text.as_c_str()),
        )?;
        Ok(())
    }

    /// Layers whose path is longer than `path_bytes_max` are named by a descriptor.
    fn options(&self, path_bytes_max: usize) -> io::Result<Options> {
        let mut text = b"lowerdir=".to_vec();
        let mut open = Vec::new();
        for path in &self.lower {
            let name = Name::of(path, path_bytes_max)?;
            if !open.is_empty() {
                text.push(b':');
            }
            text.extend_from_slice(name.as_path().as_os_str().as_bytes());
            open.push(name);
        }
        for (key, path) in [(",upperdir=", &self.upper), (",workdir=", &self.work)] {
            let name = Name::of(path, VALUE_BYTES_MAX)?;
            text.extend_from_slice(key.as_bytes());
            text.extend_from_slice(name.as_path().as_os_str().as_bytes());
            open.push(name);
        }
        if self.marks == Marks::User {
            text.extend_from_slice(b",userxattr");
        }
        Ok(Options { text, _open: open })
    }
}

struct Options {
    text: Vec<u8>,
    _open: Vec<Name>,
}

/// A directory's path, or where that is too long or has characters that options give a meaning
/// to, the name of a descriptor of it, which the kernel follows while it mounts.
enum Name {
    Path(PathBuf),
    Descriptor(PathBuf, #[expect(dead_code, reason = "held open while it is named")] OwnedFd),
}

impl Name {
    fn of(path: &Path, bytes_max: usize) -> io::Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() <= bytes_max && !bytes.iter().any(|byte| b"\\:,\"".contains(byte)) {
            return Ok(Self::Path(path.to_path_buf()));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let name = format!("/proc/self/fd/{}", directory.as_raw_fd()).into_bytes();
        Ok(Self::Descriptor(PathBuf::from(std::ffi::OsString::from_vec(name)), directory))
    }

    fn as_path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::Descriptor(path, _) => path,
        }
    }
}

/// What the kernel says to a system call or an option that it does not know, and what a seccomp
/// filter that does not know the call says.
fn is_unknown(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NOSYS, Errno::INVAL, Errno::PERM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
