//! Asks a container once: upstream `prober.runProbe` (pkg/kubelet/prober/prober.go, v1.35).

use super::grpc;
use super::step::Answer;
use crate::kubelet::container::expansion::expand;
use crate::kubelet::http_get::{self, HttpGetError, port};
use crate::runtime::{ContainerId, Runtime, RuntimeError};
use crate::stdx::chain;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction,
};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a failing command printed is told up to here: upstream `maxReadLength`.
const OUTPUT_BYTES_MAX: usize = 10 << 10;

/// A question to one container.
#[derive(Clone, Debug)]
pub(in crate::kubelet) struct Question {
    pub(in crate::kubelet) probe: Probe,
    pub(in crate::kubelet) container: ContainerId,
    /// Whose ports have names, and whose variables its commands may use.
    pub(in crate::kubelet) spec: Arc<Container>,
    /// The pod's first.
    pub(in crate::kubelet) address: Option<IpAddr>,
    pub(in crate::kubelet) timeout: Duration,
}

impl Question {
    /// Asks, once.
    pub(super) async fn ask(&self, runtime: &dyn Runtime) -> Answer {
        if let Some(exec) = &self.probe.exec {
            return self.run_command(exec, runtime).await;
        }
        if let Some(action) = &self.probe.http_get {
            return self.get(action).await;
        }
        if let Some(action) = &self.probe.tcp_socket {
            return self.connect(action).await;
        }
        if let Some(action) = &self.probe.grpc {
            return self.check_health(action).await;
        }
        Answer::Errored(format!("missing probe handler for {}", self.spec.name))
    }

    async fn run_command(&self, exec: &ExecAction, runtime: &dyn Runtime) -> Answer {
        let variables = self.spec.env.as_deref().unwrap_or_default();
        let value_of = |name: &str| {
            let found = variables.iter().rev().find(|variable| variable.name == name)?;
            found.value.as_deref().or(Some(""))
        };
        let words = exec.command.iter().flatten();
        let command: Vec<_> = words.map(|word| expand(word, value_of)).collect();
        match runtime.exec(&self.container, command.clone(), self.timeout).await {
            Ok(ended) if ended.exit_code == 0 => Answer::Passed,
            Ok(ended) => {
                let mut output = [ended.stdout, ended.stderr].concat();
                output.truncate(OUTPUT_BYTES_MAX);
                Answer::Failed(String::from_utf8_lossy(&output).into_owned())
            }
            Err(RuntimeError::Timeout { .. }) => {
                let command = command.join(" ");
                let seconds = self.timeout.as_secs();
                Answer::Failed(format!("command timed out: {command:?} timed out after {seconds}s"))
            }
            Err(error) => Answer::Errored(chain(&error)),
        }
    }

    async fn get(&self, action: &HTTPGetAction) -> Answer {
        let get = match http_get::plan(action, &self.spec, self.address, super::AGENT) {
            Ok(get) => get,
            Err(error) => return Answer::Errored(chain(&error)),
        };
        let url = get.url();
        let failed = |why: &str| Answer::Failed(format!("Get {url:?}: {why}"));
        let response = match timeout(self.timeout, http_get::send(get)).await {
            Ok(Ok(response)) => response,
            Ok(Err(HttpGetError::Unreachable { authority, source })) => {
                return failed(&dial_error(&authority, &source));
            }
            Ok(Err(HttpGetError::NotTls { .. })) => {
                return failed("http: server gave HTTP response to HTTPS client");
            }
            Ok(Err(error)) => return failed(&chain(&error)),
            Err(_elapsed) => {
                return failed(
                    "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                );
            }
        };
        match response.status().as_u16() {
            200..300 => Answer::Passed,
            300..400 => {
                let body = String::from_utf8_lossy(response.body());
                Answer::Warned(format!("Probe terminated redirects, Response body: {body}"))
            }
            code => Answer::Failed(format!("HTTP probe failed with statuscode: {code}")),
        }
    }

    async fn connect(&self, action: &TCPSocketAction) -> Answer {
        let port = match port(&action.port, &self.spec) {
            Ok(port) => port,
            Err(error) => return Answer::Errored(chain(&error)),
        };
        let host = action.host.clone().filter(|host| !host.is_empty());
        let Some(host) = host.or(self.address.map(|address| address.to_string())) else {
            return Answer::Errored(HttpGetError::NoAddress.to_string());
        };
        let authority = authority(&host, port);
        match timeout(self.timeout, TcpStream::connect((host.as_str(), port))).await {
            Ok(Ok(_stream)) => Answer::Passed,
            Ok(Err(error)) => Answer::Failed(dial_error(&authority, &error)),
            Err(_elapsed) => Answer::Failed(format!("dial tcp {authority}: i/o timeout")),
        }
    }

    async fn check_health(&self, action: &GRPCAction) -> Answer {
        let Some(address) = self.address else {
            return Answer::Errored(HttpGetError::NoAddress.to_string());
        };
        let Ok(port) = u16::try_from(action.port) else {
            return Answer::Errored(format!("invalid port number: {}", action.port));
        };
        let address = SocketAddr::new(address, port);
        let service = action.service.as_deref().unwrap_or_default();
        match timeout(self.timeout, grpc::ask(address, service)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Answer::Failed(format!(
                "timeout: health rpc did not complete within {}s",
                self.timeout.as_secs()
            )),
        }
    }
}

fn authority(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// In the words that users of probes know.
fn dial_error(authority: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {authority}: {why}")
}
