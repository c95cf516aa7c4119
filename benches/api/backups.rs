//! What a backup takes, and what those who write meanwhile notice of it.

use super::load::{Load, Outcome, Work};
use super::target::Target;
use kinglet::stdx::monotonic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CLIENTS: usize = 32;

/// What was measured.
pub struct Backups {
    /// Beside a server that has nothing to do.
    pub alone: Duration,
    /// Beside clients that create objects.
    pub beside: Duration,
    pub before: Outcome,
    /// While backups are made, one after another.
    pub meanwhile: Outcome,
}

/// Makes backups beside `target`, a server of ours.
pub fn measure(target: &Target, load: &Load<'_>, length: Duration) -> Backups {
    let alone = save(target);
    let before = load.work(Work::Create, CLIENTS, length);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !enough.load(Ordering::Relaxed) {
                longest = longest.max(save(target));
            }
            longest
        });
        let meanwhile = load.work(Work::Create, CLIENTS, length);
        enough.store(true, Ordering::Relaxed);
        Backups { alone, before, meanwhile, beside: saving.join().unwrap() }
    })
}

fn save(target: &Target) -> Duration {
    let data = target.machine.path("data");
    let began = monotonic();
    let words = ["backup", "save", "--config", "/dev/null", "--data-dir", data.to_str().unwrap()];
    let output = target.machine.kinglet(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}
