//! A pod network made by plugins: Debian's containernetworking-plugins.

use crate::{CONNECT_DEADLINE, at, listen, on_a_node, printed};
use kinglet::api::ObjectKey;
use kinglet::network::{Attachment, Bandwidth, CniConfig, CniNetwork, PodNetwork as _, PodTraits};
use kinglet::sys::namespace::{self, Kind};
use serde_json::json;
use std::fs;
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};

const PLUGINS: &str = "/usr/lib/cni";

/// A network of two plugins, the second of which adds nothing.
fn configure(directory: &Path) {
    let addresses = directory.join("addresses");
    let ipam =
        json!({"type": "host-local", "dataDir": addresses, "routes": [{"dst": "0.0.0.0/0"}]});
    let list = json!({"name": "test", "cniVersion": "1.0.0", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam,
            "capabilities": {"ipRanges": true}},
        {"type": "tuning", "mtu": 1400},
    ]});
    fs::create_dir_all(directory.join("net.d")).unwrap();
    fs::write(directory.join("net.d/10-test.conflist"), list.to_string()).unwrap();
}

fn open(directory: &Path) -> CniNetwork {
    assert!(
        Path::new(PLUGINS).join("bridge").exists(),
        "these tests need {PLUGINS}: apt-get install containernetworking-plugins"
    );
    let config = CniConfig {
        config_directory: directory.join("net.d"),
        plugin_directories: vec![directory.join("none"), PathBuf::from(PLUGINS)],
        state_directory: directory.join("records"),
    };
    CniNetwork::open(config).unwrap()
}

fn attachment(directory: &Path, name: &str) -> Attachment {
    let place = directory.join(name);
    if !place.exists() {
        namespace::make_pinned(&[(Kind::Network, place.clone())], || Ok(())).unwrap();
    }
    Attachment {
        sandbox: format!("{name}0123456789"),
        pod: ObjectKey::namespaced("default", name),
        namespace: place,
        host_ports: vec![],
        traits: PodTraits::default(),
        bandwidth: Bandwidth::default(),
    }
}

#[test]
fn plugins_attach_and_detach() {
    on_a_node(async |directory| {
        let network = open(&directory);
        let ranges = vec!["10.42.0.0/24".parse().unwrap()];
        let error = network.configure(ranges.clone()).await.unwrap_err().to_string();
        assert!(error.contains("net.d can be used"), "{error}");
        configure(&directory);
        network.configure(ranges.clone()).await.unwrap();
        let addresses = network.attach(attachment(&directory, "a")).await.unwrap();
        assert_eq!(addresses, ["10.42.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(network.attach(attachment(&directory, "a")).await.unwrap(), addresses);
        let listener = namespace::run_in_network(&directory.join("a"), || listen(80)).unwrap();
        TcpStream::connect_timeout(&at(addresses[0], 80), CONNECT_DEADLINE).unwrap();
        drop(listener);
        // Another process finds it, and takes it away with what it was made with.
        drop(network);
        fs::remove_file(directory.join("net.d/10-test.conflist")).unwrap();
        let network = open(&directory);
        assert_eq!(network.attached()[0].addresses, addresses);
        network.retain(vec![]).await.unwrap();
        assert!(network.attached().is_empty());
        assert!(!printed("ip", &["-o", "link"]).await.contains("veth"));
        assert_eq!(fs::read_dir(directory.join("records")).unwrap().count(), 0);
        assert!(!directory.join("addresses/test/10.42.0.2").exists());
    });
}

#[test]
fn what_plugins_refuse_is_told_and_undone() {
    on_a_node(async |directory| {
        configure(&directory);
        let network = open(&directory);
        // One address, which the bridge takes.
        network.configure(vec!["10.42.0.0/30".parse().unwrap()]).await.unwrap();
        network.attach(attachment(&directory, "a")).await.unwrap();
        let error = network.attach(attachment(&directory, "b")).await.unwrap_err();
        let told = kinglet::stdx::chain(&error).to_string();
        assert!(
            told.contains("plugin bridge refused") && told.contains("no IP addresses"),
            "{told}"
        );
        assert_eq!(network.attached().len(), 1);
        network.detach("a0123456789").await.unwrap();
        network.attach(attachment(&directory, "b")).await.unwrap();
        network.remove().await.unwrap();
        assert!(!printed("ip", &["-o", "link"]).await.contains("veth"));
    });
}

#[test]
fn a_missing_plugin_is_named() {
    on_a_node(async |directory| {
        fs::create_dir_all(directory.join("net.d")).unwrap();
        let config = json!({"name": "x", "cniVersion": "1.0.0", "type": "does-not-exist"});
        fs::write(directory.join("net.d/x.conf"), config.to_string()).unwrap();
        let network = open(&directory);
        network.configure(vec!["10.42.0.0/24".parse().unwrap()]).await.unwrap();
        let error = network.attach(attachment(&directory, "a")).await.unwrap_err();
        let told = kinglet::stdx::chain(&error).to_string();
        assert!(told.contains("plugin does-not-exist is in none of"), "{told}");
    });
}
