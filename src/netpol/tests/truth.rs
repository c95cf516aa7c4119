//! Truth tables: who reaches whom. The cases are those of upstream's suite (network_policy.go,
//! v1.35), and some that it does not have.

use super::super::model::Family;
use super::super::view::PodView;
use super::{
    NAMESPACES, PODS, Service, TCP_80, add_policy, address, attach, cluster, model, passes,
    with_policies,
};
use crate::network::Protocol;
use serde_json::{Value, json};
use std::slice;
use std::sync::Arc;

const TCP_81: Service = (Protocol::Tcp, 81);
const UDP_80: Service = (Protocol::Udp, 80);
const SCTP_80: Service = (Protocol::Sctp, 80);

/// Everything is open but what `exceptions` say, the last one that fits: `-y/*>x/a` closes, `+`
/// opens. A pod always reaches itself.
#[track_caller]
fn check(policies: &[Value], service: Service, exceptions: &[&str]) {
    check_world(&with_policies(policies), service, exceptions);
}

#[track_caller]
fn check_world(world: &super::World, service: Service, exceptions: &[&str]) {
    let model = model(world);
    let names: Vec<_> =
        NAMESPACES.iter().flat_map(|one| PODS.map(|pod| format!("{one}/{pod}"))).collect();
    for family in Family::ALL {
        for client in &names {
            for server in &names {
                let ends = (address(client, family), address(server, family));
                let actual = passes(&model, ends.0, ends.1, service);
                let fitting = exceptions.iter().rev().find(|one| fits(one, client, server));
                let expected = client == server || fitting.is_none_or(|one| one.starts_with('+'));
                assert_eq!(actual, expected, "{client} > {server}, {family:?}");
            }
        }
    }
}

fn fits(exception: &str, client: &str, server: &str) -> bool {
    let (clients, servers) = exception[1..].split_once('>').unwrap();
    let one = |pattern: &str, pod: &str| {
        let (pattern, pod) = (pattern.split_once('/').unwrap(), pod.split_once('/').unwrap());
        let part = |pattern: &str, part: &str| pattern == "*" || pattern == part;
        part(pattern.0, pod.0) && part(pattern.1, pod.1)
    };
    one(clients, client) && one(servers, server)
}

fn pod(name: &str) -> Value {
    json!({"matchLabels": {"pod": name}})
}

fn ns(name: &str) -> Value {
    json!({"matchLabels": {"ns": name}})
}

/// A policy for ingress to pods `a`.
fn to_a(rules: &Value) -> Value {
    json!({"podSelector": pod("a"), "policyTypes": ["Ingress"], "ingress": rules})
}

/// A policy for egress of pods `a`.
fn from_a(rules: &Value) -> Value {
    json!({"podSelector": pod("a"), "policyTypes": ["Egress"], "egress": rules})
}

#[test]
fn without_policies_everything_passes() {
    check(&[], TCP_80, &[]);
    assert!(model(&cluster()).is_empty());
}

#[test]
fn default_deny() {
    let ingress = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    check(slice::from_ref(&ingress), TCP_80, &["-*/*>x/*"]);
    let egress = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    check(slice::from_ref(&egress), TCP_80, &["-x/*>*/*"]);
    check(&[ingress, egress], TCP_80, &["-*/*>x/*", "-x/*>*/*"]);
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    check(&[both], SCTP_80, &["-*/*>x/*", "-x/*>*/*"]);
}

#[test]
fn pods_of_the_own_namespace_by_their_labels() {
    let from_b = to_a(&json!([{"from": [{"podSelector": pod("b")}]}]));
    check(&[from_b], TCP_80, &["-*/*>x/a", "+x/b>x/a"]);
    let expression =
        json!({"matchExpressions": [{"key": "pod", "operator": "In", "values": ["b", "c"]}]});
    let policy = to_a(&json!([{"from": [{"podSelector": expression}]}]));
    check(&[policy], TCP_80, &["-*/*>x/a", "+x/b>x/a", "+x/c>x/a"]);
}

