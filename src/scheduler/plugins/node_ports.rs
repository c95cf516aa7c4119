//! Gives each port of a node to one pod. Follows upstream plugins/nodeports (v1.35).

use super::{Filter, Plugin, Rejection};
use crate::api::host_port::conflict;
use crate::scheduler::event::Event;
use crate::scheduler::pod::PodFacts;

const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::NodePorts,
    concerns: |cycle| !cycle.pod.ask.ports.is_empty(),
    check: |cycle, node| {
        if conflict(&cycle.pod.ask.ports, &node.ports) {
            return Err(Rejection::for_now(Plugin::NodePorts, REASON));
        }
        Ok(())
    },
    hint: |pod: &PodFacts, event| match event {
        Event::NodeAdded(_) => true,
        Event::PodGone(gone) => conflict(&pod.ask.ports, &gone.ask.ports),
        _ => false,
    },
};

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, verdict_with};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_is_taken_once_per_address_and_protocol() {
        let ports = |address: &str, protocol: &str| {
            let port = json!({"containerPort": 80, "hostPort": 8080, "hostIP": address, "protocol": protocol});
            json!({"containers": [{"name": "c", "ports": [port]}]})
        };
        let check = |wanted: (&str, &str), taken: (&str, &str), expected: &str| {
            let there = pod("there", ports(taken.0, taken.1));
            let pod = pod("p", ports(wanted.0, wanted.1));
            let found = verdict_with(&FILTER, &pod, &[node("a", json!({}))], &[(there, "a")]);
            assert_eq!(found, [expected], "{wanted:?} {taken:?}");
        };
        check(("", "TCP"), ("", "TCP"), REASON);
        check(("", "TCP"), ("", "UDP"), "ok");
        check(("127.0.0.1", "TCP"), ("127.0.0.2", "TCP"), "ok");
        check(("127.0.0.1", "TCP"), ("127.0.0.1", "TCP"), REASON);
        check(("127.0.0.1", "TCP"), ("0.0.0.0", "TCP"), REASON);
        check(("", "TCP"), ("127.0.0.1", "TCP"), REASON);
    }
}
