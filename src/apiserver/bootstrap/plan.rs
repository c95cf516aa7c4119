//! The decision about what a cluster always has: how it is to be, and what is to be done about what
//! is found instead.

use super::super::allocate::first_address;
use super::super::config::Config;
use super::super::metrics;
use crate::registry::{self, KINDS, Required, WellKnown};
use serde_json::{Value, json};
use std::borrow::Cow;

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
    pub(super) name: Cow<'static, str>,
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
    /// It is a flow schema or priority level, kept as it is here as far as it is required.
    Flow(Value, Required),
    /// It says what this server serves, unless somebody has made it his own by taking away its
    /// label.
    Served(Value),
    Absent,
}

/// The label of an APIService that the server keeps (upstream kube-aggregator's
/// pkg/controllers/autoregister, v1.35).
const KEPT_LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
const KEPT: &str = "onstart";

/// Says whether a flow schema or priority level is kept as it was made.
const FLOW_ANNOTATION: &str = "apf.kubernetes.io/autoupdate-spec";

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
    let cluster = |group, plural, name: &'static str, wanted| Fixture {
        group,
        plural,
        namespace: None,
        name: Cow::Borrowed(name),
        wanted: Wanted::Present(wanted),
    };
    let mut all = Vec::new();
    for name in NAMESPACES {
        all.push(cluster("", "namespaces", name, json!({"metadata": {"name": name}})));
    }
    for (name, value, description) in PRIORITY_CLASSES {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        all.push(cluster("scheduling.k8s.io", "priorityclasses", name, class));
    }
    all.extend(registry::well_known().into_iter().map(flow));
    all.extend(served().into_iter().map(|(group, version)| api_service(&group, &version)));
    // Before the first Service, which has an address of it.
    let cidrs: Vec<_> = config.service_cidrs.iter().map(ToString::to_string).collect();
    all.push(Fixture {
        group: "networking.k8s.io",
        plural: "servicecidrs",
        namespace: None,
        name: Cow::Borrowed("kubernetes"),
        wanted: Wanted::Range(json!({
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs},
        })),
    });
    let kubernetes = |group, plural, wanted| Fixture {
        group,
        plural,
        namespace: Some("default"),
        name: Cow::Borrowed("kubernetes"),
        wanted,
    };
    all.push(kubernetes("", "services", Wanted::Service(service(config))));
    all.push(kubernetes("", "endpoints", endpoints(config)));
    all.push(kubernetes("discovery.k8s.io", "endpointslices", slice(config)));
    all
}

fn flow(known: WellKnown) -> Fixture {
    Fixture {
        group: "flowcontrol.apiserver.k8s.io",
        plural: known.plural,
        namespace: None,
        name: Cow::Borrowed(known.name),
        wanted: Wanted::Flow(known.object, known.required),
    }
}

/// Each group with each of its versions that this server serves itself.
fn served() -> Vec<(String, String)> {
    let mut served: Vec<(String, String)> = Vec::new();
    for kind in KINDS {
        let pair = (kind.facts.group.to_string(), kind.facts.version.to_string());
        if !served.contains(&pair) {
            served.push(pair);
        }
    }
    served.push((metrics::GROUP.to_owned(), metrics::VERSION.to_owned()));
    served
}

fn api_service(group: &str, version: &str) -> Fixture {
    let name = format!("{version}.{group}");
    let priority = registry::priority(group, version);
    let mut spec = json!({
        "version": version, "groupPriorityMinimum": priority.group,
        "versionPriority": priority.version,
    });
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    let wanted = json!({"metadata": {"name": name, "labels": {KEPT_LABEL: KEPT}}, "spec": spec});
    Fixture {
        group: "apiregistration.k8s.io",
        plural: "apiservices",
        namespace: None,
        name: Cow::Owned(name),
        wanted: Wanted::Served(wanted),
    }
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
            | Wanted::Flow(object, _)
            | Wanted::Served(object)
            | Wanted::Range(object),
            None,
        ) => vec![Step::Create(object.clone())],
        (Wanted::Present(_), Some(_)) => Vec::new(),
        (Wanted::Contents(object, members), Some(found)) => mend_contents(object, members, found),
        (Wanted::Service(object), Some(found)) => mend_service(object, found),
        (Wanted::Range(object), Some(found)) => mend_range(object, found),
        (Wanted::Flow(object, required), Some(found)) => mend_flow(object, *required, found),
        (Wanted::Served(object), Some(found)) => mend_served(object, found),
    }
}

