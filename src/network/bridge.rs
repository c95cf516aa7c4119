//! The pod network made of one bridge: carries out what `plan` and `render` decide.

use super::bandwidth::Bucket;
use super::link::{self, PodEnd, closed};
use super::losses::{Here, Loss, Losses};
use super::operations::Operations;
use super::passing;
use super::plan::{gateway, host_interface, host_port_taken, pick_address};
use super::records::{self, Record};
use super::render::{self, Model, TABLE};
use super::shaping;
use super::{Attached, Attachment, NetworkError, PodNetwork, failed};
use crate::stdx::{Backoff, Tasks, chain, fault};
use crate::sys::namespace;
use crate::sys::nft::{Author, Batch};
use crate::sys::sysctl;
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
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// Interfaces that could not be made again are tried again after this.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

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
    operations: Operations,
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
    author: Author,
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
        let author = Author::default();
        let inner = Arc::new(Inner { config, netlink, state, attaching, rules, author });
        let (of_rules, shutdown) = (Arc::clone(&inner), tasks.shutdown());
        tasks.spawn("pod-network-rules", async move {
            shutdown.run_until_cancelled(of_rules.keep_rules()).await;
            shutdown.cancelled().await;
        });
        let (of_interfaces, shutdown) = (Arc::clone(&inner), tasks.shutdown());
        tasks.spawn("pod-network-interfaces", async move {
            shutdown.run_until_cancelled(of_interfaces.keep_interfaces()).await;
            shutdown.cancelled().await;
        });
        Ok(Self { inner, operations: Operations::default() })
    }

    /// Takes everything away again: all attachments, the bridge and the rules.
    ///
    /// # Errors
    /// Where the kernel refuses; what is left can be taken away by another call.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        self.inner.detach_all_but(&BTreeSet::new()).await?;
        let name = &self.inner.config.bridge;
        {
            let _turn = self.inner.attaching.lock().await;
            // Nobody makes it again.
            self.inner.lock().bridge = None;
            link::remove(&self.inner.netlink, name).await.map_err(failed("removing the bridge"))?;
        }
        let mut batch = Batch::new(TABLE);
        batch.delete_table();
        self.inner.apply(batch).await
    }
}