#[test]
fn namespaces_by_their_labels() {
    let from_y = to_a(&json!([{"from": [{"namespaceSelector": ns("y")}]}]));
    check(&[from_y], TCP_80, &["-*/*>x/a", "+y/*>x/a"]);
    let everywhere = to_a(&json!([{"from": [{"namespaceSelector": {}}]}]));
    check(&[everywhere], TCP_80, &[]);
    let not_own =
        json!({"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]});
    let policy = to_a(&json!([{"from": [{"namespaceSelector": not_own}]}]));
    check(&[policy], TCP_80, &["-x/*>x/a"]);
}

#[test]
fn namespaces_or_pods_and_namespaces_with_pods() {
    let either = json!([{"from": [{"namespaceSelector": ns("y")}, {"podSelector": pod("b")}]}]);
    check(&[to_a(&either)], TCP_80, &["-*/*>x/a", "+y/*>x/a", "+x/b>x/a"]);
    let both = json!([{"from": [{"namespaceSelector": ns("y"), "podSelector": pod("b")}]}]);
    check(&[to_a(&both)], TCP_80, &["-*/*>x/a", "+y/b>x/a"]);
    let two_rules = json!([
        {"from": [{"namespaceSelector": ns("y"), "podSelector": pod("b")}]},
        {"from": [{"namespaceSelector": ns("z"), "podSelector": pod("c")}]},
    ]);
    check(&[to_a(&two_rules)], TCP_80, &["-*/*>x/a", "+y/b>x/a", "+z/c>x/a"]);
}

#[test]
fn ports_and_protocols() {
    let port_81 = to_a(&json!([{"ports": [{"port": 81}]}]));
    check(slice::from_ref(&port_81), TCP_80, &["-*/*>x/a"]);
    check(slice::from_ref(&port_81), TCP_81, &[]);
    check(&[port_81], (Protocol::Udp, 81), &["-*/*>x/a"]);
    let from_y = json!([{"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": 81}]}]);
    check(&[to_a(&from_y)], TCP_81, &["-*/*>x/a", "+y/*>x/a"]);
    check(&[to_a(&from_y)], TCP_80, &["-*/*>x/a"]);
    let all_of_udp = to_a(&json!([{"ports": [{"protocol": "UDP"}]}]));
    check(slice::from_ref(&all_of_udp), UDP_80, &[]);
    check(slice::from_ref(&all_of_udp), SCTP_80, &["-*/*>x/a"]);
    check(&[all_of_udp], TCP_80, &["-*/*>x/a"]);
    let range = to_a(&json!([{"ports": [{"port": 81, "endPort": 90}]}]));
    check(slice::from_ref(&range), TCP_80, &["-*/*>x/a"]);
    check(&[range], TCP_81, &[]);
}

#[test]
fn sctp_is_not_tcp() {
    let sctp = to_a(&json!([{"ports": [{"protocol": "SCTP", "port": 80}]}]));
    check(slice::from_ref(&sctp), SCTP_80, &[]);
    check(slice::from_ref(&sctp), TCP_80, &["-*/*>x/a"]);
    check(&[sctp], TCP_81, &["-*/*>x/a"]);
}

#[test]
fn ports_by_their_names() {
    let named = to_a(&json!([{"ports": [{"port": "serve-81-tcp"}]}]));
    check(slice::from_ref(&named), TCP_81, &[]);
    check(&[named], TCP_80, &["-*/*>x/a"]);
    let from_x =
        json!([{"from": [{"namespaceSelector": ns("x")}], "ports": [{"port": "serve-80-tcp"}]}]);
    check(&[to_a(&from_x)], TCP_80, &["-y/*>x/a", "-z/*>x/a"]);
    let egress = from_a(&json!([{"ports": [{"port": "serve-80-tcp"}]}]));
    check(slice::from_ref(&egress), TCP_80, &[]);
    check(&[egress], TCP_81, &["-x/a>*/*"]);
    let to_y =
        json!([{"to": [{"namespaceSelector": ns("y")}], "ports": [{"port": "serve-80-tcp"}]}]);
    check(&[from_a(&to_y)], TCP_80, &["-x/a>*/*", "+x/a>y/*"]);
    let wrong_protocol = to_a(&json!([{"ports": [{"port": "serve-81-tcp", "protocol": "UDP"}]}]));
    check(&[wrong_protocol], TCP_81, &["-*/*>x/a"]);
    let nobody_has_it = to_a(&json!([{"ports": [{"port": "metrics"}]}]));
    check(&[nobody_has_it], TCP_80, &["-*/*>x/a"]);
}

