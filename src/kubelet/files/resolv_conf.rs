//! What stands in a pod's `/etc/resolv.conf`: upstream `GetPodDNS` (pkg/kubelet/network/dns/dns.go,
//! v1.35). Pure.

use crate::kubelet::pod::BoundPod;
use k8s_openapi::api::core::v1::PodDNSConfig;
use std::net::IpAddr;

/// Resolvers look at no more of each; what is beyond is left out.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LINE_BYTES_MAX: usize = 2_048;
/// Some resolvers abort on longer ones; they are left out.
const SEARCH_BYTES_MAX: usize = 253;

/// How names are looked up in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Where the cluster's DNS answers; empty where there is none.
    pub addresses: Vec<IpAddr>,
    /// `cluster.local`
    pub domain: String,
}

/// A resolver's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The file, and what its reader has to be told because something was left out or is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub text: String,
    /// Reasons and messages of events.
    pub warnings: Vec<(&'static str, String)>,
}

/// `node_conf` is the node's own file.
#[must_use]
pub fn resolv_conf(pod: &BoundPod, cluster: &ClusterDns, node_conf: &str) -> ResolvConf {
    let mut warnings = Vec::new();
    let node = parse(node_conf);
    let spec = pod.spec();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let wants_cluster = match policy {
        "ClusterFirst" => !pod.uses_node_network(),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        _ if wants_cluster && !cluster.addresses.is_empty() => cluster_first(pod, cluster, node),
        _ => node,
    };
    if wants_cluster && cluster.addresses.is_empty() {
        let message = format!(
            "pod: \"{pod}\". kubelet does not have ClusterDNS IP configured and cannot create Pod \
             using \"{policy}\" policy. Falling back to \"Default\" policy."
        );
        warnings.push(("MissingClusterDNS", message));
    }
    if let Some(own) = &spec.dns_config {
        add(&mut resolver, own);
    }
    limit(&mut resolver, &mut warnings);
    ResolvConf { text: render(&resolver), warnings }
}

fn cluster_first(pod: &BoundPod, cluster: &ClusterDns, node: Resolver) -> Resolver {
    let domain = &cluster.domain;
    let mut searches = match domain.is_empty() {
        true => Vec::new(),
        false => vec![
            format!("{}.svc.{domain}", pod.namespace()),
            format!("svc.{domain}"),
            domain.clone(),
        ],
    };
    searches.extend(node.searches);
    Resolver {
        nameservers: cluster.addresses.iter().map(ToString::to_string).collect(),
        searches: without_repetition(searches),
        // Names with fewer dots are tried with the searches first.
        options: vec!["ndots:5".to_owned()],
    }
}

fn add(resolver: &mut Resolver, own: &PodDNSConfig) {
    resolver.nameservers.extend(own.nameservers.iter().flatten().cloned());
    resolver.nameservers = without_repetition(std::mem::take(&mut resolver.nameservers));
    resolver.searches.extend(own.searches.iter().flatten().cloned());
    resolver.searches = without_repetition(std::mem::take(&mut resolver.searches));
    for option in own.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        let text = match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        resolver.options.retain(|known| known.split(':').next() != Some(name));
        resolver.options.push(text);
    }
}

fn without_repetition(list: Vec<String>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}

fn limit(resolver: &mut Resolver, warnings: &mut Vec<(&'static str, String)>) {
    if resolver.nameservers.len() > NAMESERVERS_MAX {
        resolver.nameservers.truncate(NAMESERVERS_MAX);
        let message = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
             nameserver line is: {}",
            resolver.nameservers.join(" ")
        );
        warnings.push(("DNSConfigForming", message));
    }
    let before = resolver.searches.len();
    resolver.searches.retain(|search| search.len() <= SEARCH_BYTES_MAX);
    resolver.searches.truncate(SEARCHES_MAX);
    while resolver.searches.join(" ").len() > SEARCH_LINE_BYTES_MAX {
        resolver.searches.pop();
    }
    if resolver.searches.len() < before {
        let message = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied \
             search line is: {}",
            resolver.searches.join(" ")
        );
        warnings.push(("DNSConfigForming", message));
    }
}

