//! Mounts file systems of other machines in a process of its own. The kernel may wait for minutes for
//! a server that says nothing, and nothing but its end takes a process out of that wait.
//!
//! Start at [`mount()`], which starts this same executable again as [`run`].

use super::mount::{self, NetworkMount};
use super::process::{ProcessError, Program};
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The only argument of such a process, which reads what to mount where.
pub const NAME: &str = "network-mounter";

/// This executable, also where another one has been put in its place meanwhile.
const EXECUTABLE: &str = "/proc/self/exe";

/// Between what the process reads: no path or option has it.
const SEPARATOR: u8 = 0;

/// Mounts a file system of another machine at `target`.
///
/// # Errors
/// Whatever the kernel says, and `TimedOut` where it says nothing within this time: nothing is mounted
/// then, and nothing goes on.
pub async fn mount(target: &Path, wanted: &NetworkMount, within: Duration) -> io::Result<()> {
    let program =
        Program::new(EXECUTABLE).arg(NAME).input(written(target, wanted)?).deadline(within);
    let finished = match program.run().await {
        Ok(finished) => finished,
        Err(ProcessError::Deadline { .. }) => return Err(io::ErrorKind::TimedOut.into()),
        Err(error) => return Err(io::Error::other(error)),
    };
    match String::from_utf8_lossy(&finished.stdout).trim().parse() {
        Ok(0) => Ok(()),
        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
        Err(_) => Err(io::Error::other(format!("the mounting process ended: {}", finished.status))),
    }
}

/// What the process does: it prints the kernel's error number, and zero where it is mounted.
///
/// # Errors
/// Where what it reads is not what [`mount()`] writes.
pub fn run() -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let (target, wanted) = read(&input).ok_or(io::ErrorKind::InvalidInput)?;
    let errno = match mount::network(&target, &wanted) {
        Ok(()) => 0,
        // What did not come from the kernel was never asked of it.
        Err(error) => error.raw_os_error().unwrap_or(libc::EINVAL),
    };
    writeln!(io::stdout(), "{errno}")
}

/// Whoever has a word with the separator in it could say more than his own.
fn written(target: &Path, wanted: &NetworkMount) -> io::Result<Vec<u8>> {
    let access = if wanted.read_only { "ro" } else { "rw" };
    let words = [&*wanted.source, &*wanted.file_system, &*wanted.options, access];
    let words = words.map(str::as_bytes);
    let words: Vec<_> = [target.as_os_str().as_bytes()].into_iter().chain(words).collect();
    match words.iter().any(|word| word.contains(&SEPARATOR)) {
        true => Err(io::ErrorKind::InvalidInput.into()),
        false => Ok(words.join(&SEPARATOR)),
    }
}

fn read(input: &[u8]) -> Option<(PathBuf, NetworkMount)> {
    let mut words = input.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec);
    let target = PathBuf::from(OsString::from_vec(words.next()?));
    let mut text = || String::from_utf8(words.next()?).ok();
    let wanted = NetworkMount {
        source: text()?,
        file_system: text()?,
        options: text()?,
        read_only: text()? == "ro",
    };
    Some((target, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> NetworkMount {
        NetworkMount {
            source: "192.0.2.9:/".to_owned(),
            file_system: "nfs".to_owned(),
            options: String::new(),
            read_only: true,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let target = PathBuf::from("/a b/\n");
        let input = written(&target, &wanted()).unwrap();
        assert_eq!(read(&input), Some((target, wanted())));
        assert_eq!(read(b""), None);
        assert_eq!(read(b"/x\0s:/\0nfs"), None);
    }

    #[test]
    fn nobody_says_more_than_his_own() {
        let source = "192.0.2.9:/\0proc\0\0rw".to_owned();
        let sly = NetworkMount { source, ..wanted() };
        assert_eq!(written(Path::new("/x"), &sly).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    /// The executable of these tests mounts nothing: it finds no test of that name.
    #[tokio::test]
    async fn a_process_that_says_nothing_of_its_own_has_failed() {
        let (target, within) = (Path::new("/none"), Duration::from_secs(60));
        let error = mount(target, &wanted(), within).await.unwrap_err();
        assert!(error.to_string().contains("the mounting process ended"), "{error}");
    }
}
