//! How the kernel backs the memory of this process.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the kernel says which processes it gives huge pages to: `[always] madvise never`.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Whether this process has turned huge pages off for itself, which its children would inherit.
static SMALL_PAGES: AtomicBool = AtomicBool::new(false);

/// Has the kernel give this process pages of 4 KiB only.
///
/// Where huge pages are given to everybody, as Debian's kernels do, each heap segment that is
/// touched once takes 2 MiB: four times the memory of an idle server. Children get the host's
/// setting back ([`restore_huge_pages`]): what runs in containers is not ours to tune.
pub fn use_small_pages() {
    let is_always = fs::read_to_string(HUGE_PAGES).is_ok_and(|text| text.contains("[always]"));
    // A kernel that refuses leaves a process that works and is larger.
    if is_always && set_huge_pages_disabled(1) {
        SMALL_PAGES.store(true, Ordering::Relaxed);
    }
}

/// Whether a child has to call [`restore_huge_pages`] before it becomes another program.
pub(super) fn has_small_pages() -> bool {
    SMALL_PAGES.load(Ordering::Relaxed)
}

/// Gives the calling process the host's setting back. Only a system call: allowed between fork and
/// exec.
pub(super) fn restore_huge_pages() {
    set_huge_pages_disabled(0);
}

fn set_huge_pages_disabled(flag: libc::c_ulong) -> bool {
    let unused: libc::c_ulong = 0;
    // SAFETY: this prctl takes numbers, of which all but the first have to be zero, and touches no
    // memory of ours.
    #[expect(unsafe_code, reason = "no crate wraps this prctl")]
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, flag, unused, unused, unused) };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Program;

    /// `THP_enabled` of a child, as `/proc` has it.
    async fn child_has_huge_pages() -> bool {
        let finished = Program::new("/bin/cat").arg("/proc/self/status").run().await.unwrap();
        let status = String::from_utf8(finished.stdout).unwrap();
        status.lines().any(|line| line.split_whitespace().eq(["THP_enabled:", "1"]))
    }

    #[tokio::test]
    async fn children_have_the_hosts_setting() {
        assert!(set_huge_pages_disabled(1));
        SMALL_PAGES.store(true, Ordering::Relaxed);
        assert!(child_has_huge_pages().await);
        SMALL_PAGES.store(false, Ordering::Relaxed);
        assert!(!child_has_huge_pages().await);
        restore_huge_pages();
    }
}
