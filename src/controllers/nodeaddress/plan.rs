//! What is told of a node that is not alone with its address.

use super::Twin;
use crate::client::object_reference;
use crate::control::{Plan, Report};
use k8s_openapi::api::core::v1::Node;
use std::sync::Arc;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub node: Arc<Node>,
    /// Those that this node has not been told of.
    pub twins: Vec<Twin>,
}

pub fn plan(observed: &Observed) -> Plan {
    let reports = observed.twins.iter().map(report).collect();
    Plan { regarding: object_reference(&*observed.node), reports, ..Plan::default() }
}

fn report(Twin { address, node }: &Twin) -> Report {
    let message = format!(
        "node {node} has the address {address} as well: what is sent there reaches one of the two \
         only. Give one of the machines another address (--node-ip says which it uses), or, where \
         machine {node} is gone, `kubectl delete node {node}`"
    );
    Report::warning("AddressTaken", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_twin_is_told() {
        let node = serde_json::from_value(json!({"metadata": {"name": "one"}})).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let twins = vec![Twin { address, node: "two".to_owned() }];
        let plan = plan(&Observed { node: Arc::new(node), twins });
        assert_eq!(plan.regarding.name.as_deref(), Some("one"));
        let [report] = &plan.reports[..] else { panic!("{:?}", plan.reports) };
        assert_eq!(report.reason, "AddressTaken");
        assert!(report.message.contains("node two has the address 192.0.2.1 as well"));
        assert!(report.message.contains("`kubectl delete node two`"));
    }
}
