//! Takes away what the pods of a data directory have on this host: processes, mounts, namespaces,
//! interfaces, rules and cgroups. What is in the data directory stays, but for the containers.

use super::agent::{self, cgroup_root};
use super::config::{BRIDGE, DNS_INTERFACE, Layout, SERVICES_INTERFACE};
use super::{images, socket};
use crate::netpol;
use crate::network::{
    BridgeConfig, BridgeNetwork, CniConfig, CniNetwork, local_addresses, overlay,
};
use crate::proxy;
use crate::runtime::Runtime;
use crate::stdx::{Clock, Tasks};
use crate::sys::cgroup::Cgroups;
use crate::sys::mount;
use anyhow::{Context as _, bail};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tracing::info;

/// Removes the pods of `data_dir` and all they have. Succeeds where there is nothing.
///
/// # Errors
/// Where a server runs on the directory, or the kernel refuses; what is left can be removed by
/// another call.
pub fn remove_everything(data_dir: &Path) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime?.block_on(remove(data_dir))
}

async fn remove(data_dir: &Path) -> anyhow::Result<()> {
    let layout = Layout::of(data_dir);
    if socket::connect(&layout.socket()).await.is_some() {
        bail!("a server runs on {}; stop it first", data_dir.display());
    }
    if !layout.agent().exists() {
        return Ok(());
    }
    let mut tasks = Tasks::default();
    remove_sandboxes(&layout, data_dir).await?;
    let network = BridgeConfig {
        bridge: BRIDGE.to_owned(),
        cluster_cidrs: Vec::new(),
        overhead: 0,
        state_directory: agent::network_state(&layout),
    };
    BridgeNetwork::open(network, &mut tasks)?.remove().await?;
    let plugins = CniConfig {
        config_directory: PathBuf::new(),
        plugin_directories: Vec::new(),
        state_directory: agent::cni_state(&layout),
    };
    CniNetwork::open(plugins)?.remove().await?;
    netpol::remove().await.context("removing the rules of network policies")?;
    proxy::remove().await.context("removing the rules of Services")?;
    local_addresses::release(SERVICES_INTERFACE).await?;
    local_addresses::release(DNS_INTERFACE).await?;
    overlay::remove().await?;
    for directory in [layout.agent(), layout.run()] {
        mount::unmount_all(&directory)
            .with_context(|| format!("unmounting what is below {}", directory.display()))?;
    }
    remove_cgroups(&layout)?;
    gone(fs::remove_dir_all(layout.run()))
        .with_context(|| format!("removing {}", layout.run().display()))?;
    Ok(())
}

async fn remove_sandboxes(layout: &Layout, data_dir: &Path) -> anyhow::Result<()> {
    let clock = Clock::system();
    let images = images::open_images(data_dir, Path::new("/dev/null"), &clock).await?;
    let runtime = agent::open_runtime(layout, images, &clock).await?;
    let sandboxes = runtime.sandboxes().await?;
    for sandbox in &sandboxes {
        info!("removing pod {}/{}", sandbox.pod.namespace, sandbox.pod.name);
        runtime.stop_sandbox(&sandbox.id).await?;
        runtime.remove_sandbox(&sandbox.id).await?;
    }
    runtime.close(super::server::STOP_DEADLINE).await;
    Ok(())
}

fn remove_cgroups(layout: &Layout) -> anyhow::Result<()> {
    let cgroups = Cgroups::detect().context("finding cgroups")?;
    let root = cgroup_root(layout);
    let path = root.parse().context("the pods' cgroup")?;
    cgroups.kill(&path).and_then(|()| cgroups.remove(&path)).context("removing the pods' cgroups")
}

/// That there is nothing to remove is what was wanted.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
