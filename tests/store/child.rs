//! This test binary, started once more as another process, to be killed or cramped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The variable that tells a child which file to work on. Without it the tests that are children pass
/// at once.
const PATH: &str = "KINGLET_TEST_STORE_CHILD";

/// The file to work on, in a child.
pub(crate) fn path() -> Option<PathBuf> {
    std::env::var_os(PATH).map(PathBuf::from)
}

/// Says something to the parent. What has been said is not lost when the child is killed.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{MARK}{line}").unwrap();
    stdout.flush().unwrap();
}

/// Before each line of [`say`], so that it is told from what the test harness says.
const MARK: &str = "\u{1}";

/// The command that runs the test `name` of this binary on `path`, through `wrapper`.
#[expect(clippy::disallowed_methods, reason = "the test harness itself is run, not a tool")]
fn command(wrapper: &[&str], name: &str, path: &Path) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(exe),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(exe);
            command
        }
    };
    command.args(["--exact", name, "--nocapture"]).env(PATH, path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Runs a child to its end and returns what it said, or `None` when it failed.
pub(crate) fn run(wrapper: &[&str], name: &str, path: &Path) -> Option<Vec<String>> {
    let output = command(wrapper, name, path).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| text.lines().filter_map(said).collect())
}

fn said(line: &str) -> Option<String> {
    // The harness begins a line with the name of the test and does not end it.
    line.split_once(MARK).map(|(_, said)| said.to_owned())
}

/// A child that is killed sooner or later.
pub(crate) struct Doomed {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Doomed {
    pub(crate) fn start(name: &str, path: &Path) -> Self {
        let mut child = command(&[], name, path).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for the next thing it says.
    pub(crate) fn hear(&mut self) -> Option<String> {
        self.lines.by_ref().map(Result::unwrap).find_map(|line| said(&line))
    }

    /// Kills it, as `kill -9` does, and returns the rest of what it said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        // The last line may be cut off in the middle: then its end is missing.
        let rest = self.lines.by_ref().map_while(Result::ok);
        let rest = rest.filter_map(|line| said(&line)).collect();
        self.child.wait().unwrap();
        rest
    }
}
