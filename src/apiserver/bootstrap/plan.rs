//! The decision about what a cluster always has: how it is to be, and what is to be done about what
//! is found instead.

use super::super::allocate::first_address;
use super::super::config::Config;
use serde_json::{Value, json};

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Name, value and description, as upstream has them (pkg/apis/scheduling/v1/helpers.go, v1.35).
const PRIORITY_CLASSES: &[(&str, i32, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another \
         node if necessary.",
    ),
];

/// An object that a cluster always has, or never.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespace: Option<&'static str>,
    pub(super) name: &'static str,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// It is there. What it has become is its users' business.
    Present(Value),
    /// It has the labels of this object, and exactly these members of it.
    Contents(Value, &'static [&'static str]),
    /// It is a Service without a selector that has the port of this one.
    Service(Value),
    /// It is a range of addresses, to which one of the other family may come. Another range is its
    /// users' business, who have addresses of it.
    Range(Value),
    Absent,
}

/// What is done about a fixture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create(Value),
    /// At the `resourceVersion` that the object has.
    Update(Value),
    Delete,
}

/// Everything that a cluster with these settings always has, in the order in which it is made.
pub(super) fn fixtures(config: &Config) -> Vec<Fixture> {
    let cluster = |group, plural, name, wanted| Fixture {
        group,
        plural,
        namespace: None,
        name,
        wanted: Wanted::Present(wanted),
    };
    let mut all = Vec::new();
    for name in NAMESPACES {
        all.push(cluster("", "namespaces", *name, json!({"metadata": {"name": name}})));
    }
    for (name, value, description) in PRIORITY_CLASSES {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        all.push(cluster("scheduling.k8s.io", "priorityclasses", *name, class));
    }
    // Before the first Service, which has an address of it.
    let cidrs: Vec<_> = config.service_cidrs.iter().map(ToString::to_string).collect();
    all.push(Fixture {
        group: "networking.k8s.io",
        plural: "servicecidrs",
        namespace: None,
        name: "kubernetes",
        wanted: Wanted::Range(json!({
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs},
        })),
    });
    let kubernetes = |group, plural, wanted| Fixture {
        group,
        plural,
        namespace: Some("default"),
        name: "kubernetes",
        wanted,
    };
    all.push(kubernetes("", "services", Wanted::Service(service(config))));
    all.push(kubernetes("", "endpoints", endpoints(config)));
    all.push(kubernetes("discovery.k8s.io", "endpointslices", slice(config)));
    all
}

/// The Service `default/kubernetes` has no selector: its endpoints are this server's.
fn service(config: &Config) -> Value {
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": config.service_cidrs.first().map(first_address),
            "ports": [{
                "name": "https", "protocol": "TCP", "port": 443, "targetPort": config.https_port,
            }],
        },
    })
}

/// Nobody but this machine could use such an address, and the API refuses such endpoints.
fn is_reachable(config: &Config) -> bool {
    !config.advertise_address.is_loopback() && !config.advertise_address.is_unspecified()
}

fn endpoints(config: &Config) -> Wanted {
    if !is_reachable(config) {
        return Wanted::Absent;
    }
    let object = json!({
        "metadata": {
            "name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": config.advertise_address}],
            "ports": [{"name": "https", "port": config.https_port, "protocol": "TCP"}],
        }],
    });
    Wanted::Contents(object, &["subsets"])
}

fn slice(config: &Config) -> Wanted {
    if !is_reachable(config) {
        return Wanted::Absent;
    }
    let address = config.advertise_address;
    let object = json!({
        "metadata": {
            "name": "kubernetes",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": config.https_port, "protocol": "TCP"}],
    });
    Wanted::Contents(object, &["addressType", "endpoints", "ports"])
}

/// What makes `found` what is wanted. Nothing where it is.
pub(super) fn mend(fixture: &Fixture, found: Option<&Value>) -> Vec<Step> {
    match (&fixture.wanted, found) {
        (Wanted::Absent, None) => Vec::new(),
        (Wanted::Absent, Some(_)) => vec![Step::Delete],
        (
            Wanted::Present(object)
            | Wanted::Contents(object, _)
            | Wanted::Service(object)
            | Wanted::Range(object),
            None,
        ) => vec![Step::Create(object.clone())],
        (Wanted::Present(_), Some(_)) => Vec::new(),
        (Wanted::Contents(object, members), Some(found)) => mend_contents(object, members, found),
        (Wanted::Service(object), Some(found)) => mend_service(object, found),
        (Wanted::Range(object), Some(found)) => mend_range(object, found),
    }
}

/// Upstream pkg/controlplane/controller/defaultservicecidr (v1.35).
fn mend_range(wanted: &Value, found: &Value) -> Vec<Step> {
    let (new, old) = (&wanted["spec"]["cidrs"], &found["spec"]["cidrs"]);
    let count = |cidrs: &Value| cidrs.as_array().map_or(0, Vec::len);
    if (count(old), count(new)) != (1, 2) || old[0] != new[0] {
        return Vec::new();
    }
    let mut mended = found.clone();
    mended["spec"]["cidrs"] = new.clone();
    vec![Step::Update(mended)]
}

fn mend_contents(wanted: &Value, members: &[&str], found: &Value) -> Vec<Step> {
    // The family of a slice's addresses can never change.
    if wanted["addressType"] != found["addressType"] {
        return vec![Step::Delete, Step::Create(wanted.clone())];
    }
    let mut mended = found.clone();
    for member in members {
        mended[*member] = wanted[*member].clone();
    }
    for (name, value) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
        mended["metadata"]["labels"][name] = value.clone();
    }
    if mended == *found { Vec::new() } else { vec![Step::Update(mended)] }
}

