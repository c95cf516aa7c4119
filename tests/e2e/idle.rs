//! What a node does to its disk while its pods only answer their probes.

use super::machine::Machine;
use std::cell::Cell;
use std::fs;

const PODS: usize = 4;

/// So many answers have to come without a write between them.
const PROBES: f64 = 40.0;

#[test]
fn probes_that_run_commands_write_nothing_to_disk() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(&(0..PODS).map(pod).collect::<String>());
    machine.kubectl(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"]);
    let calm = Cell::new((written(&machine), answered(&machine)));
    machine.eventually("probes are answered and nothing is written", || {
        let (bytes, since) = calm.get();
        let (now, answered) = (written(&machine), answered(&machine));
        if now != bytes {
            calm.set((now, answered));
        }
        now == bytes && answered - since >= PROBES
    });
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    machine.stop(nix::sys::signal::Signal::SIGTERM);
    machine.killall();
}

fn pod(index: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: probed-{index}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: main, image: \
         '127.0.0.1:5000/hello:1', livenessProbe: {{periodSeconds: 1, exec: {{command: ['true']}}}}, \
         readinessProbe: {{periodSeconds: 1, exec: {{command: ['true']}}}}}}\n"
    )
}

/// What the server has written to disks, with its shims and the programs that they have started.
fn written(machine: &Machine) -> u64 {
    let server = machine.server_pid();
    let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = network(server);
    let is_keeper = |pid: i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("containerd-shim") || name.starts_with("kinglet")
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_keeper(*pid) && network(*pid) == own)
        .filter_map(|pid| {
            let facts = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            let line = facts.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
            line.parse::<u64>().ok()
        })
        .sum()
}

/// How many probes have been answered.
fn answered(machine: &Machine) -> f64 {
    let said = machine.asked("/api/v1/nodes/one/proxy/metrics/probes").unwrap_or_default();
    let said = String::from_utf8(said).unwrap();
    let totals = said.lines().filter(|line| line.starts_with("prober_probe_total{"));
    totals.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