/// Upstream `ReviseIfNeeded` (pkg/registry/flowcontrol/ensurer, v1.35): what is suggested is kept as
/// long as its annotation does not say otherwise; without one that can be understood, as long as
/// nobody has changed it.
fn mend_flow(wanted: &Value, required: Required, found: &Value) -> Vec<Step> {
    let annotation = &found["metadata"]["annotations"][FLOW_ANNOTATION];
    let is_kept = required == Required::Mandatory
        || match annotation.as_str() {
            Some("true") => true,
            Some("false") => false,
            _ => found["metadata"]["generation"] == 1,
        };
    let mut mended = found.clone();
    if is_kept {
        let mut spec = wanted["spec"].clone();
        // What the level without limits takes from others is its administrator's business.
        if spec["type"] == "Exempt" && found["spec"]["type"] == "Exempt" {
            spec["exempt"] = found["spec"]["exempt"].clone();
        }
        mended["spec"] = spec;
    }
    mended["metadata"]["annotations"][FLOW_ANNOTATION] = json!(is_kept.to_string());
    if mended == *found { Vec::new() } else { vec![Step::Update(mended)] }
}

fn mend_served(wanted: &Value, found: &Value) -> Vec<Step> {
    let is_kept = found["metadata"]["labels"][KEPT_LABEL] == KEPT;
    if !is_kept || found["spec"] == wanted["spec"] {
        return Vec::new();
    }
    let mut mended = found.clone();
    mended["spec"] = wanted["spec"].clone();
    vec![Step::Update(mended)]
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
        for plural in [
            "namespaces",
            "priorityclasses",
            "services",
            "endpoints",
            "endpointslices",
            "flowschemas",
            "prioritylevelconfigurations",
            "apiservices",
        ] {
            check(HERE, plural, |_| {}, "");
            let annotate = |found: &mut Value| found["metadata"]["annotations"]["a"] = json!("b");
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

    fn named<'a>(all: &'a [Fixture], plural: &str, name: &str) -> &'a Fixture {
        all.iter().find(|it| it.plural == plural && it.name == name).unwrap()
    }

    #[test]
    fn flow_schemas_are_kept_as_far_as_they_are_required() {
        let all = fixtures(&config(HERE));
        for (name, changes, expected) in [
            ("exempt", json!({"spec": {"matchingPrecedence": 2}}), "update"),
            ("exempt", json!({"metadata": {"annotations": {FLOW_ANNOTATION: "false"}}}), "update"),
            ("probes", json!({"spec": {"matchingPrecedence": 3}}), "update"),
            ("probes", json!({"metadata": {"annotations": null, "generation": 1}}), "update"),
            (
                "probes",
                json!({"spec": {"matchingPrecedence": 3},
                    "metadata": {"annotations": {FLOW_ANNOTATION: "false"}}}),
                "",
            ),
        ] {
            let fixture = named(&all, "flowschemas", name);
            let made = mend(fixture, None);
            let [Step::Create(found)] = &made[..] else { panic!("{made:?}") };
            let mut found = found.clone();
            json_patch::merge(&mut found, &changes);
            let steps = mend(fixture, Some(&found));
            let shown: Vec<_> = steps.iter().map(show).collect();
            assert_eq!(shown.join(" "), expected, "{name} {changes}");
        }
        let level = named(&all, "prioritylevelconfigurations", "exempt");
        let made = mend(level, None);
        let [Step::Create(found)] = &made[..] else { panic!("{made:?}") };
        let mut found = found.clone();
        found["spec"]["exempt"]["lendablePercent"] = json!(50);
        assert_eq!(mend(level, Some(&found)), [], "that is its administrator's business");
        // Somebody has changed what has no annotation: it is his, and says so.
        let schema = named(&all, "flowschemas", "probes");
        let found = json!({"metadata": {"name": "probes", "generation": 2}, "spec": {}});
        let steps = mend(schema, Some(&found));
        let [Step::Update(mended)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(mended["metadata"]["annotations"][FLOW_ANNOTATION], "false");
        assert_eq!(mended["spec"], json!({}));
    }

    #[test]
    fn what_is_served_is_said_until_somebody_takes_it_over() {
        let all = fixtures(&config(HERE));
        let service = named(&all, "apiservices", "v1.apps");
        let made = mend(service, None);
        let [Step::Create(found)] = &made[..] else { panic!("{made:?}") };
        assert_eq!(
            found["spec"],
            json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17_800,
                "versionPriority": 15})
        );
        assert!(named(&all, "apiservices", "v1.").wanted_spec().get("group").is_none());
        let mut changed = found.clone();
        changed["spec"]["versionPriority"] = json!(1);
        assert_eq!(mend(service, Some(&changed)).len(), 1);
        changed["metadata"]["labels"] = json!({});
        assert_eq!(mend(service, Some(&changed)), []);
    }

    impl Fixture {
        fn wanted_spec(&self) -> Value {
            match &mend(self, None)[..] {
                [Step::Create(object)] => object["spec"].clone(),
                other => panic!("{other:?}"),
            }
        }
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
