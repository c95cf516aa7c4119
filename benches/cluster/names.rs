//! Questions to the cluster's DNS: a few clients that keep several questions each under way.

use super::machine::Machine;
use super::questions::{self, Answers, Pace, question};
use hickory_proto::rr::RecordType;
use std::time::Duration;

/// Where the machine's DNS answers.
const DNS: &str = "10.43.0.10:53";

/// One client saturates a core of its own; the DNS has the other.
const CLIENTS: usize = 2;

/// So many questions of one client are under way at once.
const UNDER_WAY: usize = 16;

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Answers a second.
    pub(super) rate: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) lost: usize,
}

/// Asks for `names` in turn, all of which are the cluster's.
pub(super) fn ask(machine: &Machine, names: &[&str], duration: Duration) -> Outcome {
    let began = super::now();
    let questions: Vec<_> = names.iter().map(|name| question(name, RecordType::A)).collect();
    let (server, end) = (DNS.parse().unwrap(), began + duration);
    let client = || questions::ask(server, &questions, (Pace::UnderWay(UNDER_WAY), 0), end);
    let mut all = Answers::default();
    machine.inside(|| {
        std::thread::scope(|scope| {
            // Threads keep the network of the one that starts them.
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().for_each(|client| all.add(client.join().unwrap()));
        });
    });
    let (p50, p99) = all.percentiles();
    let rate = all.milliseconds.len() as f64 / began.elapsed().as_secs_f64();
    Outcome { rate, p50, p99, lost: all.lost }
}
