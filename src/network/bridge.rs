//! The pod network made of one bridge: carries out what `plan` and `render` decide.

use super::bandwidth::Bucket;
use super::link::{self, PodEnd};
use super::plan::{gateway, host_interface, host_port_taken, pick_address};
use super::records::{self, Record};
use super::render::{self, Model, TABLE};
use super::shaping;
use super::{Attached, Attachment, NetworkError, PodNetwork, failed};
use crate::stdx::{Tasks, chain, fault};
use crate::sys::namespace;
use crate::sys::nft::{self, Batch, RemovedTables};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use rtnetlink::Handle;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::task::TaskTracker;
use tracing::warn;

/// What the network of a node is to be.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The name of the bridge, 15 bytes at most.
    pub bridge: String,
    /// All pods of the cluster.
    pub cluster_cidrs: Vec<IpNet>,
    /// So many bytes of a packet to other nodes are not the pods'.
    pub overhead: u32,
    /// Where attachments are recorded: beside the pinned namespaces, emptied by a reboot.
    pub state_directory: PathBuf,
}

/// A bridge with a veth pair for each sandbox. See the module's invariants.
#[derive(Debug)]
pub struct BridgeNetwork {
    inner: Arc<Inner>,
    /// What was begun goes on to its end, also where nobody waits for it any more.
    operations: TaskTracker,
}

#[derive(Debug)]
struct Inner {
    config: BridgeConfig,
    netlink: Handle,
    state: Mutex<State>,
    /// Held while a sandbox is attached or detached: one that nobody waits for any more must not
    /// come between the steps of another for the same sandbox.
    attaching: tokio::sync::Mutex<()>,
    /// Held while nft runs, so that batches reach the kernel in the order they were made in.
    rules: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// `None` until [`PodNetwork::configure`].
    bridge: Option<Bridge>,
    records: BTreeMap<String, Record>,
    /// The newest address given out of each range.
    last: BTreeMap<IpNet, IpAddr>,
}

#[derive(Clone, Debug)]
struct Bridge {
    index: u32,
    mtu: u32,
    ranges: Vec<IpNet>,
}

impl BridgeNetwork {
    /// Finds what an earlier process attached. Nothing in the kernel changes before
    /// [`PodNetwork::configure`].
    ///
    /// # Errors
    /// Where the records cannot be read or netlink cannot be reached.
    pub fn open(config: BridgeConfig, tasks: &mut Tasks) -> Result<Self, NetworkError> {
        let directory = config.state_directory.display();
        let reading = format!("reading the records of attached pods in {directory}");
        let records = records::load(&config.state_directory).map_err(failed(reading))?;
        let (connection, netlink, _) =
            rtnetlink::new_connection().map_err(failed("opening a netlink socket"))?;
        let shutdown = tasks.shutdown();
        tasks.spawn("pod-network", async move {
            tokio::select! {
                () = connection => {}
                () = shutdown.cancelled() => {}
            }
        });
        let state = Mutex::new(State { bridge: None, records, last: BTreeMap::new() });
        let (attaching, rules) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let inner = Arc::new(Inner { config, netlink, state, attaching, rules });
        let (of_rules, shutdown) = (Arc::clone(&inner), tasks.shutdown());
        tasks.spawn("pod-network-rules", async move {
            shutdown.run_until_cancelled(of_rules.keep_rules()).await;
            shutdown.cancelled().await;
        });
        Ok(Self { inner, operations: TaskTracker::new() })
    }

    /// Takes everything away again: all attachments, the bridge and the rules.
    ///
    /// # Errors
    /// Where the kernel refuses; what is left can be taken away by another call.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        self.inner.detach_all_but(&BTreeSet::new()).await?;
        let name = &self.inner.config.bridge;
        link::remove(&self.inner.netlink, name).await.map_err(failed("removing the bridge"))?;
        self.inner.lock().bridge = None;
        let mut batch = Batch::new(TABLE);
        batch.delete_table();
        self.inner.apply(batch).await
    }

    fn to_its_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, NetworkError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, NetworkError>> {
        let running = self.operations.spawn(operation);
        async move { running.await.map_err(failed("an operation of the pod network"))? }.boxed()
    }
}

impl PodNetwork for BridgeNetwork {
    fn configure(&self, pod_cidrs: Vec<IpNet>) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.inner.configure(pod_cidrs).boxed()
    }

    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move { inner.attach(attachment).await })
    }

    fn detach(&self, sandbox: &str) -> BoxFuture<'_, Result<(), NetworkError>> {
        let (inner, sandbox) = (Arc::clone(&self.inner), sandbox.to_owned());
        self.to_its_end(async move { inner.detach(&sandbox).await })
    }

    fn attached(&self) -> Vec<Attached> {
        self.inner.lock().records.values().map(Record::attached).collect()
    }

    fn retain(&self, sandboxes: Vec<String>) -> BoxFuture<'_, Result<(), NetworkError>> {
        async move { self.inner.detach_all_but(&sandboxes.into_iter().collect()).await }.boxed()
    }
}

