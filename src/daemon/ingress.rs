//! The ingress of this node: what it is told.

use super::access::OfNode;
use crate::ingress::{self, Ingress};
use crate::stdx::Tasks;
use crate::sys::open_files;
use anyhow::Context as _;
use ipnet::IpNet;
use std::path::PathBuf;

/// Where a node serves Ingresses.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    /// `None`: nowhere without TLS, or with it.
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    /// Proxies that are believed what they say of clients.
    pub trusted_proxies: Vec<IpNet>,
    /// Where each request is written down; `-` is the standard output.
    pub access_log: Option<PathBuf>,
}

/// An eighth of the files is for clients, and as many for the endpoints that they are sent to.
pub(super) fn start(of_node: &OfNode<'_>, tasks: &mut Tasks) -> anyhow::Result<Ingress> {
    let OfNode { config, parts, clock, .. } = *of_node;
    let IngressConfig { http_port, https_port, trusted_proxies, access_log } =
        config.ingress.clone();
    let open_files = open_files::raise().context("cannot raise the limit of open files")?;
    let share = usize::try_from(open_files / 8).unwrap_or(usize::MAX);
    let settings = ingress::Config {
        node: config.name.clone(),
        bind_address: config.bind_address,
        http_port,
        https_port,
        trusted_proxies,
        access_log,
        connections_max: share.min(ingress::Config::CONNECTIONS_MAX),
        clock: clock.clone(),
    };
    ingress::start(settings, parts.ingress_parts(tasks), tasks).context("cannot start the ingress")
}
