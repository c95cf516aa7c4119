//! Fault points: moments between two steps at which a test ends this process, as `kill -9` does.
//!
//! Only builds with debug assertions have them; of a release they are no part. The tests find them in
//! the source (tests/e2e/faults.rs), so that a new point is tested without being listed anywhere, and
//! one that is never reached is noticed.

#[cfg(debug_assertions)]
use std::{fs, path::PathBuf, sync::OnceLock};

/// Names a file. While the name of a point is in it, this process ends there, and takes the file with
/// it. Read once.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "KINGLET_FAULT_FILE";

/// Ends this process, where a test wants it to end here. Names are those of states: what has just
/// been done is done.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    end_where_wanted(name);
    #[cfg(not(debug_assertions))]
    let _unused = name;
}

#[cfg(debug_assertions)]
fn end_where_wanted(name: &str) {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)) else {
        return;
    };
    // Whoever takes the file away is the one that ends here.
    if fs::read_to_string(file).is_ok_and(|wanted| wanted == name) && fs::remove_file(file).is_ok()
    {
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::KILL)
            .expect("a process may end itself");
    }
}
