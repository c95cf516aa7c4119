//! Whether the machine is going down, to be asked by a process that was just told to end: the same
//! signal ends it when it is restarted or upgraded.
//!
//! Start at [`machine_is_going_down`]. Asked once, at the end; nothing is watched before.

use super::process::{Program, find};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// An init system that does not answer within this time is one that does not know: the machine
/// stays up, as far as can be told.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// Whether the init system is bringing the machine down: systemd, OpenRC, or one that keeps
/// runlevels as System V does. `false` where nobody knows.
pub async fn machine_is_going_down() -> bool {
    if Path::new("/run/systemd/system").is_dir() {
        return is_stopping(&said("systemctl", "is-system-running").await);
    }
    if Path::new("/run/openrc/rc.stopping").exists() && command_lines().any(|it| is_openrc(&it)) {
        return true;
    }
    is_last_runlevel(&said("runlevel", "").await)
}

/// What a program of the init system prints; nothing where it cannot be asked.
async fn said(program: &str, argument: &str) -> String {
    let Some(path) = find(program) else { return String::new() };
    let arguments = Some(argument).filter(|argument| !argument.is_empty());
    let program = Program::new(path).args(arguments).deadline(ASK_WITHIN);
    let finished = program.run().await;
    finished.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default()
}

/// systemd: `systemctl is-system-running`.
fn is_stopping(state: &str) -> bool {
    state.trim() == "stopping"
}

/// System V: the runlevel before and the one now. Zero is power off and six is reboot.
fn is_last_runlevel(levels: &str) -> bool {
    matches!(levels.split_whitespace().nth(1), Some("0" | "6"))
}

/// OpenRC: the program that leaves a runlevel names the next one. The runlevel that is recorded is
/// the old one until everything has stopped.
fn is_openrc(command_line: &[u8]) -> bool {
    let mut words = command_line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default().rsplit(|byte| *byte == b'/').next();
    let level = words.next().unwrap_or_default();
    matches!(program, Some(b"openrc" | b"rc")) && matches!(level, b"shutdown" | b"reboot")
}

/// Of all processes.
fn command_lines() -> impl Iterator<Item = Vec<u8>> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_systems_tell_the_end_from_a_restart() {
        for (state, expected) in [("stopping\n", true), ("running\n", false), ("", false)] {
            assert_eq!(is_stopping(state), expected, "{state:?}");
        }
        for (levels, expected) in
            [("5 0\n", true), ("2 6\n", true), ("N 2\n", false), ("unknown\n", false)]
        {
            assert_eq!(is_last_runlevel(levels), expected, "{levels:?}");
        }
        for (line, expected) in [
            (&b"/sbin/openrc\0shutdown\0"[..], true),
            (b"openrc\0reboot\0", true),
            (b"/sbin/openrc\0default\0", false),
            (b"/bin/sh\0shutdown\0", false),
            (b"", false),
        ] {
            assert_eq!(is_openrc(line), expected);
        }
    }

    #[tokio::test]
    async fn a_machine_that_runs_tests_stays_up() {
        assert!(!machine_is_going_down().await);
    }
}
