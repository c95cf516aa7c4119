//! Which endpoints of a port packets on this node may go to.
//!
//! Upstream: `CategorizeEndpoints` (pkg/proxy/topology.go, v1.35).

use super::endpoints::Endpoint;
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Cluster,
    Local,
}

/// What a Service says about where its packets may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policies {
    pub(super) internal: Policy,
    pub(super) external: Policy,
    /// It can be had in another way than by its cluster address.
    pub(super) is_external: bool,
}

impl Policies {
    /// Pods and the node itself have all endpoints of an external frontend, whatever its policy.
    fn uses_cluster(self) -> bool {
        self.internal == Policy::Cluster || self.is_external
    }

    fn uses_local(self) -> bool {
        self.internal == Policy::Local || self.is_external && self.external == Policy::Local
    }
}

/// The endpoints for each policy, ready ones, or where there is none, those that still serve while
/// they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reachable {
    /// Empty where no packet goes by policy Cluster.
    pub(super) cluster: Vec<SocketAddr>,
    /// Empty where no packet goes by policy Local.
    pub(super) local: Vec<SocketAddr>,
    /// There is one somewhere.
    pub(super) is_anywhere: bool,
}

/// Where this node is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'a> {
    pub(super) node: &'a str,
    pub(super) zone: Option<&'a str>,
}

pub(super) fn reachable(endpoints: &[Endpoint], policies: Policies, here: Here<'_>) -> Reachable {
    let mut reachable = Reachable::default();
    if policies.uses_cluster() {
        reachable.cluster = cluster(endpoints, here);
        reachable.is_anywhere = !reachable.cluster.is_empty();
    }
    if policies.uses_local() {
        reachable.local = ready_or_ending(endpoints, |endpoint| endpoint.is_local);
        reachable.is_anywhere |= endpoints
            .iter()
            .any(|endpoint| endpoint.is_ready || endpoint.is_serving && endpoint.is_terminating);
    }
    reachable
}

fn cluster(endpoints: &[Endpoint], here: Here<'_>) -> Vec<SocketAddr> {
    // Hints are for ready endpoints: where they are heeded, one of them is ready.
    match hints(endpoints, here) {
        Hints::Ignored => ready_or_ending(endpoints, |_| true),
        Hints::Node => ready_or_ending(endpoints, |endpoint| is_meant_for_node(endpoint, here)),
        Hints::Zone => ready_or_ending(endpoints, |endpoint| is_meant_for_zone(endpoint, here)),
    }
}

fn ready_or_ending(
    endpoints: &[Endpoint],
    is_wanted: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let addresses = |is_usable: fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let usable = endpoints.iter().filter(|endpoint| is_wanted(endpoint) && is_usable(endpoint));
        usable.map(|endpoint| endpoint.address).collect()
    };
    let ready = addresses(|endpoint| endpoint.is_ready);
    if !ready.is_empty() {
        return ready;
    }
    addresses(|endpoint| endpoint.is_serving && endpoint.is_terminating)
}

enum Hints {
    Ignored,
    Node,
    Zone,
}

/// Hints count where every ready endpoint has them and one is meant for here.
fn hints(endpoints: &[Endpoint], here: Here<'_>) -> Hints {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.is_ready);
    if ready().all(|endpoint| !endpoint.nodes.is_empty())
        && ready().any(|endpoint| is_meant_for_node(endpoint, here))
    {
        return Hints::Node;
    }
    if ready().all(|endpoint| !endpoint.zones.is_empty())
        && ready().any(|endpoint| is_meant_for_zone(endpoint, here))
    {
        return Hints::Zone;
    }
    Hints::Ignored
}

fn is_meant_for_node(endpoint: &Endpoint, here: Here<'_>) -> bool {
    endpoint.nodes.iter().any(|node| node == here.node)
}

