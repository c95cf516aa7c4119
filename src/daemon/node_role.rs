//! `kinglet agent`: a node whose servers are elsewhere.
//!
//! Start at [`AgentNode::start`]. Architecture invariants: the node reaches out and is not reached;
//! what it needs of the servers it has on disk, so that it starts without them, and goes on from what
//! it knew last.

use super::access::{Access, Parts};
use super::agent::{self, Agent};
use super::config::{AgentConfig, Layout, NodeConfig};
use super::control_plane::follow_clock;
use super::join::{self, Membership};
use super::process::{self, Role};
use super::server::STOP_DEADLINE;
use super::tunnels::{self, Ways};
use super::user_agents;
use crate::api::ObjectKey;
use crate::api::node::{key_of_node, name_taken};
use crate::client::remote::Remote;
use crate::client::{Cache, Client, ClientError, LastKnown, Selection, Servers};
use crate::pki::{Leaf, NodeKey, ServerTls};
use crate::provision;
use crate::stdx::{Backoff, Clock, Tasks, monotonic};
use crate::sys::open_files;
use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// A server that has not said in this time what there is to know does without: the node starts with
/// what it knows.
const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// Between attempts to renew a certificate.
const RENEWAL_RETRY: Backoff =
    Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(60 * 60) };

/// See the module.
#[derive(Debug)]
pub struct AgentNode {
    agent: Agent,
    tasks: Tasks,
}

/// Runs an agent until it is told to stop.
///
/// # Errors
/// Where it cannot join or start, or a part of it ends although nobody asked it to.
pub fn run_agent(config: AgentConfig) -> anyhow::Result<()> {
    process::run(AgentNode::start(config))
}

/// The ways to the servers, each replaced when the certificate is.
#[derive(Debug)]
struct Doors {
    node: Servers,
    agent: Servers,
    tunnel: watch::Sender<Remote>,
    servers: watch::Sender<Vec<String>>,
}

impl Doors {
    fn open(membership: &Membership) -> anyhow::Result<Self> {
        let [node, agent] = membership.ways()?;
        let servers = membership.servers.clone();
        Ok(Self {
            node: Servers::new(Remote::new(&node)?, &servers)?,
            agent: Servers::new(Remote::new(&agent)?, &servers)?,
            tunnel: watch::Sender::new(Remote::upgradable(&agent)?),
            servers: watch::Sender::new(servers),
        })
    }

    fn use_certificates(&self, membership: &Membership) -> anyhow::Result<()> {
        let [node, agent] = membership.ways()?;
        self.node.set_way(Remote::new(&node)?);
        self.agent.set_way(Remote::new(&agent)?);
        self.tunnel.send_replace(Remote::upgradable(&agent)?);
        Ok(())
    }

    fn use_servers(&self, servers: Vec<String>) -> anyhow::Result<()> {
        self.node.set_servers(&servers)?;
        self.agent.set_servers(&servers)?;
        self.servers.send_replace(servers);
        Ok(())
    }
}

