//! Network configurations as administrators and plugins' installers leave them, and what a plugin is
//! told: pure.
//!
//! Start at [`chosen`]. Follows the CNI specification 1.1.0, sections 1 to 3, and what libcni does
//! where the specification leaves it open.

use super::super::{Attachment, Bandwidth, HostPort};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// What may leave at once after a pause, in bits: as kubelet's runtimes have the plugin do it.
const BURST_BITS: u32 = i32::MAX.unsigned_abs();

/// A list of plugins that make one attachment together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
}

/// Why a file is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub(super) struct BadConfig {
    pub(super) file: String,
    pub(super) problem: String,
}

/// A file of the configuration directory.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// The first configuration in the order of names that can be understood, and what is wrong with
/// those before it.
pub(super) fn chosen(mut files: Vec<ConfigFile>) -> (Option<Network>, Vec<BadConfig>) {
    files.retain(|file| is_config(&file.name));
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut problems = Vec::new();
    for file in files {
        match Network::parse(&file.content) {
            Ok(network) => return (Some(network), problems),
            Err(problem) => problems.push(BadConfig { file: file.name, problem }),
        }
    }
    (None, problems)
}

pub(super) fn is_config(name: &str) -> bool {
    [".conflist", ".conf", ".json"].iter().any(|ending| name.ends_with(ending))
}

/// What the runtime knows, for plugins that say they can use it.
#[derive(Clone, Debug)]
pub(super) struct Capabilities<'a> {
    pub(super) host_ports: &'a [HostPort],
    pub(super) bandwidth: Bandwidth,
    pub(super) pod_cidrs: &'a [IpNet],
}

impl Network {
    fn parse(content: &[u8]) -> Result<Self, String> {
        let mut config: Map<String, Value> =
            serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let text = |config: &Map<String, Value>, field: &str| {
            let text = config.get(field).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let name = text(&config, "name").ok_or("it has no name")?;
        // Configurations from before versions were invented are of the first.
        let version = text(&config, "cniVersion").unwrap_or_else(|| "0.1.0".to_owned());
        let plugins = match config.remove("plugins") {
            None => vec![Value::Object(config)],
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err("its plugins are no list".to_owned()),
        };
        let plugins = plugins.into_iter().map(|plugin| match plugin {
            Value::Object(plugin) if text(&plugin, "type").is_some() => Ok(plugin),
            _ => Err("a plugin of it has no type".to_owned()),
        });
        let plugins = plugins.collect::<Result<Vec<_>, _>>()?;
        if plugins.is_empty() {
            return Err("it has no plugins".to_owned());
        }
        Ok(Self { name, version, plugins })
    }

    /// The names of the programs, in the order in which they are asked to add.
    pub(super) fn programs(&self) -> impl DoubleEndedIterator<Item = (usize, &str)> {
        self.plugins.iter().enumerate().map(|(index, plugin)| {
            let program = plugin.get("type").and_then(Value::as_str);
            (index, program.expect("parse checked it"))
        })
    }

    /// What a plugin reads: its part of the configuration, the result of the one before it, and what
    /// it can use of the runtime's knowledge.
    pub(super) fn request(
        &self,
        plugin: usize,
        capabilities: &Capabilities<'_>,
        previous: Option<&Value>,
    ) -> Value {
        let mut request = self.plugins[plugin].clone();
        let wanted = request.remove("capabilities");
        request.insert("name".to_owned(), json!(self.name));
        request.insert("cniVersion".to_owned(), json!(self.version));
        if let Some(previous) = previous {
            request.insert("prevResult".to_owned(), previous.clone());
        }
        let is_wanted = |name: &str| {
            wanted.as_ref().and_then(|wanted| wanted.get(name)).and_then(Value::as_bool)
                == Some(true)
        };
        let known = capabilities.known();
        let known: Map<String, Value> =
            known.into_iter().filter(|(name, _)| is_wanted(name)).collect();
        if !known.is_empty() {
            request.insert("runtimeConfig".to_owned(), Value::Object(known));
        }
        Value::Object(request)
    }

    /// As it is kept for the removal, which has to find what was added.
    pub(super) fn to_json(&self) -> Value {
        json!({"name": self.name, "cniVersion": self.version, "plugins": self.plugins})
    }

    pub(super) fn of_json(kept: &Value) -> Result<Self, String> {
        Self::parse(kept.to_string().as_bytes())
    }
}

impl Capabilities<'_> {
    fn known(&self) -> Map<String, Value> {
        let mut known = Map::new();
        if !self.host_ports.is_empty() {
            let ports = self.host_ports.iter().map(|port| {
                json!({
                    "hostPort": port.host_port,
                    "containerPort": port.container_port,
                    "protocol": port.protocol.as_str(),
                    "hostIP": port.host_address.map_or(String::new(), |address| address.to_string()),
                })
            });
            known.insert("portMappings".to_owned(), ports.collect());
        }
        if self.bandwidth != Bandwidth::default() {
            let mut limits = Map::new();
            let both = [("ingress", self.bandwidth.ingress), ("egress", self.bandwidth.egress)];
            for (side, limit) in both {
                if let Some(bits_per_second) = limit {
                    limits.insert(format!("{side}Rate"), json!(bits_per_second));
                    limits.insert(format!("{side}Burst"), json!(BURST_BITS));
                }
            }
            known.insert("bandwidth".to_owned(), Value::Object(limits));
        }
        if !self.pod_cidrs.is_empty() {
            let ranges = self.pod_cidrs.iter().map(|range| json!([{"subnet": range.to_string()}]));
            known.insert("ipRanges".to_owned(), ranges.collect());
        }
        known
    }
}

