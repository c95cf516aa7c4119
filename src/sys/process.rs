//! The one way another program is run: fixed environment and directory, output kept within limits,
//! a deadline.
//!
//! Start at [`Program`]. The child sees nothing of this process but what is given to it: no
//! environment variable, no descriptor, no terminal.

use super::memory;
use rustix::fs::{Mode, OFlags};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Where programs are looked for, and their `PATH`.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that prints more on one of its outputs is killed: see [`ProcessError::TooMuchOutput`].
pub const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// A program without a deadline of its own is killed after this long.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);

/// How long to read on after the program has ended, where something it started still holds its
/// output open. What has been printed by then is taken as all of it.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The first descriptor that no child may inherit: after stdin, stdout and stderr.
const FIRST_PRIVATE_DESCRIPTOR: libc::c_uint = 3;

/// A program to run.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    cgroup_files: Vec<PathBuf>,
    input: Vec<u8>,
    deadline: Duration,
    output_bytes_max: usize,
}

/// A program that was started. It is killed where this is dropped.
#[derive(Debug)]
pub struct Running {
    program: Program,
    child: Child,
}

/// How a program ended and what it printed.
#[derive(Clone, Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("{program} could not be started")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} did not finish in {} s", .deadline.as_secs())]
    Deadline { program: String, deadline: Duration },
    #[error("{program} printed more than {bytes_max} bytes")]
    TooMuchOutput { program: String, bytes_max: usize },
    #[error("the input and output of {program} broke")]
    Exchange {
        program: String,
        #[source]
        source: io::Error,
    },
    /// `said` is the last of what it printed on stderr.
    #[error("{program} failed ({outcome}): {said}")]
    Failed { program: String, outcome: String, said: String },
}

impl Program {
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: PathBuf::from("/"),
            cgroup_files: Vec::new(),
            input: Vec::new(),
            deadline: DEADLINE_DEFAULT,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds a variable to `PATH` and `LANG=C`, which are all that the program gets otherwise.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working directory, `/` otherwise.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// The cgroup that the program and all that it starts are in from the beginning, by its
    /// [`process_files`](super::cgroup::Cgroups::process_files). This process's own otherwise.
    #[must_use]
    pub fn cgroup(mut self, process_files: Vec<PathBuf>) -> Self {
        self.cgroup_files = process_files;
        self
    }

