//! What this node is and has, as plain data, and where that is read from.

use crate::api::pod::Amounts;
use crate::kubelet::eviction::plan::{Pressure, Threshold};
use crate::runtime::{ImageStatus, Runtime};
use crate::stdx::blocking;
use crate::sys::host::HostFacts;
use k8s_openapi::api::core::v1::Taint;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// What this node was told to be.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub name: String,
    /// The primary one first.
    pub addresses: Vec<IpAddr>,
    /// By which it is reached from elsewhere.
    pub external_addresses: Vec<IpAddr>,
    pub cloud: Cloud,
    pub labels: BTreeMap<String, String>,
    /// Stands for the key that guards the name, where there is one.
    pub key: Option<String>,
    /// By what WireGuard knows the node, where nodes reach each other by that.
    pub wireguard_key: Option<String>,
    /// Given when the node registers; changed by others from then on.
    pub taints: Vec<Taint>,
    pub pods_max: u32,
    /// What is not for pods: the node's own processes need it.
    pub reserved: Amounts,
    /// Of these, pods go before the last is used: it cannot be promised to them either.
    pub kept_free: Vec<Threshold>,
    pub kubelet_port: u16,
}

/// Who knows what machine the node is (upstream `--cloud-provider` and `--provider-id`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// Nobody but the node itself.
    #[default]
    None,
    /// A cloud controller manager: it says where the node is and what its addresses are, and until it
    /// has, no pods come but those that tolerate that.
    External { provider_id: Option<String> },
}

/// How a part of the node is that pods need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartState {
    Ready,
    NotReady(String),
}

/// Room on the file system of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) total_bytes: u64,
}

/// Everything that the Node object is made of.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) host: HostFacts,
    /// What the node is short of.
    pub(super) pressure: BTreeSet<Pressure>,
    pub(super) storage: Storage,
    /// By size (`2Mi`), in bytes.
    pub(super) huge_pages: Vec<(String, u64)>,
    pub(super) images: Vec<ImageStatus>,
    pub(super) runtime: PartState,
    pub(super) network: PartState,
    /// The machine goes down.
    pub(super) is_going_down: bool,
}

/// What others know of the node.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) network: PartState,
    pub(super) pressure: BTreeSet<Pressure>,
    pub(super) is_going_down: bool,
}

/// Looks at the node. `data_dir` is on the file system of the pods.
pub(super) async fn observe(
    runtime: &dyn Runtime,
    known: Known,
    data_dir: &Path,
) -> io::Result<Facts> {
    let (images, runtime) = match runtime.images().await {
        Ok(images) => (images, PartState::Ready),
        Err(error) => (Vec::new(), PartState::NotReady(crate::stdx::chain(&error))),
    };
    let data_dir = data_dir.to_owned();
    // A file system may take its time to say how full it is.
    blocking(move || {
        Ok(Facts {
            host: HostFacts::observe()?,
            pressure: known.pressure,
            storage: storage(&data_dir)?,
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            images,
            runtime,
            network: known.network,
            is_going_down: known.is_going_down,
        })
    })
    .await
}

fn storage(directory: &Path) -> io::Result<Storage> {
    let facts = rustix::fs::statvfs(directory).map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
    })?;
    Ok(Storage { total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize) })
}

/// Directories are called `hugepages-2048kB`. A kernel without huge pages has none.
fn huge_pages(directory: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kibibytes: i64 =
                name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            let count: u64 = count.trim().parse().ok()?;
            let size = crate::api::Quantity::binary(kibibytes << 10).to_string();
            Some((size, count.saturating_mul(u64::try_from(kibibytes).ok()? << 10)))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_named_by_their_size() {
        let directory = tempfile::tempdir().unwrap();
        let pages = directory.path().join("hugepages-2048kB");
        fs::create_dir(&pages).unwrap();
        fs::write(pages.join("nr_hugepages"), "3\n").unwrap();
        assert_eq!(huge_pages(directory.path()), [("2Mi".to_owned(), 6 << 20)]);
        assert_eq!(huge_pages(&directory.path().join("none")), []);
    }
}