impl AgentNode {
    /// Joins, where the machine has not, and starts everything. Returns when the node is about to
    /// register.
    ///
    /// # Errors
    /// By part: what it could not do, and what helps.
    pub async fn start(config: AgentConfig) -> anyhow::Result<Self> {
        let began = monotonic();
        let clock = Clock::system();
        open_files::raise().context("cannot raise the limit of open files")?;
        let mut membership = join::join(&config, &clock).await?;
        let doors = Arc::new(Doors::open(&membership)?);
        let layout = Layout::of(&config.node.data_dir);
        agent::make_run_directory(&layout)?;
        let known = LastKnown::open(layout.agent().join("known"), layout.run().join("known"));
        let known = Arc::new(known.context("cannot keep what is known")?);
        let client = |servers: &Servers, user_agent| {
            let client = Client::new(Arc::new(servers.clone()), user_agent);
            client.remembering(Arc::clone(&known))
        };
        let node = client(&doors.node, user_agents::KUBELET);
        let agent = client(&doors.agent, user_agents::KINGLET);
        look_at_server(&mut membership, &config.node, &node).await?;
        let names = serving_names(&config.node);
        let shown = membership.serving(&names);
        let due = shown.as_ref().map_or(Timestamp::MIN, Leaf::due);
        let shown = match shown {
            Some(leaf) => leaf,
            None => membership.key.self_signed(&names)?,
        };
        let tls = ServerTls::new(&shown, &membership.settings.client_ca, clock.clone())?;
        let mut tasks = Tasks::default();
        tasks.spawn("clock", follow_clock(clock.clone(), tasks.shutdown()));
        follow_servers(&config, &agent, &doors, &mut tasks);
        let access = Access {
            provisioner: Some(provision::Parts {
                class: provision::Class::Elsewhere,
                ..provision::Parts::watched(agent.clone(), &mut tasks)
            }),
            node: node.clone(),
            parts: Parts::new(move |_identity| agent.clone(), None),
            kubelet_tls: tls.acceptor(),
            cluster: membership.settings.cluster.clone(),
            node_key: Some(membership.key.fingerprint()),
        };
        let running = Agent::start(&config.node, &clock, access).await?;
        let kubelet = running.kubelet().clone();
        let own = kubelet.clone();
        let is_own = move |address: SocketAddr| own.is_pod_address(address.ip());
        let ways = Ways { way: doors.tunnel.subscribe(), servers: doors.servers.subscribe() };
        tunnels::start(ways, kubelet, Arc::new(is_own), &mut tasks);
        let port = Port {
            node: config.node.name.clone(),
            directory: Layout::of(&config.node.data_dir).agent(),
            names,
            due,
            tls,
        };
        let shutdown = tasks.shutdown();
        let keep = keep_certificates((membership, port), node, doors, clock);
        tasks.spawn("certificates", async move {
            shutdown.run_until_cancelled(keep).await;
        });
        info!("the agent runs after {} ms", began.elapsed().as_millis());
        Ok(Self { agent: running, tasks })
    }
}

impl Role for AgentNode {
    async fn first_failure(&mut self) -> anyhow::Error {
        let kubelet = self.agent.kubelet().clone();
        tokio::select! {
            failure = self.agent.first_failure() => failure.into(),
            failure = self.tasks.first_failure() => failure.into(),
            why = kubelet.name_lost() => anyhow!(why),
        }
    }

    fn agent(&self) -> Option<&Agent> {
        Some(&self.agent)
    }

    fn api(&self) -> Option<Client> {
        None
    }

    async fn stop(self) -> anyhow::Result<()> {
        let agent = self.agent.stop().await;
        let tasks = self.tasks.stop(STOP_DEADLINE).await;
        agent.and(tasks.map_err(anyhow::Error::from))
    }
}

/// What a server says that was said otherwise before, and whether this machine is still whom the
/// cluster means by its name. Without a server, what is known has to do.
async fn look_at_server(
    membership: &mut Membership,
    config: &NodeConfig,
    node: &Client,
) -> anyhow::Result<()> {
    let key = ObjectKey::cluster(config.name.clone());
    let looked = tokio::time::timeout(SERVER_PATIENCE, async {
        membership.refresh(node).await?;
        match node.get::<Node>(&key).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(anyhow::Error::new(error)),
        }
    });
    match looked.await {
        Ok(Ok(found)) => {
            let said = found.as_ref().and_then(key_of_node);
            if said.is_some_and(|said| said != membership.key.fingerprint()) {
                bail!(name_taken(&config.name));
            }
        }
        Ok(Err(error)) => {
            let refused = error.downcast_ref::<ClientError>();
            if refused.is_some_and(ClientError::is_node_name_taken) {
                return Err(error);
            }
            let error = format!("{error:#}");
            warn!(error, "the server does not say how the cluster is: what was known has to do");
        }
        Err(_elapsed) => warn!("no server answers: what was known last has to do"),
    }
    Ok(())
}

