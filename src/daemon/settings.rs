//! What all nodes of a cluster have to agree on, as servers tell it to agents: the ConfigMap
//! `kube-system/kinglet-cluster`, under the names of the flags.

use super::config::{ClusterConfig, NodePortRange};
use crate::api::ObjectKey;
use crate::client::{Client, ClientError};
use crate::network::overlay::Backend;
use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kinglet-cluster";

/// The names that people have for the ways between nodes.
const BACKENDS: &[(&str, Option<Backend>)] = &[
    ("vxlan", Some(Backend::Vxlan)),
    ("host-gw", Some(Backend::HostGateway)),
    ("wireguard-native", Some(Backend::WireGuard)),
    ("none", None),
];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) cluster: ClusterConfig,
    /// Whose client certificates are believed, as PEM.
    pub(super) client_ca: String,
}

impl Settings {
    fn key() -> ObjectKey {
        ObjectKey::namespaced(NAMESPACE, NAME)
    }

    /// What the server says.
    pub(super) async fn read(client: &Client) -> Result<BTreeMap<String, String>, ClientError> {
        let map: ConfigMap = client.get(&Self::key()).await?;
        Ok(map.data.unwrap_or_default())
    }

    /// Says it, where it is not said yet.
    pub(super) async fn publish(&self, client: &Client) -> Result<(), ClientError> {
        let data = Some(self.to_data());
        match client.get::<ConfigMap>(&Self::key()).await {
            Ok(known) if known.data == data => Ok(()),
            Ok(known) => client.update(&ConfigMap { data, ..known }).await.map(drop),
            Err(error) if error.is_not_found() => {
                let metadata = ObjectMeta {
                    namespace: Some(NAMESPACE.to_owned()),
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                };
                let map = ConfigMap { metadata, data, ..ConfigMap::default() };
                client.create(&map).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn to_data(&self) -> BTreeMap<String, String> {
        let Self { cluster, client_ca } = self;
        let NodePortRange { first, last } = cluster.node_ports;
        let backend = BACKENDS.iter().find(|(_, backend)| *backend == cluster.overlay);
        [
            ("cluster-cidr", listed(&cluster.cluster_cidrs)),
            ("service-cidr", listed(&cluster.service_cidrs)),
            ("service-node-port-range", format!("{first}-{last}")),
            ("cluster-dns", listed(&cluster.cluster_dns)),
            ("cluster-domain", cluster.cluster_domain.clone()),
            ("flannel-backend", backend.map_or("none", |(name, _)| name).to_owned()),
            ("client-ca.crt", client_ca.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// # Errors
    /// Where something is missing, or unknown here: the server is another version.
    pub(super) fn from_data(data: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let value = |key: &str| {
            let value = data.get(key).map(String::as_str);
            value.with_context(|| format!("the server does not say what {key} is"))
        };
        let ports = value("service-node-port-range")?.split_once('-');
        let port = |text: &str| text.parse::<u16>().context("service-node-port-range");
        let (first, last) = ports.context("service-node-port-range")?;
        let name = value("flannel-backend")?;
        let backend = BACKENDS.iter().find(|(known, _)| *known == name);
        let (_, overlay) = backend
            .ok_or_else(|| anyhow!("flannel-backend {name:?} of the server is not known here"))?;
        Ok(Self {
            cluster: ClusterConfig {
                cluster_cidrs: parsed(value("cluster-cidr")?).context("cluster-cidr")?,
                service_cidrs: parsed(value("service-cidr")?).context("service-cidr")?,
                node_ports: NodePortRange { first: port(first)?, last: port(last)? },
                cluster_dns: parsed(value("cluster-dns")?).context("cluster-dns")?,
                cluster_domain: value("cluster-domain")?.to_owned(),
                overlay: *overlay,
            },
            client_ca: value("client-ca.crt")?.to_owned(),
        })
    }
}

fn listed<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> anyhow::Result<Vec<T>> {
    let items = text.split(',').filter(|item| !item.is_empty());
    items.map(|item| Ok(item.parse()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            cluster: ClusterConfig {
                cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()],
                service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
                node_ports: NodePortRange { first: 30_000, last: 32_767 },
                cluster_dns: vec!["10.43.0.10".parse().unwrap()],
                cluster_domain: "cluster.local".to_owned(),
                overlay: Some(Backend::HostGateway),
            },
            client_ca: "PEM".to_owned(),
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        let data = settings().to_data();
        assert_eq!(data["cluster-cidr"], "10.42.0.0/16,fd42::/56");
        assert_eq!(data["flannel-backend"], "host-gw");
        assert_eq!(Settings::from_data(&data).unwrap(), settings());
        let mut encrypted = settings();
        encrypted.cluster.overlay = Some(Backend::WireGuard);
        assert_eq!(encrypted.to_data()["flannel-backend"], "wireguard-native");
        assert_eq!(Settings::from_data(&encrypted.to_data()).unwrap(), encrypted);
        let mut none = settings();
        none.cluster.overlay = None;
        none.cluster.cluster_dns = Vec::new();
        assert_eq!(Settings::from_data(&none.to_data()).unwrap(), none);
    }

    #[test]
    fn what_is_not_said_or_unknown_is_named() {
        let check = |key: &str, value: Option<&str>, expected: &str| {
            let mut data = settings().to_data();
            match value {
                Some(value) => data.insert(key.to_owned(), value.to_owned()),
                None => data.remove(key),
            };
            let error = format!("{:#}", Settings::from_data(&data).unwrap_err());
            assert!(error.starts_with(expected), "{error}");
        };
        check("cluster-dns", None, "the server does not say what cluster-dns is");
        check("cluster-cidr", Some("10.42.0.0"), "cluster-cidr: ");
        check("flannel-backend", Some("ipsec"), "flannel-backend \"ipsec\" of the server");
        check("service-node-port-range", Some("1"), "service-node-port-range");
    }
}
