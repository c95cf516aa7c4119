//! What the kernel says of processes.

use std::fs;

/// Ticks of `/proc/<pid>/stat` a second, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub struct Usage {
    pub rss_mib: f64,
    pub pss_mib: f64,
    pub cpu_seconds: f64,
    /// To block devices.
    pub written_bytes: u64,
}

impl Usage {
    pub fn of(pid: i32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let rollup = read("smaps_rollup");
        let stat = read("stat");
        // The name before may have spaces in it.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = [11, 12].iter().map(|index| fields[*index].parse::<f64>().unwrap()).sum();
        Self {
            rss_mib: kib(&rollup, "Rss:") / 1024.0,
            pss_mib: kib(&rollup, "Pss:") / 1024.0,
            cpu_seconds: ticks / TICKS_PER_SECOND,
            written_bytes: number(&read("io"), "write_bytes:"),
        }
    }
}

/// The server, and the shims and loggers that it has started: all that runs in its network
/// namespace by these names. What runs inside containers is the users'.
pub fn pss_mib_of_tree(server: i32) -> f64 {
    let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let mut sum = Usage::of(server).pss_mib;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let is_keeper = name.starts_with("containerd-shim") || name.starts_with("kinglet");
        if pid != server && is_keeper && network(pid) == network(server) {
            let rollup = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
            sum += kib(&rollup, "Pss:") / 1024.0;
        }
    }
    sum
}

fn kib(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value.map_or(0.0, |value| value.parse().unwrap())
}

fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