impl Inner {
    async fn configure(&self, ranges: Vec<IpNet>) -> Result<(), NetworkError> {
        if ranges.is_empty() {
            return Err(NetworkError::NotConfigured);
        }
        let name = &self.config.bridge;
        let uplink = link::uplink_mtu(&self.netlink).await.map_err(failed("finding the uplink"))?;
        let mtu = uplink.saturating_sub(self.config.overhead);
        let index = link::ensure_bridge(&self.netlink, name, &ranges, mtu)
            .await
            .map_err(failed(format!("making the bridge {name}")))?;
        set_forwarding(name, &ranges).map_err(failed("switching on forwarding"))?;
        // Nobody comes or goes between what is written down and the rules that are made of it.
        let _turn = self.attaching.lock().await;
        self.lock().bridge = Some(Bridge { index, mtu, ranges: ranges.clone() });
        self.write_rules(&ranges).await
    }

    /// Writes all rules anew. Nobody may be attached or detached meanwhile.
    async fn write_rules(&self, ranges: &[IpNet]) -> Result<(), NetworkError> {
        let BridgeConfig { bridge, cluster_cidrs, .. } = &self.config;
        let mut batch = render::base(&Model { bridge, pod_cidrs: ranges, cluster_cidrs });
        for record in self.lock().records.values() {
            render::open_ports(&mut batch, record);
        }
        self.apply(batch).await
    }

    /// Writes the rules again whenever somebody takes them away.
    async fn keep_rules(&self) {
        let mut removed = match RemovedTables::watch() {
            Ok(removed) => removed,
            Err(error) => {
                warn!(error = chain(&error), "rules that somebody removes are not written again");
                return;
            }
        };
        loop {
            if let Err(error) = removed.removed(TABLE).await {
                warn!(error = chain(&error), "rules that somebody removes are not written again");
                return;
            }
            let _turn = self.attaching.lock().await;
            let ranges = self.lock().bridge.as_ref().map(|bridge| bridge.ranges.clone());
            let Some(ranges) = ranges else { continue };
            warn!("somebody removed the rules of the pod network; they are written again");
            if let Err(error) = self.write_rules(&ranges).await {
                warn!(error = chain(&error), "the rules of the pod network cannot be written");
            }
        }
    }

    async fn attach(&self, attachment: Attachment) -> Result<Vec<IpAddr>, NetworkError> {
        let _turn = self.attaching.lock().await;
        let sandbox = attachment.sandbox.clone();
        let (bridge, record) = self.reserve(attachment)?;
        match self.connect(&bridge, &record).await {
            Ok(()) => Ok(record.addresses),
            Err(error) => {
                // The first error is the one to tell; a detach that fails here is tried again
                // when the sandbox is removed.
                self.detach_now(&sandbox).await.ok();
                Err(error)
            }
        }
    }

    /// Chooses and writes down the addresses, or finds those given before.
    fn reserve(&self, attachment: Attachment) -> Result<(Bridge, Record), NetworkError> {
        let mut state = self.lock();
        let bridge = state.bridge.clone().ok_or(NetworkError::NotConfigured)?;
        if let Some(record) = state.records.get(&attachment.sandbox) {
            return Ok((bridge, record.clone()));
        }
        let others = state.records.values().map(|record| &record.attachment);
        if let Some((other, port)) = host_port_taken(&attachment, others) {
            return Err(NetworkError::HostPortTaken { port, pod: other.pod.clone() });
        }
        let used = state.records.values().flat_map(|record| &record.addresses).copied().collect();
        let mut addresses = Vec::new();
        for range in &bridge.ranges {
            let last = state.last.get(range).copied();
            let picked = pick_address(range, &used, last);
            addresses.push(picked.ok_or(NetworkError::Exhausted { range: *range })?);
        }
        let record = Record { attachment, addresses };
        records::save(&self.config.state_directory, &record)
            .map_err(failed("recording an attachment"))?;
        fault::point("network: address recorded");
        state.last.extend(bridge.ranges.iter().copied().zip(record.addresses.iter().copied()));
        state.records.insert(record.attachment.sandbox.clone(), record.clone());
        Ok((bridge, record))
    }

