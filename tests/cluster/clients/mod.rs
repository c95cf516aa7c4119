//! Other people's clients against a whole control plane on a port of this machine: each does what
//! programs written with it do.

mod kube_rs;
mod kubectl;
mod python;

use crate::cluster::Cluster;
use jiff::Timestamp;
use kinglet::pki::{Pki, ServerTls, Subject, kubeconfig};
use kinglet::stdx::{Clock, Tasks};
use std::path::PathBuf;
use tokio::net::TcpListener;

/// A control plane that anybody can ask.
struct Served {
    _cluster: Cluster,
    /// Of an administrator.
    kubeconfig: String,
    directory: tempfile::TempDir,
    _tasks: Tasks,
}

impl Served {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let pki = Pki::open(directory.path(), now).unwrap();
        let leaf = pki.serving(&["127.0.0.1".to_owned()], now).unwrap();
        let tls = ServerTls::new(&leaf, pki.client_ca(), Clock::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let cluster = Cluster::start().await;
        let mut tasks = Tasks::default();
        cluster.api.server.serve(listener, tls.acceptor(), &mut tasks);
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        let admin = pki.client("client-admin", subject, now).unwrap();
        let kubeconfig = kubeconfig(&server, pki.server_ca(), &admin);
        Self { _cluster: cluster, kubeconfig, directory, _tasks: tasks }
    }

    /// A file that says how to ask.
    fn kubeconfig_file(&self) -> PathBuf {
        let path = self.directory.path().join("kubeconfig");
        std::fs::write(&path, &self.kubeconfig).unwrap();
        path
    }
}
