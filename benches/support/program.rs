//! Other people's programs on the machine that is measured.

use super::machine::Machine;
use std::process::{Child, Stdio};

/// Something that runs on the machine until it is dropped.
pub struct Program(Child);

impl Program {
    pub fn start(machine: &Machine, program: &str, arguments: &[&str]) -> Self {
        let mut command = machine.command(program, arguments);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Its process; nsenter, which starts it, becomes it.
    pub fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is what is wanted here.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
