//! What the whole product takes: time, memory, processor and disk, beside the figures to reach.
//!
//! Runs the release executable on a machine of its own (a network namespace), with real containers.
//! Figures are of one run on whatever machine this is; compare runs of one machine.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot measure has to stop")]
#![expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
#![expect(unreachable_pub, reason = "the machine is shared with the end-to-end tests")]

#[path = "../../tests/support/lan.rs"]
#[expect(dead_code, reason = "nothing is wrong with the wires of what is measured")]
mod lan;
mod load;
#[path = "../../tests/e2e/machine.rs"]
#[expect(dead_code, reason = "tests need more of the machine than benchmarks")]
mod machine;
mod names;
#[path = "../support/percentile.rs"]
mod percentile;
mod process;
#[path = "../../tests/e2e/push.rs"]
mod push;
#[path = "../../tests/support/questions.rs"]
#[expect(dead_code, reason = "other benchmarks ask at a pace")]
mod questions;

use kinglet::daemon::Layout;
use lan::Lan;
use load::Load;
use machine::Machine;
use nix::sys::signal::Signal;
use percentile::percentile;
use process::Usage;
use std::sync::Arc;
use std::time::{Duration, Instant};

const IDLE_SECONDS: u64 = 60;
const PODS_ONE_BY_ONE: usize = 50;
const PODS_AT_ONCE: usize = 30;
/// As many more as the node takes beside them would be 110; these are measured on their own.
const MANY_PODS_AT_ONCE: usize = 100;
/// Pods with probes, half of them asked over HTTP, half by a command. The last is all a node takes.
const PROBED_PODS: [usize; 2] = [50, 110];
const PROBE_PERIOD_SECONDS: u64 = 10;
const EXECS: usize = 100;
/// What is in the store when the server starts again.
const OBJECTS: usize = 10_000;

/// How long questions are asked for.
const LOAD: Duration = Duration::from_secs(5);

fn main() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    start(&mut machine, "start, empty disk", "0.1 s / 0.5 s");
    idle(&machine, "idle, no pods", "40 MiB, 0.12 s, 0");
    Load::new(&machine).fill(OBJECTS);
    questions(&machine);
    pods_one_by_one(&machine);
    pods_at_once(&machine, PODS_AT_ONCE, "1.5 s");
    idle(&machine, "idle, 30 pods", "-, 0.3 s, 0");
    memory(&machine);
    machine.stop(Signal::SIGTERM);
    start(&mut machine, "restart, 10,000 objects, 30 pods", "0.5 s");
    delete_pods(&machine);
    pods_at_once(&machine, MANY_PODS_AT_ONCE, "5 s");
    delete_pods(&machine);
    for pods in PROBED_PODS {
        probed(&machine, pods);
    }
    machine.stop(Signal::SIGTERM);
    machine.killall();
    joining();
}

fn row(what: &str, measured: &str, reach: &str) {
    println!("{what:<44} {measured:<36} to reach: {reach}");
}

fn now() -> Instant {
    kinglet::stdx::monotonic()
}

/// From the start of the process to an answer, and to a ready node.
fn start(machine: &mut Machine, what: &str, reach: &str) {
    let began = now();
    let (answers, ready) = machine.start_timed();
    let seconds = |at: Instant| at.duration_since(began).as_secs_f64();
    let measured = format!("{:.3} s to readyz, {:.3} s to Ready", seconds(answers), seconds(ready));
    row(what, &measured, reach);
}

/// From the start of an agent's process, on an empty disk, to a ready node.
fn joining() {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let mut agent = Machine::on(&lan, "two", "192.0.2.11");
    server.start();
    let token = server.token();
    let began = now();
    agent.spawn_agent(&server, Some(&token));
    server.eventually("the node is ready", || server.is_ready("two"));
    row("an agent joins", &format!("{:.3} s to Ready", began.elapsed().as_secs_f64()), "1 s");
    for machine in [&mut agent, &mut server] {
        machine.stop(Signal::SIGTERM);
        machine.killall();
    }
}

/// Says how much processor time it took.
fn idle(machine: &Machine, what: &str, reach: &str) -> f64 {
    // What a start or a test has left to do is not idling.
    std::thread::sleep(Duration::from_secs(5));
    let before = Usage::of(machine.server_pid());
    std::thread::sleep(Duration::from_secs(IDLE_SECONDS));
    let after = Usage::of(machine.server_pid());
    let cpu = after.cpu_seconds - before.cpu_seconds;
    let measured = format!(
        "{:.1} MiB, {cpu:.2} s of CPU, {} bytes written",
        after.rss_mib,
        after.written_bytes - before.written_bytes,
    );
    row(what, &measured, reach);
    cpu
}

