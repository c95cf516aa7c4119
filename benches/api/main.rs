//! What requests to the API server take, over TLS: time, processor and memory, beside the figures to
//! reach, and beside upstream's server in the same run where `KUBE_APISERVER` names one (and etcd is
//! on the path).
//!
//! Figures are of one run on whatever machine this is, which the load shares; compare runs of one
//! machine. Processor time is the servers' own, upstream's with etcd's. Words given to the benchmark
//! are parts of the names of work: no other is done.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot measure has to stop")]
#![expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
#![expect(unreachable_pub, reason = "the machine is shared with the end-to-end tests")]

mod backups;
#[path = "../../tests/support/lan.rs"]
#[expect(dead_code, reason = "nothing is wrong with the wires of what is measured")]
mod lan;
mod load;
#[path = "../../tests/e2e/machine.rs"]
#[expect(dead_code, reason = "tests need more of the machine than benchmarks")]
mod machine;
#[path = "../support/percentile.rs"]
mod percentile;
#[path = "../cluster/process.rs"]
#[expect(dead_code, reason = "there are no pods")]
mod process;
#[path = "../support/program.rs"]
mod program;
#[path = "../../tests/e2e/push.rs"]
mod push;
mod target;
mod watchers;

use backups::Backups;
use load::{Load, Outcome, Work};
use percentile::percentile;
use std::time::Duration;
use target::Target;

/// How long each kind of work is done by so many clients at once.
const LENGTH: Duration = Duration::from_secs(4);
const CLIENTS: [usize; 3] = [1, 32, 256];

/// Objects of 1 KiB that are there when work is done beside them.
const FEW: usize = 10_000;
const MANY: usize = 100_000;
const LISTS: usize = 20;
const LISTS_OF_MANY: usize = 3;

const WATCHERS: usize = 1_000;
const WATCHED_WRITES: usize = 20;

fn main() {
    println!("kinglet");
    measure(Target::kinglet);
    if let Some(executable) = std::env::var_os("KUBE_APISERVER") {
        println!("upstream ({})", executable.display());
        measure(|| Target::upstream(&executable));
    }
}

/// Measures servers that are new: one that has few objects, one that has many.
fn measure(start: impl Fn() -> Target) {
    with_few(&start());
    with_many(&start());
}

fn with_few(target: &Target) {
    let load = Load::new(target);
    load.fill(FEW);
    lists(&load, FEW, LISTS, "30 ms");
    CLIENTS.iter().for_each(|clients| all_work(&load, *clients));
    watched(target);
}

fn with_many(target: &Target) {
    let load = Load::new(target);
    let before = target.rss_mib();
    load.fill(MANY);
    let after = target.rss_mib();
    let measured = format!("{before:.1} MiB before, {after:.1} MiB after");
    row(&format!("RSS through {MANY} objects"), &measured, "20 MiB more");
    lists(&load, MANY, LISTS_OF_MANY, "-");
    row("RSS after these lists", &format!("{:.1} MiB", target.rss_mib()), "-");
    for work in [Work::Create, Work::Get, Work::Apply].into_iter().filter(is_wanted) {
        one_work(&load, work, 32, &format!(", {MANY} objects"));
    }
    if target.is_ours() && is_wanted_name("backups") {
        backed_up(target, &load);
    }
}

fn backed_up(target: &Target, load: &Load<'_>) {
    let Backups { alone, beside, before, meanwhile } = backups::measure(target, load, LENGTH);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let measured = format!("{}; beside creates {} at most", seconds(alone), seconds(beside));
    row(&format!("backup of {MANY} objects"), &measured, "5 s");
    for (when, outcome) in [("before", before), ("while backups are made", meanwhile)] {
        let Outcome { rate, p50, p99, .. } = outcome;
        let measured = format!("{rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms");
        row(&format!("durable creates, 32 clients, {when}"), &measured, "p99 as before");
    }
}

fn row(what: &str, measured: &str, reach: &str) {
    println!("{what:<44} {measured:<68} to reach: {reach}");
}

fn lists(load: &Load<'_>, objects: usize, count: usize, reach: &str) {
    let outcome = load.lists(count);
    let measured = format!(
        "p50 {:.1} ms, p99 {:.1} ms, {:.1} ms of CPU each",
        outcome.p50,
        outcome.p99,
        outcome.cpu_micros / 1000.0
    );
    row(&format!("LIST of {objects}, whole body"), &measured, reach);
}

fn all_work(load: &Load<'_>, clients: usize) {
    Work::ALL.into_iter().filter(is_wanted).for_each(|work| one_work(load, work, clients, ""));
}

fn is_wanted(work: &Work) -> bool {
    is_wanted_name(work.name())
}

fn is_wanted_name(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

fn one_work(load: &Load<'_>, work: Work, clients: usize, beside: &str) {
    let Outcome { rate, p50, p99, cpu_micros } = load.work(work, clients, LENGTH);
    let measured =
        format!("{rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {cpu_micros:.0} us of CPU each");
    let reach = match (work, clients) {
        (Work::Create, 1) => "1,500/s",
        (Work::Create, 32) => "8,000/s",
        (Work::Get, 32) => "20,000/s",
        _ => "-",
    };
    row(&format!("{}, {clients} clients{beside}", work.name()), &measured, reach);
}

fn watched(target: &Target) {
    let (mut last, cpu_micros) = watchers::measure(target, WATCHERS, WATCHED_WRITES);
    let (p50, p99) = (percentile(&mut last, 50), percentile(&mut last, 99));
    let measured =
        format!("last delivery p50 {p50:.1} ms, p99 {p99:.1} ms, {cpu_micros:.1} us of CPU each");
    row(&format!("{WATCHERS} watchers, one write"), &measured, "50 ms");
}
