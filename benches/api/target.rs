//! The servers that are measured, each in a network of its own.

use super::machine::Machine;
use super::process::Usage;
use super::program::Program;
use jiff::Timestamp;
use kinglet::client::Kubeconfig;
use kinglet::client::remote::Remote;
use kinglet::pki::{Pki, Subject, kubeconfig};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

const ETCD: &str = "http://127.0.0.1:2379";

/// Something that serves the API.
pub struct Target {
    pub machine: Machine,
    kubeconfig: Kubeconfig,
    processes: Vec<i32>,
    /// Of upstream, which end with the target; none of ours.
    programs: Vec<Program>,
}

impl Target {
    /// A server of ours without a node.
    pub fn kinglet() -> Self {
        let mut machine = Machine::new();
        machine.further = vec!["--disable", "agent"];
        machine.spawn_server();
        let processes = vec![machine.server_pid()];
        Self::answering(machine, processes, Vec::new())
    }

    /// Upstream's server with an etcd, both as they are by default but for who may ask and what has
    /// to be there.
    pub fn upstream(executable: &OsStr) -> Self {
        let machine = Machine::new();
        let data = machine.path("etcd");
        let etcd = Program::start(&machine, "etcd", &["--data-dir", data.to_str().unwrap()]);
        let arguments = arguments(&machine.path("tls"));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let server = Program::start(&machine, executable.to_str().unwrap(), &arguments);
        let text = admin(&machine.path("tls"));
        std::fs::write(machine.path("kinglet.yaml"), text).unwrap();
        let processes = vec![etcd.pid(), server.pid()];
        Self::answering(machine, processes, vec![server, etcd])
    }

    /// Whether it is kinglet that is measured.
    pub fn is_ours(&self) -> bool {
        self.programs.is_empty()
    }

    fn answering(machine: Machine, processes: Vec<i32>, programs: Vec<Program>) -> Self {
        machine.eventually("the server is ready", || machine.asked("/readyz").is_some());
        let kubeconfig = Kubeconfig::read(&machine.path("kinglet.yaml")).unwrap();
        Self { machine, kubeconfig, processes, programs }
    }

    /// A connection of its own.
    pub fn connection(&self) -> Arc<Remote> {
        Arc::new(Remote::new(&self.kubeconfig).unwrap())
    }

    /// Runs `work` in the network of the servers.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.machine.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work())
        })
    }

    pub fn rss_mib(&self) -> f64 {
        self.processes.iter().map(|pid| Usage::of(*pid).rss_mib).sum()
    }

    /// Runs `work` and says how many seconds of processor time the servers took meanwhile: a figure
    /// that a busy machine spoils less than the time that passed.
    pub fn with_cpu<T>(&self, work: impl FnOnce() -> T) -> (T, f64) {
        let used = || self.processes.iter().map(|pid| Usage::of(*pid).cpu_seconds).sum::<f64>();
        let before = used();
        let done = work();
        (done, used() - before)
    }
}

impl Drop for Target {
    /// Leaves nothing of a server of ours behind.
    fn drop(&mut self) {
        if self.programs.is_empty() {
            self.machine.stop(Signal::SIGTERM);
            self.machine.killall();
        }
    }
}

/// What upstream's server is told; its certificates and keys are made here.
fn arguments(tls: &Path) -> Vec<String> {
    let now = Timestamp::now();
    let pki = Pki::open(tls, now).unwrap();
    pki.serving(&["127.0.0.1".to_owned()], now).unwrap();
    kinglet::pki::TokenKey::open_all(tls).unwrap();
    let file = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    [
        ("--etcd-servers", ETCD.to_owned()),
        ("--secure-port", "6443".to_owned()),
        ("--advertise-address", "192.0.2.10".to_owned()),
        ("--client-ca-file", file("client-ca.crt")),
        ("--tls-cert-file", file("serving-kube-apiserver.crt")),
        ("--tls-private-key-file", file("serving-kube-apiserver.key")),
        ("--service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("--service-account-key-file", file("service.key")),
        ("--service-account-signing-key-file", file("service.key")),
        ("--service-cluster-ip-range", "10.43.0.0/16".to_owned()),
        ("--authorization-mode", "Node,RBAC".to_owned()),
        // Nobody makes accounts of new namespaces.
        ("--disable-admission-plugins", "ServiceAccount".to_owned()),
    ]
    .map(|(flag, value)| format!("{flag}={value}"))
    .into()
}

/// How the administrator asks a server with these certificates.
fn admin(tls: &Path) -> String {
    let now = Timestamp::now();
    let pki = Pki::open(tls, now).unwrap();
    let subject = Subject { user: "system:admin", groups: &["system:masters"] };
    let leaf = pki.client("client-admin", subject, now).unwrap();
    kubeconfig("https://127.0.0.1:6443", pki.server_ca(), &leaf)
}