fn is_meant_for_zone(endpoint: &Endpoint, here: Here<'_>) -> bool {
    here.zone.is_some_and(|here| endpoint.zones.iter().any(|zone| zone == here))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1 local ready zone=a node=n`: the endpoint 10.0.0.1:80.
    fn endpoint(text: &str) -> Endpoint {
        let mut words = text.split_whitespace();
        let last = words.next().unwrap();
        let mut endpoint = Endpoint {
            address: format!("10.0.0.{last}:80").parse().unwrap(),
            is_local: false,
            is_ready: false,
            is_serving: false,
            is_terminating: false,
            zones: Vec::new(),
            nodes: Vec::new(),
        };
        for word in words {
            match word {
                "local" => endpoint.is_local = true,
                "ready" => (endpoint.is_ready, endpoint.is_serving) = (true, true),
                "ending" => (endpoint.is_serving, endpoint.is_terminating) = (true, true),
                "gone" => endpoint.is_terminating = true,
                _ => match word.split_once('=').unwrap() {
                    ("zone", zone) => endpoint.zones.push(zone.to_owned()),
                    (_, node) => endpoint.nodes.push(node.to_owned()),
                },
            }
        }
        endpoint
    }

    fn policies(text: &str) -> Policies {
        let (internal, external) = text.split_once('/').unwrap();
        let policy = |text| if text == "Local" { Policy::Local } else { Policy::Cluster };
        Policies {
            internal: policy(internal),
            external: policy(external),
            is_external: external != "-",
        }
    }

    /// `of`: internal and external policy, `-` where there is no external frontend. `expected`: last
    /// numbers of the addresses by policy.
    #[track_caller]
    fn check(of: &str, endpoints: &[&str], expected: &str) {
        let endpoints: Vec<_> = endpoints.iter().map(|text| endpoint(text)).collect();
        let here = Here { node: "here", zone: Some("a") };
        let reachable = reachable(&endpoints, policies(of), here);
        let numbers = |addresses: &[SocketAddr]| {
            let last = |address: &SocketAddr| {
                address.ip().to_string().rsplit('.').next().unwrap().to_owned()
            };
            addresses.iter().map(last).collect::<Vec<_>>().join(",")
        };
        let found = format!(
            "cluster {} local {}{}",
            numbers(&reachable.cluster),
            numbers(&reachable.local),
            if reachable.is_anywhere { "" } else { " none anywhere" }
        );
        assert_eq!(found, expected);
    }

    #[test]
    fn policies_choose_endpoints() {
        let endpoints = ["1 local ready", "2 ready", "3 local"];
        check("Cluster/-", &endpoints, "cluster 1,2 local ");
        check("Local/-", &endpoints, "cluster  local 1");
        check("Cluster/Local", &endpoints, "cluster 1,2 local 1");
        check("Local/Cluster", &endpoints, "cluster 1,2 local 1");
        check("Cluster/Cluster", &endpoints, "cluster 1,2 local ");
        check("Local/-", &["2 ready"], "cluster  local ");
        check("Local/-", &[], "cluster  local  none anywhere");
        check("Cluster/-", &["1 local", "2"], "cluster  local  none anywhere");
    }

    #[test]
    fn endpoints_that_end_are_the_last_resort() {
        check("Cluster/-", &["1 ending", "2 ready"], "cluster 2 local ");
        check("Cluster/-", &["1 ending", "2 gone"], "cluster 1 local ");
        // Separately for each policy.
        check("Cluster/Local", &["1 local ending", "2 ready"], "cluster 2 local 1");
        check("Cluster/Local", &["1 local ending", "2 local ready"], "cluster 2 local 2");
        check("Local/-", &["2 ending"], "cluster  local ");
    }

    #[test]
    fn hints_count_when_all_have_them_and_one_fits() {
        check("Cluster/-", &["1 ready zone=a", "2 ready zone=b"], "cluster 1 local ");
        check("Cluster/-", &["1 ready zone=a", "2 ready"], "cluster 1,2 local ");
        check("Cluster/-", &["1 ready zone=c", "2 ready zone=b"], "cluster 1,2 local ");
        check("Cluster/-", &["1 ready zone=a zone=b", "2 ready zone=a"], "cluster 1,2 local ");
        // One that is not ready need not have them.
        check("Cluster/-", &["1 ready zone=a", "2", "3 ready zone=b"], "cluster 1 local ");
        // Nodes before zones.
        check(
            "Cluster/-",
            &["1 ready zone=a node=there", "2 ready zone=a node=here"],
            "cluster 2 local ",
        );
        check(
            "Cluster/-",
            &["1 ready zone=a node=there", "2 ready zone=b node=there"],
            "cluster 1 local ",
        );
        check("Cluster/-", &["1 ready zone=a node=here", "2 ready zone=a"], "cluster 1,2 local ");
        // Policy Local does not look at them.
        check("Cluster/Local", &["1 ready zone=a", "2 local ready zone=b"], "cluster 1 local 2");
        check("Cluster/-", &["1 ending zone=a", "2 ending"], "cluster 1,2 local ");
    }
}
