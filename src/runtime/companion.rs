//! Small processes of ours beside the server, most of which outlive it: this same executable under
//! another name.
//!
//! [`dispatch`] runs before anything else in `main`: such a process has one thread, no command line
//! of its own, and stays small.

use super::{logger, pause};
use crate::sys::mounter;
use std::ffi::OsString;
use std::process::ExitCode;

/// The first argument of a container's logger; the second is the file with its settings.
pub(super) const LOGGER: &str = "container-logger";

/// The first argument of a logger that reads named pipes; the second as for [`LOGGER`].
pub(super) const PIPED_LOGGER: &str = "container-piped-logger";

/// The first argument of the process that holds a pod's process namespace.
pub(super) const PAUSE: &str = "pod-pause";

/// Becomes the process that the arguments ask for; `None` where they ask for none of these.
///
/// Returns when that process is to end.
#[must_use]
pub fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let name = arguments.next()?;
    let succeeded = if name == LOGGER {
        logger::run(arguments.next()?.as_ref()).is_ok()
    } else if name == PIPED_LOGGER {
        logger::run_piped(arguments.next()?.as_ref()).is_ok()
    } else if name == PAUSE {
        pause::run().is_ok()
    } else if name == mounter::NAME {
        mounter::run().is_ok()
    } else {
        return None;
    };
    // Who started them knows from this, or does not ask.
    Some(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
