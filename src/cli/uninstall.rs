//! `kinglet uninstall`: becomes the script that install.sh has put beside the executable.

use anyhow::{Context as _, bail};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

const SCRIPT: &str = "kinglet-uninstall.sh";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Services to remove, where there are several, such as kinglet-agent
    service: Vec<OsString>,
}

/// Returns only where it could not.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let executable = std::env::current_exe().context("this executable cannot be found")?;
    let script = executable.with_file_name(SCRIPT);
    if !script.is_file() {
        bail!(
            "there is no {}, so that this was not installed by install.sh. Where a package brought it, \
             remove that package. Otherwise stop kinglet, run `{executable} killall --purge`, which \
             removes pods and data, and remove {executable} and /etc/kinglet",
            script.display(),
            executable = executable.display()
        );
    }
    let words =
        std::iter::once(script.as_os_str()).chain(args.service.iter().map(OsString::as_os_str));
    let words = words.map(|word: &OsStr| CString::new(word.as_bytes()));
    let words: Vec<_> = words.collect::<Result<_, _>>().context("a name has a zero byte")?;
    // It removes this executable too, so that nobody should wait for it.
    let Err(error) = nix::unistd::execv(&words[0], &words);
    Err(error).with_context(|| format!("{} cannot be run", script.display()))
}
