//! A pod network that plugins make: the Container Network Interface.
//!
//! Start at [`CniNetwork`]. `config` chooses a configuration and says what a plugin is told, `plugin`
//! runs one, `result` reads its answer. The configuration an attachment was made with is kept beside
//! its record, because the same plugins have to take it away.

mod config;
mod plugin;
mod result;

use super::operations::Operations;
use super::records::{self, Record};
use super::{Attached, Attachment, NetworkError, PodNetwork, failed};
use crate::stdx::chain;
use crate::sys::namespace;
use config::{Capabilities, ConfigFile, Network, arguments, chosen, is_config};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use plugin::{Surroundings, Verb, call};
use result::addresses;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tracing::{info, warn};

/// What pods call their interface.
const INTERFACE: &str = "eth0";

/// A larger configuration is none.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Where plugins and their configurations are.
#[derive(Clone, Debug)]
pub struct CniConfig {
    pub config_directory: PathBuf,
    /// The first that has a plugin counts.
    pub plugin_directories: Vec<PathBuf>,
    /// Where attachments are recorded: beside the pinned namespaces, emptied by a reboot.
    pub state_directory: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub struct CniNetwork {
    inner: Arc<Inner>,
    operations: Operations,
}

#[derive(Debug)]
struct Inner {
    config: CniConfig,
    state: Mutex<State>,
    /// Plugins of one machine are not all made to run side by side.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// `None` until [`PodNetwork::configure`].
    pod_cidrs: Option<Vec<IpNet>>,
    records: BTreeMap<String, Record>,
}

/// What the removal of an attachment needs.
#[derive(Clone, Debug)]
struct Kept {
    network: Network,
    plugin_directories: Vec<PathBuf>,
    /// Plugins are to be told the same when they take it away.
    pod_cidrs: Vec<IpNet>,
    result: Option<Value>,
}

impl CniNetwork {
    /// Finds what an earlier process attached.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn open(config: CniConfig) -> Result<Self, NetworkError> {
        let directory = config.state_directory.display();
        let reading = format!("reading the records of attached pods in {directory}");
        let records = records::load(&config.state_directory).map_err(failed(reading))?;
        let state = Mutex::new(State { pod_cidrs: None, records });
        let inner = Inner { config, state, turn: tokio::sync::Mutex::default() };
        Ok(Self { inner: Arc::new(inner), operations: Operations::default() })
    }

    /// Takes all attachments away again.
    ///
    /// # Errors
    /// Where a plugin refuses; what is left can be taken away by another call.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        self.inner.detach_all_but(&BTreeSet::new()).await
    }
}

impl PodNetwork for CniNetwork {
    fn configure(&self, pod_cidrs: Vec<IpNet>) -> BoxFuture<'_, Result<(), NetworkError>> {
        async move {
            let network = self.inner.network()?;
            info!("pods are attached by the CNI plugins of network {}", network.name);
            self.inner.lock().pod_cidrs = Some(pod_cidrs);
            Ok(())
        }
        .boxed()
    }

    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        let inner = Arc::clone(&self.inner);
        self.operations.to_its_end(async move { inner.attach(attachment).await })
    }

    fn detach(&self, sandbox: &str) -> BoxFuture<'_, Result<(), NetworkError>> {
        let (inner, sandbox) = (Arc::clone(&self.inner), sandbox.to_owned());
        self.operations.to_its_end(async move { inner.detach(&sandbox).await })
    }

    fn attached(&self) -> Vec<Attached> {
        let state = self.inner.lock();
        let complete = state.records.values().filter(|record| !record.addresses.is_empty());
        complete.map(Record::attached).collect()
    }

    fn retain(&self, sandboxes: Vec<String>) -> BoxFuture<'_, Result<(), NetworkError>> {
        async move { self.inner.detach_all_but(&sandboxes.into_iter().collect()).await }.boxed()
    }
}

impl Inner {
    async fn attach(&self, attachment: Attachment) -> Result<Vec<IpAddr>, NetworkError> {
        let _turn = self.turn.lock().await;
        let sandbox = attachment.sandbox.clone();
        let known = self.lock().records.get(&sandbox).cloned();
        match known {
            Some(known) if !known.addresses.is_empty() => return Ok(known.addresses),
            // An earlier process began: what it got done, the plugins take away first.
            Some(_) => self.detach_now(&sandbox).await?,
            None => {}
        }
        match self.add(attachment).await {
            Ok(addresses) => Ok(addresses),
            Err(error) => {
                // The first error is the one to tell; a removal that fails here is tried again when
                // the sandbox goes.
                self.detach_now(&sandbox).await.ok();
                Err(error)
            }
        }
    }

    async fn add(&self, attachment: Attachment) -> Result<Vec<IpAddr>, NetworkError> {
        let pod_cidrs = self.lock().pod_cidrs.clone().ok_or(NetworkError::NotConfigured)?;
        let network = self.network()?;
        let pod = attachment.pod.clone();
        let mut record = Record { attachment, addresses: Vec::new() };
        let plugin_directories = self.config.plugin_directories.clone();
        let mut kept = Kept { network, plugin_directories, pod_cidrs, result: None };
        self.save(&record, &kept)?;
        let place = record.attachment.namespace.clone();
        loopback_up(place).await.map_err(failed(format!("switching on loopback of pod {pod}")))?;
        for (index, name) in kept.network.programs() {
            let capabilities = capabilities(&record, &kept.pod_cidrs);
            let request = kept.network.request(index, &capabilities, kept.result.as_ref());
            let result = call(Verb::Add, name, &surroundings(&record, &kept), &request).await;
            kept.result = Some(result.map_err(failed(format!("attaching pod {pod}")))?);
        }
        record.addresses = kept.result.iter().flat_map(|one| addresses(one, INTERFACE)).collect();
        if record.addresses.is_empty() {
            let source = io::Error::new(io::ErrorKind::InvalidData, "the plugins gave no address");
            return Err(failed(format!("attaching pod {pod}"))(source));
        }
        self.save(&record, &kept)?;
        Ok(record.addresses)
    }