#[test]
fn a_name_is_another_number_in_each_pod() {
    let mut world =
        with_policies(&[json!({"podSelector": {}, "ingress": [{"ports": [{"port": "web"}]}]})]);
    for (pod, number) in [("x/a", 80), ("x/b", 81)] {
        let port = &mut world.attached.get_mut(pod).unwrap().traits.ports[0];
        (port.name, port.number) = ("web".to_owned(), number);
    }
    check_world(&world, TCP_80, &["-*/*>x/*", "+*/*>x/a"]);
    check_world(&world, TCP_81, &["-*/*>x/*", "+*/*>x/b"]);
}

#[test]
fn policies_are_a_union() {
    let from_y =
        to_a(&json!([{"from": [{"namespaceSelector": ns("y")}], "ports": [{"port": 80}]}]));
    let port_81 = to_a(&json!([{"ports": [{"port": 81}]}]));
    let both = [from_y, port_81];
    check(&both, TCP_80, &["-*/*>x/a", "+y/*>x/a"]);
    check(&both, TCP_81, &[]);
    let nothing = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let everything = json!({"podSelector": {}, "ingress": [{}]});
    check(&[nothing, everything], TCP_80, &[]);
    let none = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let all = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    check(&[none, all], TCP_80, &[]);
}

#[test]
fn a_connection_needs_both_ends() {
    let server_allows = json!({"namespace": "y", "podSelector": pod("a"),
        "ingress": [{"from": [{"namespaceSelector": ns("x"), "podSelector": pod("a")}]}]});
    let client_denies = from_a(&json!([{"to": [{"namespaceSelector": ns("z")}]}]));
    check(&[server_allows, client_denies], TCP_80, &["-*/*>y/a", "-x/a>*/*", "+x/a>z/*"]);
}