/// Names that every cluster has, so that nothing else has to be there.
fn questions(machine: &Machine) {
    let names = ["kubernetes.default.svc.cluster.local", "kube-dns.kube-system.svc.cluster.local"];
    let (outcome, cpu) = with_cpu(machine, || names::ask(machine, &names, LOAD));
    let names::Outcome { rate, p50, p99, lost } = outcome;
    let cpu = each(cpu, rate);
    let measured = format!("{rate:.0}/s, {cpu}, p50 {p50:.2} ms, p99 {p99:.2} ms, {lost} lost");
    row("DNS questions, 2 clients with 16 each", &measured, "50,000/s on one core, 1 ms");
}

/// Runs `work` and says how many seconds of processor time the server took meanwhile: a figure that
/// a busy machine spoils less than the time that passed.
fn with_cpu<T>(machine: &Machine, work: impl FnOnce() -> T) -> (T, f64) {
    let before = Usage::of(machine.server_pid()).cpu_seconds;
    let done = work();
    (done, Usage::of(machine.server_pid()).cpu_seconds - before)
}

/// Microseconds of processor time of one of the requests that came at `rate` during [`LOAD`].
fn each(cpu_seconds: f64, rate: f64) -> String {
    format!("{:.0} us", cpu_seconds * 1e6 / (rate * LOAD.as_secs_f64()))
}

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: bench}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: web, image: \
         '127.0.0.1:5000/hello:1', imagePullPolicy: IfNotPresent}}\n---\n"
    )
}

fn pods_one_by_one(machine: &Machine) {
    let load = Load::new(machine);
    // The first one fetches the image.
    load.start_pod(&pod("first"));
    let mut times: Vec<f64> = (0..PODS_ONE_BY_ONE)
        .map(|index| load.start_pod(&pod(&format!("one-{index}"))).as_secs_f64() * 1000.0)
        .collect();
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    let measured = format!("p50 {p50:.0} ms, p99 {p99:.0} ms");
    row("pod start, image present, one by one", &measured, "150 / 400 ms");
    let (p50, p99) = load.execs("first", EXECS);
    row("exec, one after another", &format!("p50 {p50:.0} ms, p99 {p99:.0} ms"), "20 ms");
    delete_pods(machine);
}

/// Returns when the node has rested: pods that end at once are gone before their containers are.
fn delete_pods(machine: &Machine) {
    machine.kubectl(&["delete", "pod", "-l", "app=bench", "--timeout=120s"]);
    let sandboxes = Layout::of(&machine.path("data")).run().join("sandboxes");
    let is_left = || std::fs::read_dir(&sandboxes).is_ok_and(|mut left| left.next().is_some());
    machine.eventually("nothing is left of the pods", || !is_left());
}

fn pods_at_once(machine: &Machine, pods: usize, reach: &str) {
    let manifest: String = (0..pods).map(|index| pod(&format!("many-{index}"))).collect();
    let load = Load::new(machine);
    let (took, cpu) = with_cpu(machine, || load.start_pods(&manifest, pods));
    let each = cpu * 1e3 / pods as f64;
    let measured = format!("{:.2} s, {each:.1} ms of CPU each", took.as_secs_f64());
    row(&format!("{pods} pods at once, all Running"), &measured, reach);
}

/// What pods cost that only answer their probes. Their commands run in processes of their own, which
/// are not counted.
fn probed(machine: &Machine, pods: usize) {
    let manifest: String = (0..pods).map(probed_pod).collect();
    Load::new(machine).start_pods(&manifest, pods);
    let cpu = idle(machine, &format!("idle, {pods} pods with probes"), "-");
    let probes = pods as f64 * IDLE_SECONDS as f64 / PROBE_PERIOD_SECONDS as f64;
    row("  of which each probe", &format!("{:.2} ms of CPU", cpu * 1e3 / probes), "-");
    delete_pods(machine);
}

fn probed_pod(index: usize) -> String {
    let question = match index % 2 {
        0 => "httpGet: {path: /, port: 8080}",
        _ => "exec: {command: ['true']}",
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: probed-{index}, labels: {{app: bench}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: web, image: \
         '127.0.0.1:5000/hello:1', imagePullPolicy: IfNotPresent, livenessProbe: {{periodSeconds: \
         {PROBE_PERIOD_SECONDS}, {question}}}}}\n---\n"
    )
}

fn memory(machine: &Machine) {
    let all = process::pss_mib_of_tree(machine.server_pid());
    let server = Usage::of(machine.server_pid()).pss_mib;
    let each = (all - server) / f64::from(u32::try_from(PODS_AT_ONCE).unwrap());
    let measured = format!("{all:.0} MiB in all, {server:.0} the server, {each:.1} a pod");
    row("PSS with 30 pods, shims and loggers included", &measured, "100 MiB");
}