/// What tells a plugin of the pod (`CNI_ARGS`).
pub(super) fn arguments(attachment: &Attachment) -> String {
    let namespace = attachment.pod.namespace.as_deref().unwrap_or_default();
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};\
         K8S_POD_UID={}",
        attachment.pod.name, attachment.sandbox, attachment.traits.uid
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Protocol;

    fn file(name: &str, content: &Value) -> ConfigFile {
        ConfigFile { name: name.to_owned(), content: content.to_string().into_bytes() }
    }

    #[track_caller]
    fn check(files: &[(&str, Value)], expected: Option<&str>, problems: &[&str]) {
        let files = files.iter().map(|(name, content)| file(name, content));
        let (network, bad) = chosen(files.collect());
        assert_eq!(network.map(|network| network.name).as_deref(), expected);
        assert_eq!(bad.iter().map(ToString::to_string).collect::<Vec<_>>(), problems);
    }

    #[test]
    fn the_first_good_configuration_counts() {
        let list = |name: &str| json!({"name": name, "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]});
        check(
            &[("20-b.conflist", list("b")), ("10-a.conf", json!({"name": "a", "type": "x"}))],
            Some("a"),
            &[],
        );
        check(&[("readme.txt", list("a"))], None, &[]);
        check(
            &[
                ("1.conflist", json!({"name": "a", "plugins": []})),
                ("2.conf", json!({"type": "x"})),
                ("3.conflist", list("c")),
            ],
            Some("c"),
            &["1.conflist: it has no plugins", "2.conf: it has no name"],
        );
        check(
            &[("1.json", json!({"name": "a", "plugins": [{}]}))],
            None,
            &["1.json: a plugin of it has no type"],
        );
    }

    #[test]
    fn a_plugin_is_told_what_it_can_use() {
        let content = json!({"name": "net", "cniVersion": "0.4.0", "plugins": [
            {"type": "bridge", "capabilities": {"ipRanges": true}, "bridge": "b0"},
            {"type": "portmap", "capabilities": {"portMappings": true, "bandwidth": false}},
        ]});
        let network = Network::parse(content.to_string().as_bytes()).unwrap();
        assert_eq!(Network::of_json(&network.to_json()), Ok(network.clone()));
        assert_eq!(
            network.programs().map(|(_, name)| name).collect::<Vec<_>>(),
            ["bridge", "portmap"]
        );
        let port = HostPort {
            protocol: Protocol::Tcp,
            host_address: None,
            host_port: 8080,
            container_port: 80,
        };
        let capabilities = Capabilities {
            host_ports: &[port],
            bandwidth: Bandwidth { ingress: Some(1_000), egress: None },
            pod_cidrs: &["10.42.0.0/24".parse().unwrap()],
        };
        assert_eq!(
            network.request(0, &capabilities, None),
            json!({"type": "bridge", "bridge": "b0", "name": "net", "cniVersion": "0.4.0",
                "runtimeConfig": {"ipRanges": [[{"subnet": "10.42.0.0/24"}]]}}),
        );
        assert_eq!(
            network.request(1, &capabilities, Some(&json!({"ips": []}))),
            json!({"type": "portmap", "name": "net", "cniVersion": "0.4.0", "prevResult": {"ips": []},
                "runtimeConfig": {"portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]}}),
        );
    }
}