impl PodNetwork for BridgeNetwork {
    fn configure(&self, pod_cidrs: Vec<IpNet>) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.inner.configure(pod_cidrs).boxed()
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
        // Nobody comes or goes between what is written down and what is made of it.
        let _turn = self.attaching.lock().await;
        self.set_up(&ranges).await?;
        self.write_rules(&ranges).await
    }

    /// Makes the bridge, or completes what is there. Nobody may be attached or detached meanwhile.
    async fn set_up(&self, ranges: &[IpNet]) -> Result<Bridge, NetworkError> {
        let name = &self.config.bridge;
        let uplink = link::uplink_mtu(&self.netlink).await.map_err(failed("finding the uplink"))?;
        let mtu = uplink.saturating_sub(self.config.overhead);
        let index = link::ensure_bridge(&self.netlink, name, ranges, mtu)
            .await
            .map_err(failed(format!("making the bridge {name}")))?;
        set_forwarding(name, ranges).map_err(failed("switching on forwarding"))?;
        let bridge = Bridge { index, mtu, ranges: ranges.to_vec() };
        self.lock().bridge = Some(bridge.clone());
        Ok(bridge)
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

    /// Writes the rules again whenever somebody changes them.
    async fn keep_rules(&self) {
        let mut others = match self.author.others(TABLE) {
            Ok(others) => others,
            Err(error) => {
                warn!(error = chain(&error), "rules that somebody changes are not written again");
                return;
            }
        };
        loop {
            // Where there was too much to tell, our own rules are too few to be the reason.
            if let Err(error) = others.changed().await {
                warn!(error = chain(&error), "rules that somebody changes are not written again");
                return;
            }
            let _turn = self.attaching.lock().await;
            let ranges = self.lock().bridge.as_ref().map(|bridge| bridge.ranges.clone());
            let Some(ranges) = ranges else { continue };
            warn!("somebody changed the rules of the pod network; they are written again");
            if let Err(error) = self.write_rules(&ranges).await {
                warn!(error = chain(&error), "the rules of the pod network cannot be written");
            }
        }
    }

    /// Makes the bridge and pods' interfaces again whenever somebody takes them away.
    async fn keep_interfaces(&self) {
        let error = match Losses::listen() {
            Ok((listening, losses)) => tokio::select! {
                () = listening => closed(),
                error = self.mend_losses(losses) => error,
            },
            Err(error) => error,
        };
        warn!(error = chain(&error), "interfaces that somebody removes are not made again");
    }

    async fn mend_losses(&self, mut losses: Losses) -> io::Error {
        let mut lost = Loss::default();
        let mut failures = 0;
        loop {
            let heard = losses.next(&mut lost, self);
            let heard = match failures {
                0 => heard.await,
                _ => timeout(RETRY.delay(failures), heard).await.unwrap_or(Ok(())),
            };
            if let Err(error) = heard {
                return error;
            }
            match self.mend(&lost).await {
                Ok(()) => (lost, failures) = (Loss::default(), 0),
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(error = chain(&error), "pods are off the network");
                    }
                }
            }
        }
    }

    /// Makes again what was lost of the bridge and of pods that are there still.
    async fn mend(&self, lost: &Loss) -> Result<(), NetworkError> {
        let _turn = self.attaching.lock().await;
        let Some(before) = self.lock().bridge.clone() else { return Ok(()) };
        let bridge = match lost.of_bridge {
            true => self.set_up(&before.ranges).await?,
            false => before.clone(),
        };
        let is_new = bridge.index != before.index;
        if is_new {
            warn!(bridge = self.config.bridge, "somebody removed the bridge; it is made again");
        }
        let records: Vec<_> = self.lock().records.values().cloned().collect();
        let mut result = Ok(());
        for record in &records {
            let interface = host_interface(&record.attachment.sandbox);
            let is_lost = is_new
                || lost.interfaces.contains(&interface)
                || lost.is_unknown && !self.has(&interface).await?;
            if !is_lost {
                continue;
            }
            match self.connect(&bridge, record).await {
                Ok(()) => info!(pod = %record.attachment.pod, "back on the network"),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn has(&self, interface: &str) -> Result<bool, NetworkError> {
        let found = link::exists(&self.netlink, interface).await;
        found.map_err(failed("looking for a pod's interface"))
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
        if !self.has(&interface).await? {
            let file = File::open(namespace)
                .map_err(failed(format!("opening the network namespace of pod {pod}")))?;
            let first = record.addresses.first().ok_or(NetworkError::NotConfigured)?;
            let inside = (file.as_fd(), *first);
            link::add_pair(&self.netlink, &interface, inside, bridge.mtu)
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
        passing::until_passing(&self.netlink, &[index, bridge.index])
            .await
            .map_err(failed(format!("waiting for the interface of pod {pod}")))?;
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
        self.author.apply(&batch).await.map_err(failed("changing the pod network's rules"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panics under this lock")
    }
}

impl Here for Inner {
    fn is_bridge(&self, interface: &str) -> bool {
        interface == self.config.bridge
    }

    fn is_bridge_index(&self, index: u32) -> bool {
        self.lock().bridge.as_ref().is_some_and(|bridge| bridge.index == index)
    }

    fn is_of_pod(&self, interface: &str) -> bool {
        self.lock().records.keys().any(|sandbox| host_interface(sandbox) == interface)
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
            rtnetlink::new_multicast_connection(&passing::CHANGES_INSIDE)
        })
    });
    let (connection, handle, mut heard) = opened.await.map_err(io::Error::other)???;
    let configured = async {
        let interface = link::configure_pod(&handle, &end).await.map_err(io::Error::other)?;
        passing::until_ready(&handle, &mut heard, interface, &end.addresses).await
    };
    tokio::select! {
        done = configured => done,
        () = connection => Err(closed()),
    }
}

/// Lets the node pass packets on between its pods and the world.
fn set_forwarding(bridge: &str, ranges: &[IpNet]) -> io::Result<()> {
    if ranges.iter().any(|range| range.addr().is_ipv4()) {
        sysctl::set("net/ipv4/ip_forward", "1")?;
        // Host ports on 127.0.0.1 lead to pods.
        sysctl::set(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    }
    if ranges.iter().any(|range| range.addr().is_ipv6()) {
        // Pods are no routers.
        sysctl::set(&format!("net/ipv6/conf/{bridge}/accept_ra"), "0")?;
        go_on_hearing_routers()?;
        sysctl::set("net/ipv6/conf/all/forwarding", "1")?;
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
