//! Flags of the ingress, which servers and agents have.

use super::node::absolute;
use super::values;
use crate::daemon::IngressConfig;
use ipnet::IpNet;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Ingress")]
pub(super) struct IngressArgs {
    /// Port of this node where Ingresses are served; 0: none
    #[arg(long, env = "KINGLET_INGRESS_HTTP_PORT", default_value_t = 80)]
    ingress_http_port: u16,
    /// Port of this node where Ingresses are served with TLS; 0: none
    #[arg(long, env = "KINGLET_INGRESS_HTTPS_PORT", default_value_t = 443)]
    ingress_https_port: u16,
    /// Proxies in front of this node that are believed what X-Forwarded-* says
    #[arg(
        long,
        env = "KINGLET_INGRESS_TRUSTED_IPS",
        value_delimiter = ',',
        value_parser = values::address_range,
        value_name = "ADDRESS|RANGE"
    )]
    ingress_trusted_ips: Vec<IpNet>,
    /// Where to write a line for each request; `-` is the standard output
    #[arg(long, env = "KINGLET_INGRESS_ACCESS_LOG", value_name = "FILE")]
    ingress_access_log: Option<PathBuf>,
}

impl IngressArgs {
    pub(super) fn into_config(self) -> anyhow::Result<IngressConfig> {
        let port = |port: u16| (port > 0).then_some(port);
        let path = |path: PathBuf| match path == Path::new("-") {
            true => Ok(path),
            false => absolute(&path),
        };
        Ok(IngressConfig {
            http_port: port(self.ingress_http_port),
            https_port: port(self.ingress_https_port),
            trusted_proxies: self.ingress_trusted_ips,
            access_log: self.ingress_access_log.map(path).transpose()?,
        })
    }
}