    /// What the program reads from its stdin, which is empty otherwise.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// When to kill the program.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How much it may print on each output, [`OUTPUT_BYTES_MAX`] otherwise.
    #[must_use]
    pub fn output_bytes_max(mut self, bytes_max: usize) -> Self {
        self.output_bytes_max = bytes_max;
        self
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Runs the program to its end, whatever its exit status.
    ///
    /// # Errors
    /// Where it cannot be started or breaks a limit; it is killed then, as it is when the future
    /// is dropped.
    pub async fn run(self) -> Result<Finished, ProcessError> {
        self.start()?.finish().await
    }

    /// As [`Program::run`], where an exit status other than zero is an error.
    ///
    /// # Errors
    /// As [`Program::run`], and [`ProcessError::Failed`] with what the program said.
    pub async fn run_checked(self) -> Result<Finished, ProcessError> {
        self.start()?.finish_checked().await
    }

    /// Starts the program, which has not read any of its input yet.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(self) -> Result<Running, ProcessError> {
        match self.spawn() {
            Ok(child) => Ok(Running { program: self, child }),
            Err(source) => Err(ProcessError::Start { program: self.name(), source }),
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        close_descriptors_on_exec();
        let mut command = Command::new(&self.path);
        if memory::has_small_pages() {
            let restore = || {
                memory::restore_huge_pages();
                Ok(())
            };
            // SAFETY: what runs between fork and exec is one system call without memory of ours.
            #[expect(unsafe_code, reason = "the only way to set this for a child")]
            unsafe {
                command.pre_exec(restore);
            }
        }
        if !self.cgroup_files.is_empty() {
            let files =
                self.cgroup_files.iter().map(|file| CString::new(file.as_os_str().as_bytes()));
            let files = files.collect::<Result<Vec<_>, _>>()?;
            // SAFETY: what runs between fork and exec makes system calls and nothing else; its
            // memory is there before the fork.
            #[expect(unsafe_code, reason = "the child must not start anything before")]
            unsafe {
                command.pre_exec(move || enter_cgroup(&files));
            }
        }
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("LANG", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

impl Running {
    /// The process's number, while it has one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// As [`Program::run`].
    ///
    /// # Errors
    /// As [`Program::run`].
    pub async fn finish(mut self) -> Result<Finished, ProcessError> {
        let Self { program: settings, child } = &mut self;
        let (program, deadline) = (settings.name(), settings.deadline);
        match tokio::time::timeout(deadline, exchange(child, settings)).await {
            Ok(Ok(finished)) => Ok(finished),
            Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                let bytes_max = settings.output_bytes_max;
                Err(ProcessError::TooMuchOutput { program, bytes_max })
            }
            Ok(Err(source)) => Err(ProcessError::Exchange { program, source }),
            Err(_elapsed) => Err(ProcessError::Deadline { program, deadline }),
        }
    }

    /// As [`Program::run_checked`].
    ///
    /// # Errors
    /// As [`Program::run_checked`].
    pub async fn finish_checked(self) -> Result<Finished, ProcessError> {
        let program = self.program.name();
        let finished = self.finish().await?;
        if finished.status.success() {
            return Ok(finished);
        }
        let outcome = describe(finished.status);
        Err(ProcessError::Failed { program, outcome, said: last_words(&finished.stderr) })
    }
}

/// Moves the calling process by writing to the `cgroup.procs` of each hierarchy.
fn enter_cgroup(files: &[CString]) -> io::Result<()> {
    for file in files {
        let opened = rustix::fs::open(&**file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        // Zero stands for the process that writes it.
        rustix::io::write(&opened, b"0")?;
    }
    Ok(())
}

/// Feeds the child and reads it until it has ended and closed its outputs.
async fn exchange(child: &mut Child, program: &Program) -> io::Result<Finished> {
    let stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (stdout_pipe, stderr_pipe) = (child.stdout.take(), child.stderr.take());
    let max = program.output_bytes_max;
    let status = {
        let streams = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A program may end without reading all of it; its exit status says what counts.
                    stdin.write_all(&program.input).await.ok();
                }
                Ok(())
            };
            tokio::try_join!(
                feed,
                read_limited(stdout_pipe, &mut stdout, max),
                read_limited(stderr_pipe, &mut stderr, max),
            )
        };
        tokio::pin!(streams);
        tokio::select! {
            biased;
            streams = &mut streams => {
                streams?;
                child.wait().await?
            }
            status = child.wait() => {
                if let Ok(streams) = tokio::time::timeout(OUTPUT_GRACE, &mut streams).await {
                    streams?;
                }
                status?
            }
        }
    };
    Ok(Finished { status, stdout, stderr })
}

async fn read_limited(
    pipe: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<()> {
    let Some(mut pipe) = pipe else {
        return Ok(());
    };
    while pipe.read_buf(into).await? > 0 {
        if into.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(())
}

/// Marks every open descriptor close-on-exec, also those that came from a careless parent or a C
/// library.
fn close_descriptors_on_exec() {
    // A kernel older than 5.11 does not know the flag; the descriptors that Rust opens are
    // close-on-exec there all the same, so the result does not matter.
    // SAFETY: the system call takes three numbers and touches no memory of ours; changing the flag
    // of descriptors that others own does not invalidate them.
    #[expect(unsafe_code, reason = "no crate wraps close_range with its flags")]
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST_PRIVATE_DESCRIPTOR,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// `exit status 1`, `killed by signal 9`.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The last lines of what a program said, short enough for an error message.
fn last_words(stderr: &[u8]) -> String {
    const CHARS_MAX: usize = 2_048;
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(CHARS_MAX);
    text.chars().skip(skipped).collect()
}

/// The program of that name in [`SEARCH_PATH`]; a name with a slash is a path already.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return is_program(Path::new(name)).then(|| PathBuf::from(name));
    }
    SEARCH_PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|p| is_program(p))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn output_status_and_input() {
        let finished = shell("cat; pwd; echo oops >&2; exit 3").input("in\n").run().await.unwrap();
        assert_eq!(finished.stdout, b"in\n/\n");
        assert_eq!(finished.stderr, b"oops\n");
        assert_eq!(finished.status.code(), Some(3));
    }

    #[tokio::test]
    async fn the_environment_is_fixed() {
        let finished = Program::new("/usr/bin/env").env("X", "1").run().await.unwrap();
        let stdout = String::from_utf8(finished.stdout).unwrap();
        let mut lines: Vec<_> = stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LANG=C", &format!("PATH={SEARCH_PATH}"), "X=1"]);
    }

    #[tokio::test]
    async fn a_failure_says_what_the_program_said() {
        let error = shell("echo no such table >&2; exit 1").run_checked().await.unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status 1): no such table");
        let error = shell("kill -9 $$").run_checked().await.unwrap_err();
        assert_eq!(error.to_string(), "sh failed (killed by signal 9): ");
        let error = Program::new("/no/such").run().await.unwrap_err();
        assert_eq!(error.to_string(), "such could not be started");
    }

    #[tokio::test]
    async fn limits_are_kept() {
        let error = shell("exec sleep 60").deadline(Duration::from_millis(50)).run().await;
        assert!(matches!(error.unwrap_err(), ProcessError::Deadline { .. }));
        let error = shell("exec yes").output_bytes_max(1_000).run().await.unwrap_err();
        assert_eq!(error.to_string(), "sh printed more than 1000 bytes");
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
        let finished = shell("sleep 5 & echo started").run().await.unwrap();
        assert_eq!(finished.stdout, b"started\n");
    }

    #[tokio::test]
    async fn descriptors_are_not_inherited() {
        let file = File::open("/dev/null").unwrap();
        let copy = nix::unistd::dup(&file).unwrap();
        let number = copy.as_raw_fd();
        let finished = shell(&format!("test -e /proc/self/fd/{number}")).run().await.unwrap();
        assert_eq!(finished.status.code(), Some(1), "descriptor {number} was inherited");
    }

    #[test]
    fn programs_are_found() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }
}