    async fn detach(&self, sandbox: &str) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        self.detach_now(sandbox).await
    }

    async fn detach_now(&self, sandbox: &str) -> Result<(), NetworkError> {
        let record = self.lock().records.get(sandbox).cloned();
        let Some(record) = record else { return Ok(()) };
        let removing = || failed(format!("detaching pod {}", record.attachment.pod));
        if let Some(kept) = self.kept(sandbox)? {
            for (index, name) in kept.network.programs().rev() {
                let capabilities = capabilities(&record, &kept.pod_cidrs);
                let request = kept.network.request(index, &capabilities, kept.result.as_ref());
                let done = call(Verb::Del, name, &surroundings(&record, &kept), &request).await;
                done.map_err(failed(format!("detaching pod {}", record.attachment.pod)))?;
            }
        }
        match fs::remove_file(self.kept_path(sandbox)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(removing()(error));
            }
            _ => {}
        }
        records::remove(&self.config.state_directory, sandbox).map_err(removing())?;
        self.lock().records.remove(sandbox);
        Ok(())
    }

    async fn detach_all_but(&self, kept: &BTreeSet<String>) -> Result<(), NetworkError> {
        let state_keys: Vec<String> = self.lock().records.keys().cloned().collect();
        for sandbox in state_keys.iter().filter(|sandbox| !kept.contains(*sandbox)) {
            self.detach(sandbox).await?;
        }
        Ok(())
    }

    /// The configuration that counts now: installers of networks bring it when they like.
    fn network(&self) -> Result<Network, NetworkError> {
        let directory = &self.config.config_directory;
        let reading = format!("reading {}", directory.display());
        let files = config_files(directory).map_err(failed(reading))?;
        let (network, problems) = chosen(files);
        for problem in problems {
            warn!(error = chain(&problem), "a CNI configuration is left out");
        }
        let directory = directory.display().to_string();
        network.ok_or(NetworkError::NoPlugins { directory })
    }

    fn save(&self, record: &Record, kept: &Kept) -> Result<(), NetworkError> {
        let sandbox = &record.attachment.sandbox;
        let content = json!({
            "network": kept.network.to_json(),
            "pluginDirectories": kept.plugin_directories,
            "podCidrs": kept.pod_cidrs.iter().map(IpNet::to_string).collect::<Vec<_>>(),
            "result": kept.result,
        });
        // A reboot takes it all, so that a rename without a sync is enough.
        let path = self.kept_path(sandbox);
        let temporary = path.with_extension("new");
        fs::write(&temporary, content.to_string())
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| records::save(&self.config.state_directory, record))
            .map_err(failed("recording an attachment"))?;
        self.lock().records.insert(sandbox.clone(), record.clone());
        Ok(())
    }

    fn kept(&self, sandbox: &str) -> Result<Option<Kept>, NetworkError> {
        let path = self.kept_path(sandbox);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(format!("reading {}", path.display()))(error)),
        };
        let bad = |problem: String| {
            let source = io::Error::new(io::ErrorKind::InvalidData, problem);
            failed(format!("reading {}", path.display()))(source)
        };
        let mut kept: Value =
            serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?;
        let network = Network::of_json(&kept["network"]).map_err(bad)?;
        let plugin_directories = serde_json::from_value(kept["pluginDirectories"].take())
            .map_err(|error| bad(error.to_string()))?;
        let pod_cidrs = kept["podCidrs"].as_array().into_iter().flatten();
        let pod_cidrs = pod_cidrs.filter_map(|range| range.as_str()?.parse().ok()).collect();
        let result = Some(kept["result"].take()).filter(|result| !result.is_null());
        Ok(Some(Kept { network, plugin_directories, pod_cidrs, result }))
    }

    fn kept_path(&self, sandbox: &str) -> PathBuf {
        self.config.state_directory.join(format!("{sandbox}.cni"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panics under this lock")
    }
}

fn surroundings<'a>(record: &'a Record, kept: &'a Kept) -> Surroundings<'a> {
    Surroundings {
        container: &record.attachment.sandbox,
        namespace: &record.attachment.namespace,
        interface: INTERFACE,
        arguments: arguments(&record.attachment),
        directories: &kept.plugin_directories,
    }
}

fn capabilities<'a>(record: &'a Record, pod_cidrs: &'a [IpNet]) -> Capabilities<'a> {
    let Attachment { host_ports, bandwidth, .. } = &record.attachment;
    Capabilities { host_ports, bandwidth: *bandwidth, pod_cidrs }
}

async fn loopback_up(place: PathBuf) -> io::Result<()> {
    let inside = move || namespace::run_in_network(&place, namespace::loopback_up)?;
    tokio::task::spawn_blocking(inside).await.map_err(io::Error::other)?
}

/// A directory that is not there yet has no files.
fn config_files(directory: &Path) -> io::Result<Vec<ConfigFile>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_config(&name) && path.metadata()?.len() <= CONFIG_BYTES_MAX {
            files.push(ConfigFile { name, content: fs::read(&path)? });
        }
    }
    Ok(files)
}
