//! What is attached, written down so that a new process knows it.
//!
//! Records live beside the pinned namespaces, in a directory that a reboot empties: both die
//! together. A record is written before the kernel is asked for anything and removed after the
//! kernel has given everything back, so that an address is never given out twice.

use super::{Attached, Attachment, Bandwidth, HostPort, PodTraits, Protocol};
use crate::api::ObjectKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// An attachment with the addresses it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) attachment: Attachment,
    pub(super) addresses: Vec<IpAddr>,
}

impl Record {
    pub(super) fn attached(&self) -> Attached {
        Attached {
            sandbox: self.attachment.sandbox.clone(),
            pod: self.attachment.pod.clone(),
            traits: self.attachment.traits.clone(),
            addresses: self.addresses.clone(),
        }
    }
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    sandbox: String,
    pod_namespace: Option<String>,
    pod_name: String,
    namespace: PathBuf,
    addresses: Vec<IpAddr>,
    host_ports: Vec<StoredPort>,
    /// Records of earlier versions have none.
    #[serde(default)]
    traits: PodTraits,
    #[serde(default)]
    bandwidth: Bandwidth,
}

#[derive(Serialize, Deserialize)]
struct StoredPort {
    protocol: String,
    host_address: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
}

/// Reads every record in `directory`, which is made where it is missing.
///
/// A file that cannot be understood is an error: guessing could give an address out twice.
pub(super) fn load(directory: &Path) -> io::Result<BTreeMap<String, Record>> {
    fs::create_dir_all(directory)?;
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let record = parse(&fs::read(&path)?).map_err(|error| {
                let place = path.display();
                io::Error::new(io::ErrorKind::InvalidData, format!("{place}: {error}"))
            })?;
            records.insert(record.attachment.sandbox.clone(), record);
        }
    }
    Ok(records)
}

pub(super) fn save(directory: &Path, record: &Record) -> io::Result<()> {
    let json = serde_json::to_vec(&stored(record)).map_err(io::Error::other)?;
    // A reboot takes namespaces and records alike, so that a rename without a sync is enough.
    let path = path(directory, &record.attachment.sandbox);
    let temporary = path.with_extension("new");
    fs::write(&temporary, json)?;
    fs::rename(&temporary, &path)
}

pub(super) fn remove(directory: &Path, sandbox: &str) -> io::Result<()> {
    match fs::remove_file(path(directory, sandbox)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn path(directory: &Path, sandbox: &str) -> PathBuf {
    directory.join(format!("{sandbox}.json"))
}

fn stored(record: &Record) -> Stored {
    let Record { attachment, addresses } = record;
    Stored {
        sandbox: attachment.sandbox.clone(),
        pod_namespace: attachment.pod.namespace.clone(),
        pod_name: attachment.pod.name.clone(),
        namespace: attachment.namespace.clone(),
        addresses: addresses.clone(),
        host_ports: attachment.host_ports.iter().map(stored_port).collect(),
        traits: attachment.traits.clone(),
        bandwidth: attachment.bandwidth,
    }
}

fn stored_port(port: &HostPort) -> StoredPort {
    StoredPort {
        protocol: port.protocol.as_str().to_owned(),
        host_address: port.host_address,
        host_port: port.host_port,
        container_port: port.container_port,
    }
}

fn parse(json: &[u8]) -> Result<Record, String> {
    let stored: Stored = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let host_ports = stored.host_ports.into_iter().map(parse_port).collect::<Result<_, _>>()?;
    let attachment = Attachment {
        sandbox: stored.sandbox,
        pod: ObjectKey { namespace: stored.pod_namespace, name: stored.pod_name },
        namespace: stored.namespace,
        host_ports,
        traits: stored.traits,
        bandwidth: stored.bandwidth,
    };
    Ok(Record { attachment, addresses: stored.addresses })
}

fn parse_port(port: StoredPort) -> Result<HostPort, String> {
    let protocol = Protocol::parse(&port.protocol)
        .ok_or_else(|| format!("{:?} is not a protocol", port.protocol))?;
    Ok(HostPort {
        protocol,
        host_address: port.host_address,
        host_port: port.host_port,
        container_port: port.container_port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NamedPort;

    fn record() -> Record {
        let attachment = Attachment {
            sandbox: "abc".to_owned(),
            pod: ObjectKey::namespaced("default", "web"),
            namespace: "/run/kinglet/netns/abc".into(),
            host_ports: vec![HostPort {
                protocol: Protocol::Udp,
                host_address: None,
                host_port: 53,
                container_port: 5353,
            }],
            traits: PodTraits {
                uid: "u1".to_owned(),
                labels: [("app".to_owned(), "web".to_owned())].into(),
                ports: vec![NamedPort {
                    name: "dns".to_owned(),
                    protocol: Protocol::Udp,
                    number: 5353,
                }],
            },
            bandwidth: Bandwidth { ingress: Some(1_000_000), egress: None },
        };
        Record { attachment, addresses: vec!["10.42.0.2".parse().unwrap()] }
    }

    #[test]
    fn a_new_process_finds_what_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), &record()).unwrap();
        let found = load(directory.path()).unwrap();
        assert_eq!(found, BTreeMap::from([("abc".to_owned(), record())]));
        remove(directory.path(), "abc").unwrap();
        remove(directory.path(), "abc").unwrap();
        assert!(load(directory.path()).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_record_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("abc.json"), b"{").unwrap();
        let error = load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("abc.json"), "{error}");
    }
}