    /// Makes the pod's interface and all that belongs to it. What an earlier process got done of
    /// that is done again and stays as it is: nothing tells how far it came.
    async fn connect(&self, bridge: &Bridge, record: &Record) -> Result<(), NetworkError> {
        let Attachment { sandbox, pod, namespace, bandwidth, .. } = &record.attachment;
        let interface = host_interface(sandbox);
        let has_pair = link::exists(&self.netlink, &interface)
            .await
            .map_err(failed("looking for a pod's interface"))?;
        if !has_pair {
            let file = File::open(namespace)
                .map_err(failed(format!("opening the network namespace of pod {pod}")))?;
            link::add_pair(&self.netlink, &interface, file.as_fd(), bridge.mtu)
                .await
                .map_err(failed(format!("making the interface of pod {pod}")))?;
            fault::point("network: interface made");
        }
        let index = link::join_bridge(&self.netlink, &interface, bridge.index)
            .await
            .map_err(failed(format!("putting the interface of pod {pod} on the bridge")))?;
        if let Some(bits_per_second) = bandwidth.ingress {
            shaping::limit(&self.netlink, index, Bucket::of(bits_per_second))
                .await
                .map_err(failed(format!("limiting what pod {pod} receives")))?;
        }
        let end = PodEnd {
            addresses: record.addresses.clone(),
            gateways: bridge.ranges.iter().map(gateway).collect(),
            egress: bandwidth.egress.map(Bucket::of),
        };
        configure_inside(namespace, end)
            .await
            .map_err(failed(format!("configuring the interface of pod {pod}")))?;
        fault::point("network: interface configured");
        let mut batch = Batch::new(TABLE);
        render::open_ports(&mut batch, record);
        self.apply(batch).await?;
        fault::point("network: attached");
        Ok(())
    }

    async fn detach(&self, sandbox: &str) -> Result<(), NetworkError> {
        let _turn = self.attaching.lock().await;
        self.detach_now(sandbox).await
    }

    async fn detach_now(&self, sandbox: &str) -> Result<(), NetworkError> {
        let record = self.lock().records.get(sandbox).cloned();
        let Some(record) = record else { return Ok(()) };
        link::remove(&self.netlink, &host_interface(sandbox))
            .await
            .map_err(failed("removing a pod's interface"))?;
        fault::point("network: interface removed");
        let mut batch = Batch::new(TABLE);
        render::close_ports(&mut batch, &record);
        if self.lock().bridge.is_some() {
            self.apply(batch).await?;
        }
        records::remove(&self.config.state_directory, sandbox)
            .map_err(failed("removing the record of an attachment"))?;
        fault::point("network: record removed");
        self.lock().records.remove(sandbox);
        Ok(())
    }

    async fn detach_all_but(&self, kept: &BTreeSet<String>) -> Result<(), NetworkError> {
        let gone: Vec<String> = self
            .lock()
            .records
            .keys()
            .filter(|sandbox| !kept.contains(*sandbox))
            .cloned()
            .collect();
        for sandbox in gone {
            self.detach(&sandbox).await?;
        }
        Ok(())
    }

    async fn apply(&self, batch: Batch) -> Result<(), NetworkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let _turn = self.rules.lock().await;
        nft::apply(&batch).await.map_err(failed("changing the pod network's rules"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panics under this lock")
    }
}

/// Works inside a pod's network namespace. The socket is opened there by a thread of its own and
/// stays there; the async workers never leave their namespace.
async fn configure_inside(namespace: &Path, end: PodEnd) -> io::Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let namespace = namespace.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        namespace::run_in_network(&namespace, move || {
            let _context = runtime.enter();
            rtnetlink::new_connection()
        })
    });
    let (connection, handle, _) = opened.await.map_err(io::Error::other)???;
    tokio::select! {
        done = link::configure_pod(&handle, &end) => done.map_err(io::Error::other),
        () = connection => Err(io::Error::other("the netlink socket closed")),
    }
}

/// Lets the node pass packets on between its pods and the world.
fn set_forwarding(bridge: &str, ranges: &[IpNet]) -> io::Result<()> {
    if ranges.iter().any(|range| range.addr().is_ipv4()) {
        set_sysctl("net/ipv4/ip_forward", "1")?;
        // Host ports on 127.0.0.1 lead to pods.
        set_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    }
    if ranges.iter().any(|range| range.addr().is_ipv6()) {
        // Pods are no routers.
        set_sysctl(&format!("net/ipv6/conf/{bridge}/accept_ra"), "0")?;
        go_on_hearing_routers()?;
        set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A kernel that forwards takes no more advice from routers, unless it is told to: interfaces that
/// take it now would lose their addresses and ways out.
fn go_on_hearing_routers() -> io::Result<()> {
    const HEARS_UNLESS_FORWARDING: &str = "1";
    const HEARS: &str = "2";
    if fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding")?.trim() != "0" {
        return Ok(());
    }
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf")? {
        let entry = entry?;
        let is_interface = !matches!(entry.file_name().to_str(), Some("all" | "default" | "lo"));
        let path = entry.path().join("accept_ra");
        // An interface may go while this is looked at.
        let hears = fs::read_to_string(&path).unwrap_or_default();
        if is_interface && hears.trim() == HEARS_UNLESS_FORWARDING {
            fs::write(&path, HEARS)?;
        }
    }
    Ok(())
}

/// Writes only what differs: some hosts have /proc/sys read-only with the right value there.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
