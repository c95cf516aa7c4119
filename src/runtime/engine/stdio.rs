//! How a container's input and outputs are wired, so that they outlive this process.
//!
//! The shim starts the logger and gives it the outputs ([`companion::LOGGER`]). A shim that does
//! that gives the container no input but a terminal's (containerd-shim-runc-v2 `NewBinaryIO`,
//! containerd 1.6 to 2.1): the logger of a container with an input and no terminal is started here
//! and reads the outputs from named pipes ([`companion::PIPED_LOGGER`]).

use super::super::companion;
use super::super::logger::LoggerSettings;
use super::layout::ContainerFiles;
use super::pipes::hold;
use super::tables::Container;
use super::{Engine, records};
use crate::stdx::blocking;
use crate::sys::process::Program;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe;

/// What may not stand for itself in a query of a URI.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+');
const PATH: &AsciiSet = &QUERY.add(b'?');

/// A logger is ready in milliseconds; a machine that swaps takes longer.
const LOGGER_DEADLINE: Duration = Duration::from_secs(30);

/// What a shim is told of a container's input and outputs.
pub(super) struct Wiring {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Keep the pipes from ending before the shim has opened them.
    _held: Vec<pipe::Sender>,
}

impl Engine {
    /// Makes what the container's input and outputs go through. Kept until the shim has it.
    pub(super) async fn wire(&self, container: &Container) -> io::Result<Wiring> {
        let (files, config) = (&container.files, &container.record.config);
        let is_piped = config.stdin && !config.tty;
        let settings = LoggerSettings {
            log_path: config.log_path.clone(),
            bytes_max: self.config.log_limits.bytes_max,
            files_max: self.config.log_limits.files_max,
            pid_path: files.logger_pid(),
            directory: files.bundle().to_owned(),
            pipes: is_piped.then(|| files.outputs()),
        };
        let (made, has_stdin) = (files.clone(), config.stdin);
        blocking(move || {
            records::write(&made.logger_settings(), &settings)?;
            let stdin = has_stdin.then(|| made.stdin());
            let outputs = settings.pipes.into_iter().flatten();
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            stdin.into_iter().chain(outputs).try_for_each(|path| Ok(mkfifo(&path, mode)?))
        })
        .await
        .map_err(|error: io::Error| error)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let stdin = if config.stdin { text(&files.stdin()) } else { String::new() };
        if !is_piped {
            let uri = logger_uri(&self.config.executable, files);
            return Ok(Wiring { stdin, stdout: uri.clone(), stderr: uri, _held: Vec::new() });
        }
        let [stdout, stderr] = files.outputs();
        let held = vec![hold(&stdout)?, hold(&stderr)?];
        self.start_logger(files).await?;
        Ok(Wiring { stdin, stdout: text(&stdout), stderr: text(&stderr), _held: held })
    }

    /// Returns when the logger reads. It ends when nobody writes any more.
    async fn start_logger(&self, files: &ContainerFiles) -> io::Result<()> {
        let cgroup = self.make_cgroup(self.shims_cgroup.clone()).await?;
        let program = Program::new(&self.config.executable)
            .arg(companion::PIPED_LOGGER)
            .arg(files.logger_settings())
            .cgroup(cgroup)
            .deadline(LOGGER_DEADLINE);
        program.run_checked().await.map(drop).map_err(io::Error::other)
    }
}

/// `binary:///path?container-logger=/path`: the shim starts the program with key and value as its
/// arguments.
fn logger_uri(executable: &Path, files: &ContainerFiles) -> String {
    let executable = executable.to_string_lossy();
    let settings = files.logger_settings();
    let settings = settings.to_string_lossy();
    format!(
        "binary://{}?{}={}",
        utf8_percent_encode(&executable, PATH),
        companion::LOGGER,
        utf8_percent_encode(&settings, QUERY),
    )
}
