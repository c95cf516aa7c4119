//! The decision which server is asked first. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// So long after a failure others are asked first; twice as long after each further one.
const REST: Duration = Duration::from_secs(2);

/// A server that comes back is noticed by then at the latest, if no other answers before.
const REST_MAX: Duration = Duration::from_secs(30);

/// What is remembered of a server that has not answered of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Record {
    pub(super) fn failed(&mut self, now: Instant) {
        let rest = REST.saturating_mul(1 << self.failures.min(8)).min(REST_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(now + rest);
    }
}

/// Those in good standing, beginning with the one whose turn it is; then the others, those first
/// that have rested longest. When none is in good standing, all are asked all the same.
pub(super) fn next_servers(
    servers: &[SocketAddr],
    records: &HashMap<SocketAddr, Record>,
    turn: usize,
    now: Instant,
) -> Vec<SocketAddr> {
    let mut order = servers.to_vec();
    if !order.is_empty() {
        let first = turn % order.len();
        order.rotate_left(first);
    }
    let rest = |server: &SocketAddr| {
        let until = records.get(server).and_then(|record| record.rests_until);
        until.filter(|until| *until > now)
    };
    order.sort_by_key(rest);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_fail_are_asked_last() {
        let start = crate::stdx::monotonic();
        let servers: Vec<SocketAddr> =
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(|it| it.parse().unwrap()).into();
        let mut records = HashMap::new();
        let order = |records: &HashMap<_, _>, turn, seconds| {
            let now = start + Duration::from_secs(seconds);
            let order = next_servers(&servers, records, turn, now);
            let last = |server: &SocketAddr| server.ip().to_string()[8..].to_owned();
            order.iter().map(last).collect::<Vec<_>>().join("")
        };
        assert_eq!(order(&records, 0, 0), "123");
        assert_eq!(order(&records, 4, 0), "231");
        let mut record = Record::default();
        record.failed(start);
        records.insert(servers[0], record);
        assert_eq!(order(&records, 0, 1), "231");
        assert_eq!(order(&records, 0, 2), "123");
        record.failed(start + Duration::from_secs(2));
        records.insert(servers[0], record);
        assert_eq!(order(&records, 0, 5), "231");
        assert_eq!(order(&records, 0, 6), "123");
        let mut later = Record::default();
        later.failed(start + Duration::from_secs(5));
        records.insert(servers[1], later);
        records.insert(servers[2], later);
        assert_eq!(order(&records, 0, 5), "123");
    }
}