/// Every name and address that the kubelet is reached by.
fn serving_names(config: &NodeConfig) -> Vec<String> {
    let addresses = config.ips.iter().chain(&config.external_ips).map(IpAddr::to_string);
    std::iter::once(config.name.clone()).chain(addresses).collect()
}

/// Asks those servers, and keeps tunnels to them, that the cluster says it has.
fn follow_servers(config: &AgentConfig, agent: &Client, doors: &Arc<Doors>, tasks: &mut Tasks) {
    let selection = Selection {
        namespace: Some("default".to_owned()),
        labels: Some("kubernetes.io/service-name=kubernetes".to_owned()),
        fields: None,
    };
    let slices: Arc<Cache<EndpointSlice>> = Cache::start_unawaited(agent.clone(), selection, tasks);
    let directory = Layout::of(&config.node.data_dir).agent();
    let (named, doors, shutdown) = (config.servers.clone(), Arc::clone(doors), tasks.shutdown());
    let changed = watch::Sender::new(());
    let mut changes = changed.subscribe();
    slices.on_change(move |_change| {
        changed.send_replace(());
    });
    tasks.spawn("servers", async move {
        let follow = async {
            slices.synced().await;
            loop {
                changes.mark_unchanged();
                let told: Vec<String> =
                    slices.list().iter().flat_map(|slice| servers_of(slice)).collect();
                let servers = join::servers(&named, &told);
                let is_new = *doors.servers.borrow() != servers;
                // A cluster without servers is one that nobody has said anything about yet.
                if is_new && !told.is_empty() {
                    info!(?servers, "the cluster has these servers");
                    let taken = Membership::save_servers(&directory, &told)
                        .and_then(|()| doors.use_servers(servers));
                    if let Err(error) = taken {
                        warn!(error = format!("{error:#}"), "the new servers are not used");
                    }
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        shutdown.run_until_cancelled(follow).await;
        shutdown.cancelled().await;
    });
}

/// Where the servers of a slice are.
fn servers_of(slice: &EndpointSlice) -> Vec<String> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let port = ports.into_iter().next().unwrap_or(6443);
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(|address| format!("https://{}", SocketAddr::new(address, port)))
        .collect()
}

/// What the kubelet's port shows.
#[derive(Debug)]
struct Port {
    node: String,
    directory: PathBuf,
    names: Vec<String>,
    due: Timestamp,
    tls: ServerTls,
}

impl Port {
    async fn renew(&mut self, client: &Client, key: &NodeKey) -> anyhow::Result<()> {
        let of = (&*self.node, key, &*self.directory);
        let leaf = join::serving_certificate(client, of, &self.names).await?;
        self.tls.replace(&leaf)?;
        self.due = leaf.due();
        Ok(())
    }
}

/// Makes certificates anew in time. The first of the kubelet's port comes as soon as there is a
/// server.
async fn keep_certificates(
    (mut membership, mut port): (Membership, Port),
    node: Client,
    doors: Arc<Doors>,
    clock: Clock,
) {
    let mut failures = 0;
    loop {
        clock.sleep_until(membership.due().min(port.due)).await;
        let renewed = async {
            if membership.due() <= clock.now() {
                membership.renew(&node).await?;
                doors.use_certificates(&membership)?;
            }
            if port.due <= clock.now() {
                port.renew(&node, &membership.key).await?;
            }
            anyhow::Ok(())
        };
        match renewed.await {
            Ok(()) => {
                failures = 0;
                if membership.due().min(port.due) <= clock.now() {
                    // Where the authority itself ends soon, nobody gets more than this.
                    tokio::time::sleep(RENEWAL_RETRY.longest).await;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(error = format!("{error:#}"), "a certificate is not renewed yet");
                }
                tokio::time::sleep(RENEWAL_RETRY.delay(failures)).await;
            }
        }
    }
}
