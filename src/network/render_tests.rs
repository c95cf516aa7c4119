//! The pod network's rules against golden text: `tests/golden/network`.

use super::records::Record;
use super::render::{Model, TABLE, base, close_ports, open_ports};
use super::{Bandwidth, HostPort, PodTraits, Protocol};
use crate::api::ObjectKey;
use crate::network::Attachment;
use crate::stdx::check_golden;
use crate::sys::nft::Batch;

/// `UPDATE_GOLDEN=1` rewrites the file.
#[track_caller]
fn check(name: &str, batch: &Batch) {
    check_golden(&format!("network/{name}"), &batch.to_lines());
}

fn record(host_address: Option<&str>) -> Record {
    let port = HostPort {
        protocol: Protocol::Tcp,
        host_address: host_address.map(|address| address.parse().unwrap()),
        host_port: 8080,
        container_port: 80,
    };
    let attachment = Attachment {
        sandbox: "abc".to_owned(),
        pod: ObjectKey::namespaced("default", "web"),
        namespace: "/run/kinglet/netns/abc".into(),
        host_ports: vec![port],
        traits: PodTraits::default(),
        bandwidth: Bandwidth::default(),
    };
    let addresses = vec!["10.42.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
    Record { attachment, addresses }
}

#[test]
fn base_rules() {
    let pods = ["10.42.0.0/24".parse().unwrap(), "fd00:0:0:1::/64".parse().unwrap()];
    let cluster = ["10.42.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()];
    let model = Model { bridge: "kinglet0", pod_cidrs: &pods, cluster_cidrs: &cluster };
    check("base.txt", &base(&model));
}

#[test]
fn host_ports_come_and_go() {
    for (name, host) in [
        ("host_port", None),
        ("host_port_at", Some("192.0.2.1")),
        ("host_port_at6", Some("2001:db8::1")),
    ] {
        let mut batch = Batch::new(TABLE);
        open_ports(&mut batch, &record(host));
        check(&format!("{name}_open.txt"), &batch);
        let mut batch = Batch::new(TABLE);
        close_ports(&mut batch, &record(host));
        check(&format!("{name}_close.txt"), &batch);
    }
}
