//! Programs that are talked to while they run, through pipes or on a terminal.

use super::machine::{Machine, deadline};
use std::io::{Read, Write as _};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// See the module. It is ended with this.
pub struct Talk {
    child: Child,
    /// What it was started as, to be told where something is missing.
    name: String,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Vec<u8>>>,
    complained: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

/// How it ended and what it had said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub said: Vec<u8>,
    pub complained: String,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }
}

impl Talk {
    /// Starts `program` with pipes.
    pub fn start(machine: &Machine, program: &str, arguments: &[&str]) -> Self {
        let mut command = machine.command(program, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (said, complained) = (Arc::default(), Arc::default());
        let readers = vec![
            keep(child.stdout.take().unwrap(), Arc::clone(&said)),
            keep(child.stderr.take().unwrap(), Arc::clone(&complained)),
        ];
        let name = format!("{program} {arguments:?}");
        Self { stdin: child.stdin.take(), child, name, said, complained, readers }
    }

    /// Starts a shell command on a terminal of 33 lines and 99 columns, whose name it says first.
    pub fn on_terminal(machine: &Machine, command: &str) -> Self {
        let command = format!("stty rows 33 cols 99; tty; exec {command}");
        Self::start(machine, "script", &["-qec", &command, "/dev/null"])
    }

    /// What it has said so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// What it has complained about so far.
    pub fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.complained.lock().unwrap()).into_owned()
    }

    /// Waits until it has said `wanted`.
    #[track_caller]
    pub fn expect(&self, wanted: &str) -> String {
        let end = kinglet::stdx::monotonic() + deadline();
        while !self.text().contains(wanted) {
            let is_late = kinglet::stdx::monotonic() > end;
            assert!(
                !is_late,
                "{}: no {wanted:?} in {:?}, {}",
                self.name,
                self.text(),
                self.complaints()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.text()
    }

    #[track_caller]
    pub fn say(&mut self, words: &[u8]) {
        let stdin = self.stdin.as_mut().expect("its input has not ended");
        stdin.write_all(words).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        stdin.flush().unwrap();
    }

    /// Ends its input.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let end = kinglet::stdx::monotonic() + deadline();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let is_late = kinglet::stdx::monotonic() > end;
            assert!(!is_late, "{} goes on: {:?}, {}", self.name, self.text(), self.complaints());
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        Ended { status, said, complained: self.complaints() }
    }

    /// Ends it as nothing can prevent.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // One that has ended already is what is wanted here.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep(mut output: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    })
}