fn render(resolver: &Resolver) -> String {
    let mut text = String::new();
    if !resolver.searches.is_empty() {
        text.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for nameserver in &resolver.nameservers {
        text.push_str(&format!("nameserver {nameserver}\n"));
    }
    if !resolver.options.is_empty() {
        text.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    text
}

/// resolv.conf(5): servers add up, of searches the last line counts.
fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let words = words.map(str::to_owned);
        match kind {
            "nameserver" => resolver.nameservers.extend(words.take(1)),
            "search" => {
                let names = words.filter(|name| name != ".");
                resolver.searches = names.map(|it| it.trim_end_matches('.').to_owned()).collect();
            }
            "options" => resolver.options.extend(words),
            _ => {}
        }
    }
    resolver
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    const NODE: &str =
        "# comment\nnameserver 192.168.0.53\nsearch old\nsearch lan. corp\noptions edns0\n";

    fn made(spec: Value, cluster: &ClusterDns) -> ResolvConf {
        let mut spec = spec;
        spec["containers"] = json!([{ "name": "a" }]);
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u1" });
        let object = json!({ "metadata": metadata, "spec": spec });
        let pod = BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap();
        resolv_conf(&pod, cluster, NODE)
    }

    fn cluster() -> ClusterDns {
        ClusterDns {
            addresses: vec!["10.43.0.10".parse().unwrap()],
            domain: "cluster.local".to_owned(),
        }
    }

    const OF_CLUSTER: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local lan corp\n\
                              nameserver 10.43.0.10\noptions ndots:5\n";
    const OF_NODE: &str = "search lan corp\nnameserver 192.168.0.53\noptions edns0\n";

    #[test]
    fn the_policy_decides_who_is_asked() {
        for (spec, expected) in [
            (json!({}), OF_CLUSTER),
            (json!({ "dnsPolicy": "ClusterFirst", "hostNetwork": true }), OF_NODE),
            (json!({ "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true }), OF_CLUSTER),
            (json!({ "dnsPolicy": "Default" }), OF_NODE),
            (json!({ "dnsPolicy": "None" }), ""),
        ] {
            assert_eq!(made(spec.clone(), &cluster()).text, expected, "{spec}");
        }
    }

    #[test]
    fn a_pods_own_settings_are_added() {
        let own = json!({
            "nameservers": ["1.1.1.1", "10.43.0.10"], "searches": ["x.y", "corp"],
            "options": [{ "name": "ndots", "value": "2" }, { "name": "rotate" }],
        });
        let text = made(json!({ "dnsConfig": own }), &cluster()).text;
        assert_eq!(
            text,
            "search shop.svc.cluster.local svc.cluster.local cluster.local lan corp x.y\n\
             nameserver 10.43.0.10\nnameserver 1.1.1.1\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn without_a_cluster_dns_the_node_s_is_used_and_said_so() {
        let made = made(json!({}), &ClusterDns::default());
        assert_eq!(made.text, OF_NODE);
        assert_eq!(made.warnings[0].0, "MissingClusterDNS");
    }

    #[test]
    fn what_no_resolver_reads_is_left_out() {
        let nameservers: Vec<_> = (1..6).map(|n| format!("10.0.0.{n}")).collect();
        let searches: Vec<_> = (0..40).map(|n| format!("s{n}")).collect();
        let own = json!({ "nameservers": nameservers, "searches": searches });
        let made = made(json!({ "dnsPolicy": "None", "dnsConfig": own }), &cluster());
        assert_eq!(made.text.lines().filter(|line| line.starts_with("nameserver")).count(), 3);
        assert_eq!(made.text.lines().next().unwrap().split(' ').count(), 33);
        assert_eq!(made.warnings.len(), 2);
    }
}
