//! `kinglet server`, from an empty disk to a ready node and back.

use super::agent::Agent;
use super::config::{Component, ServerConfig};
use super::control_plane::ControlPlane;
use super::process::{self, Role};
use crate::apiserver::Identity;
use crate::client::Client;
use crate::stdx::{Clock, TasksError, monotonic};
use std::time::Duration;
use tracing::info;

/// How long each part may take to end; then it is given up.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub struct Server {
    control_plane: ControlPlane,
    agent: Option<Agent>,
}

/// Runs a server until it is told to stop: see [`process::run`].
///
/// # Errors
/// Where it cannot start, or a part of it ends although nobody asked it to.
pub fn run_server(config: ServerConfig) -> anyhow::Result<()> {
    process::run(Server::start(config))
}

impl Role for Server {
    async fn first_failure(&mut self) -> anyhow::Error {
        Self::first_failure(self).await.into()
    }

    fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    fn api(&self) -> Option<Client> {
        Some(self.control_plane.client(Identity::api_server()))
    }

    async fn stop(self) -> anyhow::Result<()> {
        Self::stop(self).await
    }
}

impl Server {
    /// Starts everything. Returns when the API answers and the node is about to register.
    ///
    /// # Errors
    /// By part: what it could not do, and what helps.
    pub async fn start(config: ServerConfig) -> anyhow::Result<Self> {
        let began = monotonic();
        let clock = Clock::system();
        let mut control_plane = ControlPlane::start(&config, &clock).await?;
        let address = config.listen_address();
        let milliseconds = began.elapsed().as_millis();
        info!("the API server answers at https://{address} after {milliseconds} ms");
        let agent = match config.has(Component::Agent) {
            true => {
                let access = control_plane.access(&config);
                let agent = Agent::start(&config.node, &clock, access).await?;
                control_plane.nodes().set_kubelet(agent.kubelet().service());
                Some(agent)
            }
            false => None,
        };
        Ok(Self { control_plane, agent })
    }

    /// Waits until a part ends although nobody asked it to.
    pub async fn first_failure(&mut self) -> TasksError {
        let agent = async {
            match &mut self.agent {
                Some(agent) => agent.first_failure().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = agent => failure,
            failure = self.control_plane.first_failure() => failure,
        }
    }

    /// Stops everything, the store last. Containers run on.
    ///
    /// # Errors
    /// Where a part did not end in time or the store could not be closed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let agent = match self.agent {
            Some(agent) => agent.stop().await,
            None => Ok(()),
        };
        // A part that is late must not keep the store from being closed in order.
        let control_plane = self.control_plane.stop().await;
        agent.and(control_plane)
    }
}
