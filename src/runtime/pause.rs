//! The first process of a process namespace that the containers of a pod share: it reaps those
//! whose parents are gone, and holds the namespace open. Upstream's pause container, without an
//! image.

use crate::sys::process_namespace::{give_up_everything, reap_children, start};
use crate::sys::signal::{Queued, SignalQueue};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, Write as _};

/// The user of upstream's pause image.
const USER: u32 = 65_535;

/// Starts the namespace, prints the id of its first process and returns.
pub(super) fn run() -> io::Result<()> {
    // Where the holding fails the namespace ends, and the first container finds it so.
    let pid = start(|| hold().unwrap_or_default())?;
    writeln!(io::stdout(), "{pid}")
}

fn hold() -> io::Result<()> {
    let signals = SignalQueue::new()?;
    close_outputs()?;
    give_up_everything(USER)?;
    loop {
        let mut polled = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Some(signal) = signals.next()? {
            match signal {
                Queued::Terminate => return Ok(()),
                Queued::ChildEnded => reap_children()?,
                Queued::HangUp => {}
            }
        }
    }
}

/// Whoever started this waits for its outputs to be closed.
fn close_outputs() -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