/// Users may add ports, labels or a type of their own; they may not lead the Service elsewhere.
fn mend_service(wanted: &Value, found: &Value) -> Vec<Step> {
    let (spec, port) = (&found["spec"], &wanted["spec"]["ports"][0]);
    let is_ours = |other: &Value| {
        ["port", "protocol", "targetPort"].iter().all(|member| other[*member] == port[*member])
    };
    let has_port = spec["ports"].as_array().into_iter().flatten().any(is_ours);
    let has_selector = spec["selector"].as_object().is_some_and(|labels| !labels.is_empty());
    let is_name = spec["type"] == "ExternalName";
    if has_port && !has_selector && !is_name {
        return Vec::new();
    }
    let mut mended = found.clone();
    let spec = &mut mended["spec"];
    spec["ports"] = wanted["spec"]["ports"].clone();
    spec["selector"] = Value::Null;
    if is_name {
        spec["type"] = wanted["spec"]["type"].clone();
        spec["clusterIP"] = wanted["spec"]["clusterIP"].clone();
        spec["externalName"] = Value::Null;
    }
    vec![Step::Update(mended)]
}

#[cfg(test)]
mod tests {
    use super::super::super::tokens::TokenSettings;
    use super::*;
    use crate::stdx::{Clock, Entropy};
    use std::net::IpAddr;

    fn config(address: &str) -> Config {
        Config {
            clock: Clock::system(),
            entropy: Entropy::system(),
            advertise_address: address.parse::<IpAddr>().unwrap(),
            https_port: 6443,
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: 30_000..=32_767,
            components: vec!["controller-manager", "scheduler"],
            event_ttl: Config::EVENT_TTL,
            tokens: TokenSettings::of_cluster("cluster.local"),
            connections_max: 100,
        }
    }

    fn fixture(address: &str, plural: &str) -> Fixture {
        fixtures(&config(address)).into_iter().find(|it| it.plural == plural).unwrap()
    }

    /// `found` is what is wanted at 192.0.2.1, with a change to it.
    fn check(address: &str, plural: &str, change: impl Fn(&mut Value), expected: &str) {
        let made = mend(&fixture("192.0.2.1", plural), None);
        let [Step::Create(found)] = &made[..] else { panic!("{made:?}") };
        let mut found = found.clone();
        change(&mut found);
        let steps = mend(&fixture(address, plural), Some(&found));
        let shown: Vec<_> = steps.iter().map(show).collect();
        assert_eq!(shown.join(" "), expected, "{found}");
        // What has been mended needs no more.
        if let [Step::Update(mended)] = &steps[..] {
            assert_eq!(mend(&fixture(address, plural), Some(mended)), []);
        }
    }

    fn show(step: &Step) -> &'static str {
        match step {
            Step::Create(_) => "create",
            Step::Update(_) => "update",
            Step::Delete => "delete",
        }
    }

    const HERE: &str = "192.0.2.1";

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        for plural in ["namespaces", "priorityclasses", "services", "endpoints", "endpointslices"] {
            check(HERE, plural, |_| {}, "");
            let annotate = |found: &mut Value| found["metadata"]["annotations"] = json!({"a": "b"});
            check(HERE, plural, annotate, "");
        }
    }

    #[test]
    fn endpoints_follow_the_server() {
        check("192.0.2.2", "endpoints", |_| {}, "update");
        check("192.0.2.2", "endpointslices", |_| {}, "update");
        check("2001:db8::1", "endpointslices", |_| {}, "delete create");
        check("127.0.0.1", "endpoints", |_| {}, "delete");
        check("127.0.0.1", "endpointslices", |_| {}, "delete");
        assert_eq!(mend(&fixture("127.0.0.1", "endpoints"), None), []);
    }

    #[test]
    fn damage_is_undone() {
        let strange = json!([{"ip": "192.0.2.9"}]);
        let add = |found: &mut Value| found["subsets"][0]["notReadyAddresses"] = strange.clone();
        check(HERE, "endpoints", add, "update");
        let unlabel = |found: &mut Value| found["metadata"]["labels"] = json!({"a": "b"});
        check(HERE, "endpoints", unlabel, "update");
        check(HERE, "endpointslices", |found| found["endpoints"] = json!([]), "update");
        check(HERE, "endpointslices", |found| found["ports"][0]["port"] = json!(1), "update");
        check(HERE, "services", |found| found["spec"]["ports"][0]["port"] = json!(1), "update");
        check(HERE, "services", |found| found["spec"]["selector"] = json!({"a": "b"}), "update");
        check(HERE, "services", |found| found["spec"] = json!({"type": "ExternalName"}), "update");
    }

    #[test]
    fn a_range_of_the_other_family_may_come() {
        let only = |cidrs: Value| move |found: &mut Value| found["spec"]["cidrs"] = cidrs.clone();
        check(HERE, "servicecidrs", |_| {}, "");
        check(HERE, "servicecidrs", only(json!(["10.96.0.0/16"])), "");
        let mut dual = config(HERE);
        dual.service_cidrs.push("fd00::/112".parse().unwrap());
        let fixtures = fixtures(&dual);
        let range = fixtures.iter().find(|it| it.plural == "servicecidrs").unwrap();
        let found = json!({"spec": {"cidrs": ["10.43.0.0/16"]}});
        assert_eq!(mend(range, Some(&found)).len(), 1);
        assert_eq!(mend(range, Some(&json!({"spec": {"cidrs": ["10.96.0.0/16"]}}))), []);
    }

    #[test]
    fn a_service_may_be_widened() {
        let node_port = |found: &mut Value| {
            found["spec"]["type"] = json!("NodePort");
            found["spec"]["ports"][0]["nodePort"] = json!(30_443);
        };
        check(HERE, "services", node_port, "");
    }
}
