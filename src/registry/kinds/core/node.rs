//! Nodes.
//!
//! Follows upstream pkg/registry/core/node and `ValidateNode` (pkg/apis/core/validation, v1.35).

use super::{podspec, resources, taints};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{cidr, cidr_warnings, parse_cidr, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    Body, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

impl Resource for Node {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "node",
        short_names: &[Cow::Borrowed("no")],
        subresources: &[
            Subresource {
                name: "proxy",
                body: Body::Other { group: "", version: "", kind: "NodeProxyOptions" },
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::NODE;
    /// A kubelet says how its node is as it registers it.
    const HALVES: Halves<Self> = Halves { begin: |_| {}, ..halves!() };
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Status", "Whether the node is ready, and whether it takes new pods."),
        Column::text("Roles", "What the node is for, by its labels."),
        Column::AGE,
        Column::text("Version", "Version of the kubelet."),
        Column::wide("Internal-IP", "Address inside the cluster."),
        Column::wide("External-IP", "Address outside the cluster."),
        Column::wide("OS-Image", "Operating system."),
        Column::wide("Kernel-Version", "Version of the kernel."),
        Column::wide("Container-Runtime", "What runs the containers."),
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.unschedulable.take_if(|unschedulable| !*unschedulable);
        spec.taints.take_if(|taints| taints.is_empty());
        // The older field repeats the first of the newer one.
        spec.pod_cidr.take_if(|cidr| cidr.is_empty());
        spec.pod_cidrs.take_if(|cidrs| cidrs.is_empty());
        match (&spec.pod_cidr, &spec.pod_cidrs) {
            (Some(first), None) => spec.pod_cidrs = Some(vec![first.clone()]),
            (_, Some(cidrs)) => spec.pod_cidr = cidrs.first().cloned(),
            (None, None) => {}
        }
        let status = self.status.get_or_insert_default();
        podspec::round_up(status.capacity.as_mut());
        podspec::round_up(status.allocatable.as_mut());
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    /// A node may come with its status: the kubelet registers itself so.
    fn prepare_create(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.config_source = None;
        }
        if let Some(status) = &mut self.status {
            status.config = None;
        }
    }

    fn prepare_update(&mut self, _old: &Self) {
        if let Some(spec) = &mut self.spec {
            spec.config_source = None;
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let taints_path = FieldPath::new("metadata").child("taints");
        let mut errors =
            taints::validate_taints(spec.taints.as_deref().unwrap_or_default(), &taints_path);
        errors.extend(self.status.iter().flat_map(validate_resources));
        let path = FieldPath::new("spec").child("podCIDRs");
        errors.extend(validate_pod_cidrs(spec.pod_cidrs.as_deref().unwrap_or_default(), &path));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        validate_changes(self, old)
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors: Vec<_> = self.status.iter().flat_map(validate_resources).collect();
        errors.extend(validate_changes(self, old));
        errors
    }

    fn without_heartbeat(&self) -> Option<Self> {
        let mut node = self.clone();
        let conditions = node.status.iter_mut().flat_map(|status| &mut status.conditions);
        for condition in conditions.flatten() {
            condition.last_heartbeat_time = None;
        }
        Some(node)
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", is_cordoned(self).to_string())]
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let mut warnings = Vec::new();
        if spec.config_source.is_some() {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if spec.external_id.as_ref().is_some_and(|id| !id.is_empty()) {
            let why = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
            warnings.push(why.to_owned());
        }
        let path = FieldPath::new("spec").child("podCIDRs");
        for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
            warnings.extend(cidr_warnings(&path.index(index), range));
        }
        warnings
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let info = status.node_info.clone().unwrap_or_default();
        let or_unknown = |text: String| match text.as_str() {
            "" => Value::from(cells::UNKNOWN),
            _ => Value::from(text),
        };
        vec![
            cells::name(&self.metadata),
            state(self).into(),
            cells::or_none(Some(&roles(self))),
            cells::age(&self.metadata, now),
            info.kubelet_version.into(),
            cells::or_none(address(&status, "InternalIP")),
            cells::or_none(address(&status, "ExternalIP")),
            or_unknown(info.os_image),
            or_unknown(info.kernel_version),
            or_unknown(info.container_runtime_version),
        ]
    }
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

fn state(node: &Node) -> String {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    // Where a type occurs twice, the last one counts.
    let ready = conditions.rfind(|condition| condition.type_ == "Ready");
    let ready = match ready.map(|condition| condition.status.as_str()) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    let cordoned = if is_cordoned(node) { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}")
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a str> {
    let mut addresses = status.addresses.iter().flatten();
    addresses.find(|address| address.type_ == kind).map(|address| address.address.as_str())
}

fn validate_resources(status: &NodeStatus) -> Vec<FieldError> {
    let path = FieldPath::new("status");
    let mut errors = Vec::new();
    for (field, amounts) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (name, amount) in amounts.iter().flatten() {
            let path = path.child(field).child(name);
            errors.extend(resources::validate_quantity(name, &amount.0, &path));
        }
    }
    errors
}

fn validate_pod_cidrs(cidrs: &[String], path: &FieldPath) -> Vec<FieldError> {
    let each = cidrs.iter().enumerate();
    let mut errors: Vec<_> =
        each.filter_map(|(index, value)| cidr(&path.index(index), value)).collect();
    if cidrs.len() > 1 {
        let families: BTreeSet<_> = cidrs
            .iter()
            .filter_map(|cidr| parse_cidr(cidr))
            .map(|(address, _)| address.is_ipv4())
            .collect();
        if families.len() != 2 || cidrs.len() > 2 {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.push(FieldError::invalid(path, to_value(&cidrs), detail));
        }
    }
    errors
}

fn validate_changes(node: &Node, old: &Node) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref());
    let mut seen = BTreeSet::new();
    for (index, address) in addresses.unwrap_or_default().iter().enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            let path = FieldPath::new("status").child("addresses").index(index);
            errors.push(FieldError::duplicate(&path, to_value(address)));
        }
    }
    let path = FieldPath::new("spec");
    let (new_spec, old_spec) =
        (node.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    if old_spec.pod_cidrs.is_some() && new_spec.pod_cidrs != old_spec.pod_cidrs {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
    }
    let is_set = old_spec.provider_id.as_ref().is_some_and(|id| !id.is_empty());
    if is_set && new_spec.provider_id != old_spec.provider_id {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("providerID"), detail));
    }
    if new_spec.external_id != old_spec.external_id {
        errors.push(FieldError::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::json;

    fn node() -> Case {
        Case::of("nodes", json!({"metadata": {"name": "n"}}))
    }

    #[test]
    fn taints_amounts_and_networks() {
        check(&node().with(json!({"spec": {"podCIDRs": ["10.42.0.0/24", "fd00::/64"]}})), &[]);
        check(
            &node().with(json!({
                "spec": {"taints": [{"key": "a", "effect": ""}], "podCIDRs": ["10.42.0.0/24", "x"]},
                "status": {"capacity": {"pods": "1500m", "cpu": "-1"}},
            })),
            &[
                "metadata.taints[0].effect: Required value",
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
                "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
                "spec.podCIDRs[1]: Invalid value: \"x\": must be a valid CIDR value",
                "spec.podCIDRs: Invalid value: [\"10.42.0.0/24\",\"x\"]: may specify no more than one CIDR",
            ],
        );
    }

    #[test]
    fn a_node_keeps_its_network_and_its_provider() {
        let old = node().with(json!({"spec": {"podCIDR": "10.42.0.0/24", "providerID": "a"}}));
        check_update(&node(), &old, &[]);
        check_update(&old, &old.with(json!({"spec": {"unschedulable": true}})), &[]);
        check_update(
            &old,
            &old.with(
                json!({"spec": {"podCIDR": "10.43.0.0/24", "providerID": "b", "externalID": "c"}}),
            ),
            &[
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                "spec.externalID: Forbidden: may not be updated",
            ],
        );
        let address = json!({"type": "InternalIP", "address": "10.0.0.1"});
        check_status_update(
            &old,
            &old.with(json!({"status": {"addresses": [address, address]}})),
            &[
                "status.addresses[1]: Duplicate value: {\"address\":\"10.0.0.1\",\"type\":\"InternalIP\"}",
            ],
        );
    }

    #[test]
    fn a_heartbeat_changes_no_more_than_its_time() {
        let at = |time: &str, status: &str| {
            node().with(json!({"status": {"conditions": [
                {"type": "Ready", "status": status, "lastHeartbeatTime": time},
            ]}}))
        };
        let old = at("2026-01-01T00:00:00Z", "True").decode();
        assert!(at("2026-01-01T00:05:00Z", "True").decode().is_heartbeat(&*old));
        assert!(!at("2026-01-01T00:05:00Z", "False").decode().is_heartbeat(&*old));
    }
}