#[test]
fn the_directions_are_independent() {
    let policy = json!({"podSelector": pod("a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": pod("b")}]}], "egress": [{}]});
    check(&[policy], TCP_80, &["-*/*>x/a", "+x/b>x/a"]);
    let policy = json!({"podSelector": pod("a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}], "egress": [{"to": [{"podSelector": pod("b")}]}]});
    check(&[policy], TCP_80, &["-x/a>*/*", "+x/a>x/b"]);
}

#[test]
fn blocks_of_addresses() {
    let block = |cidr: &str, except: &[&str]| json!([{"to": [{"ipBlock": {"cidr": cidr, "except": except}}]}]);
    let both = [from_a(&block("10.42.0.21/32", &[])), from_a(&block("fd42::21/128", &[]))];
    check(&both, TCP_80, &["-x/a>*/*", "+x/a>y/a"]);
    let excepted = [
        from_a(&block("10.42.0.0/24", &["10.42.0.21/32"])),
        from_a(&block("fd42::/64", &["fd42::21/128"])),
    ];
    check(&excepted, TCP_80, &["-x/a>y/a"]);
    let again = [excepted, both].concat();
    check(&again, TCP_80, &[]);
    let named = json!([{"to": [{"ipBlock": {"cidr": "10.42.0.0/24"}}, {"ipBlock": {"cidr": "fd42::/64"}}],
        "ports": [{"port": "serve-80-tcp"}]}]);
    check(&[from_a(&named)], TCP_80, &[]);
    check(&[from_a(&named)], TCP_81, &["-x/a>*/*"]);
}

#[test]
fn the_world_outside_is_everybody_or_a_block() {
    let outside = "192.0.2.7".parse().unwrap();
    let x_a = address("x/a", Family::Ipv4);
    for (policy, reaches, is_reached) in [
        (json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), false, false),
        (to_a(&json!([{"from": [{"namespaceSelector": {}}]}])), true, false),
        (to_a(&json!([{}])), true, true),
        (to_a(&json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])), true, true),
        (
            to_a(
                &json!([{"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}}]}]),
            ),
            true,
            false,
        ),
        (from_a(&json!([{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}])), true, true),
        (from_a(&json!([{"to": [{"podSelector": {}}]}])), false, true),
    ] {
        let model = model(&with_policies(std::slice::from_ref(&policy)));
        assert_eq!(passes(&model, x_a, outside, TCP_80), reaches, "{policy}");
        assert_eq!(passes(&model, outside, x_a, TCP_80), is_reached, "{policy}");
    }
}

#[test]
fn labels_change() {
    let from_b = to_a(&json!([{"from": [{"podSelector": pod("b")}]}]));
    let mut world = with_policies(&[from_b]);
    let known = |uid: &str, label: &str| -> PodView {
        let metadata = json!({"namespace": "x", "name": "c", "uid": uid, "labels": {"pod": label}});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    };
    let changed = known("x/c", "b");
    world.pods.insert(changed.key.clone(), Arc::new(changed));
    check_world(&world, TCP_80, &["-*/*>x/a", "+x/b>x/a", "+x/c>x/a"]);
    // Another pod of that name, which is gone or still to come.
    let other = known("other", "b");
    world.pods.insert(other.key.clone(), Arc::new(other));
    check_world(&world, TCP_80, &["-*/*>x/a", "+x/b>x/a"]);
    let from_y = to_a(&json!([{"from": [{"namespaceSelector": ns("y")}]}]));
    let mut world = with_policies(&[from_y]);
    world.namespaces.insert("z".to_owned(), [("ns".to_owned(), "y".to_owned())].into());
    check_world(&world, TCP_80, &["-*/*>x/a", "+y/*>x/a", "+z/*>x/a"]);
}

#[test]
fn pods_of_other_nodes_are_peers_and_no_subjects() {
    let from_b = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": pod("b")}]}]});
    let mut world = with_policies(&[from_b]);
    let elsewhere = |name: &str, address: &str| -> PodView {
        let metadata = json!({"namespace": "x", "name": name, "labels": {"pod": "b"}});
        let status = json!({"podIPs": [{"ip": address}]});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    };
    for pod in [elsewhere("far", "10.42.1.2"), elsewhere("stale", "10.42.0.13")] {
        world.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    let (far, x_a) = ("10.42.1.2".parse().unwrap(), address("x/a", Family::Ipv4));
    let outcome = model(&world);
    assert!(passes(&outcome, far, x_a, TCP_80));
    assert!(passes(&outcome, x_a, far, TCP_80));
    assert!(!passes(&outcome, "10.42.1.3".parse().unwrap(), x_a, TCP_80));
    // Whose address is in a status that is not right any more: here the network knows better.
    assert!(!passes(&outcome, address("x/c", Family::Ipv4), x_a, TCP_80));
}

#[test]
fn nothing_passes_from_or_to_a_pod_that_is_not_known() {
    let mut world = with_policies(&[json!({"podSelector": {}, "policyTypes": ["Ingress"]})]);
    let (new, y_a) = ("10.42.0.99".parse().unwrap(), address("y/a", Family::Ipv4));
    let before = model(&world);
    assert!(!passes(&before, new, y_a, TCP_80));
    assert!(!passes(&before, y_a, new, TCP_80));
    attach(&mut world, "y", "new");
    let new = address("y/new", Family::Ipv4);
    let after = model(&world);
    assert!(passes(&after, new, y_a, TCP_80));
}

#[test]
fn policies_of_namespaces_without_pods_here_cost_nothing() {
    let mut world = cluster();
    add_policy(&mut world, "p", &json!({"namespace": "elsewhere", "podSelector": {}}));
    assert!(model(&world).is_empty());
}
