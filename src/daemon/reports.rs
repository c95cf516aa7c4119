//! What the service manager hears of this process: that it has started, that it lives, that it ends.
//!
//! Start at [`Reports::start`]. Where nobody listens, nothing of this runs, and where nobody asks for
//! signs of life, nothing wakes for them.

use super::process::Role;
use super::server::STOP_DEADLINE;
use crate::client::{Client, ClientError};
use crate::kubelet::Kubelet;
use crate::stdx::{Tasks, chain};
use crate::sys::service_manager::{ServiceManager, watchdog_time};
use http::Method;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// A node that is not ready by then is started all the same: what makes it ready may come through the
/// API, as CNI plugins do, or with a server that is away.
const NODE_PATIENCE: Duration = Duration::from_secs(20);

/// Asked as a sign of life: every check that the server has of itself, without the store.
const LIVEZ: &str = "/livez";

/// See the module.
#[derive(Debug)]
pub(super) struct Reports {
    manager: Arc<ServiceManager>,
    tasks: Tasks,
}

impl Reports {
    /// Begins to tell of a role whose parts are started.
    pub(super) fn start(role: &impl Role) -> Self {
        let manager = ServiceManager::of_this_process().unwrap_or_else(|error| {
            warn!(error = chain(&error), "the service manager cannot be told anything");
            ServiceManager::None
        });
        let manager = Arc::new(manager);
        let mut tasks = Tasks::default();
        if matches!(*manager, ServiceManager::Listening(_)) {
            let kubelet = role.agent().map(|agent| agent.kubelet().clone());
            let (manager, api, shutdown) = (Arc::clone(&manager), role.api(), tasks.shutdown());
            tasks.spawn("reports", async move {
                let report = async {
                    tell(manager.tell_ready(&started(kubelet).await));
                    if let Some(time) = watchdog_time() {
                        show_life(&manager, api, time / 2).await;
                    }
                };
                shutdown.run_until_cancelled(report).await;
            });
        }
        Self { manager, tasks }
    }

    /// Says that this process ends. It goes on showing that it lives: pods may take their time.
    pub(super) fn tell_stopping(&self) {
        tell(self.manager.tell_stopping());
    }

    /// Says nothing from now on.
    pub(super) async fn end(self) {
        if let Err(error) = self.tasks.stop(STOP_DEADLINE).await {
            warn!(error = chain(&error), "what tells the service manager did not end as it should");
        }
    }
}

/// Waits until whoever starts this process finds what they expect; says how it is in a sentence.
async fn started(kubelet: Option<Kubelet>) -> String {
    let Some(kubelet) = kubelet else { return "the API answers".to_owned() };
    let node = kubelet.node_name();
    match tokio::time::timeout(NODE_PATIENCE, kubelet.ready()).await {
        Ok(()) => format!("node {node} is ready"),
        Err(_elapsed) => {
            let seconds = NODE_PATIENCE.as_secs();
            warn!("node {node} is not ready after {seconds} s; `kubectl describe node` says why");
            format!("node {node} was not ready after {seconds} s")
        }
    }
}

/// Shows every so often that requests are answered, as long as they are. A process whose threads are
/// all stuck does not come here; neither does one whose API server does not answer.
async fn show_life(manager: &ServiceManager, api: Option<Client>, pause: Duration) {
    loop {
        match look(api.as_ref()).await {
            Ok(()) => tell(manager.tell_alive()),
            Err(error) => {
                warn!(error = chain(&error), "the API server is not well; nobody is told it is");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn look(api: Option<&Client>) -> Result<(), ClientError> {
    match api {
        Some(api) => api.request(Method::GET, LIVEZ, None).await.map(drop),
        None => Ok(()),
    }
}

/// The work goes on; who waits for what was to be said has deadlines.
fn tell(told: io::Result<()>) {
    if let Err(error) = told {
        warn!(error = chain(&error), "the service manager could not be told");
    }
}
