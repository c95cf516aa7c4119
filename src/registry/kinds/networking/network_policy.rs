//! NetworkPolicies: who may talk to which pods.
//!
//! Follows upstream `ValidateNetworkPolicy` and `ValidateNetworkPolicyUpdate`
//! (pkg/apis/networking/validation, v1.35). What upstream still takes because it was valid long ago
//! cannot be stored here, and is not taken.

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{
    cidr, cidr_warnings, invalid, invalid_number, label_selector, one_of, parse_cidr, to_value,
};
use crate::registry::kinds::core::addresses::PROTOCOLS;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;

const DIRECTIONS: &[&str] = &["Egress", "Ingress"];

impl Resource for NetworkPolicy {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "networkpolicy",
        short_names: &[Cow::Borrowed("netpol")],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::NETWORK_POLICY;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Pod-Selector", "Pods that the policy is about."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        spec.ingress.take_if(|rules| rules.is_empty());
        spec.egress.take_if(|rules| rules.is_empty());
        spec.policy_types.take_if(|directions| directions.is_empty());
        let into = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut());
        let out_of = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut());
        for port in into.chain(out_of).flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        // A policy is always about what comes in, unless it says otherwise.
        let has_egress = spec.egress.is_some();
        spec.policy_types.get_or_insert_with(|| {
            let both = ["Ingress", "Egress"].map(str::to_owned);
            both.into_iter().take(if has_egress { 2 } else { 1 }).collect()
        });
    }

    fn validate(&self) -> Vec<FieldError> {
        validate_spec(&self.spec.clone().unwrap_or_default(), &FieldPath::new("spec"))
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let path = FieldPath::new("spec");
        let mut warnings = Vec::new();
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(index).child("from");
            block_warnings(rule.from.as_deref().unwrap_or_default(), &path, &mut warnings);
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(index).child("to");
            block_warnings(rule.to.as_deref().unwrap_or_default(), &path, &mut warnings);
        }
        warnings
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let everything = Default::default();
        let selector = self.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
        vec![
            cells::name(&self.metadata),
            cells::selector(Some(selector.unwrap_or(&everything))),
            cells::age(&self.metadata, now),
        ]
    }
}

/// Rules of both directions have one form.
struct Rule<'a> {
    ports: &'a [NetworkPolicyPort],
    peers: &'a [NetworkPolicyPeer],
}

/// Ranges that should be written in another way (upstream `networkPolicyWarnings`).
fn block_warnings(peers: &[NetworkPolicyPeer], path: &FieldPath, warnings: &mut Vec<String>) {
    for (index, peer) in peers.iter().enumerate() {
        let Some(block) = &peer.ip_block else { continue };
        let path = path.index(index).child("ipBlock");
        warnings.extend(cidr_warnings(&path.child("cidr"), &block.cidr));
        for (index, except) in block.except.iter().flatten().enumerate() {
            warnings.extend(cidr_warnings(&path.child("except").index(index), except));
        }
    }
}

fn validate_spec(spec: &NetworkPolicySpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(selector) = &spec.pod_selector {
        errors.extend(label_selector(selector, &path.child("podSelector")));
    }
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let ports = rule.ports.as_deref().unwrap_or_default();
        let rule = Rule { ports, peers: rule.from.as_deref().unwrap_or_default() };
        errors.extend(validate_rule(&rule, "from", &path.child("ingress").index(index)));
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let ports = rule.ports.as_deref().unwrap_or_default();
        let rule = Rule { ports, peers: rule.to.as_deref().unwrap_or_default() };
        errors.extend(validate_rule(&rule, "to", &path.child("egress").index(index)));
    }
    let (directions, path) =
        (spec.policy_types.as_deref().unwrap_or_default(), path.child("policyTypes"));
    if directions.len() > DIRECTIONS.len() {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&path, to_value(&directions), detail));
        return errors;
    }
    for (index, direction) in directions.iter().enumerate() {
        errors.extend(one_of(&path.index(index), direction, DIRECTIONS));
    }
    errors
}

fn validate_rule(rule: &Rule<'_>, peers_field: &str, path: &FieldPath) -> Vec<FieldError> {
    let ports = rule.ports.iter().enumerate();
    let of_ports =
        ports.flat_map(|(index, port)| validate_port(port, &path.child("ports").index(index)));
    let peers = rule.peers.iter().enumerate();
    let of_peers =
        peers.flat_map(|(index, peer)| validate_peer(peer, &path.child(peers_field).index(index)));
    of_ports.chain(of_peers).collect()
}

fn validate_port(port: &NetworkPolicyPort, path: &FieldPath) -> Vec<FieldError> {
    let (first_path, last_path) = (path.child("port"), path.child("endPort"));
    let mut errors = Vec::new();
    if let Some(protocol) = port.protocol.as_deref() {
        errors.extend(one_of(&path.child("protocol"), protocol, PROTOCOLS));
    }
    let no_range = |why: &str| {
        let detail = format!("may not be specified when `port` is {why}");
        port.end_port.map(|last| FieldError::invalid(&last_path, last, detail))
    };
    match &port.port {
        None => errors.extend(no_range("not specified")),
        Some(IntOrString::String(name)) => {
            errors.extend(no_range("non-numeric"));
            errors.extend(invalid(&first_path, name, names::port_name(name)));
        }
        Some(IntOrString::Int(first)) => {
            errors.extend(invalid_number(&first_path, *first, names::port_number));
            if let Some(last) = port.end_port {
                if last < *first {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(&last_path, *first, detail));
                }
                errors.extend(invalid_number(&last_path, last, names::port_number));
            }
        }
    }
    errors
}

fn validate_peer(peer: &NetworkPolicyPeer, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, selector) in
        [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)]
    {
        let path = path.child(field);
        errors.extend(selector.iter().flat_map(|selector| label_selector(selector, &path)));
    }
    let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match &peer.ip_block {
        None if !has_selector => errors.push(FieldError::required(path, "must specify a peer")),
        None => {}
        Some(block) => {
            errors.extend(validate_block(block, &path.child("ipBlock")));
            if has_selector {
                let detail = "may not specify both ipBlock and another peer";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
    }
    errors
}

fn validate_block(block: &IPBlock, path: &FieldPath) -> Vec<FieldError> {
    let whole_path = path.child("cidr");
    if block.cidr.is_empty() {
        return vec![FieldError::required(&whole_path, "")];
    }
    let Some(whole) = parse_cidr(&block.cidr) else {
        return cidr(&whole_path, &block.cidr).into_iter().collect();
    };
    let mut errors = Vec::new();
    for (index, except) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(index);
        match parse_cidr(except) {
            None => errors.extend(cidr(&path, except)),
            Some(part) if is_within(part, whole) => {}
            Some(_) => {
                let detail = "must be a strict subset of `cidr`";
                errors.push(FieldError::invalid(&path, except.as_str(), detail));
            }
        }
    }
    errors
}

/// Whether a network is a part of another, and not all of it.
fn is_within((part, part_length): (IpAddr, u8), (whole, length): (IpAddr, u8)) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let differ = bits(part) ^ bits(whole);
    part.is_ipv4() == whole.is_ipv4()
        && part_length > length
        && differ.leading_zeros() >= u32::from(length)
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::{Value, json};

    fn policy(spec: Value) -> Case {
        let metadata = json!({"name": "p", "namespace": "default"});
        Case::of("networkpolicies", json!({"metadata": metadata, "spec": spec}))
    }

    #[track_caller]
    fn check_port(port: Value, expected: &[&str]) {
        let expected: Vec<_> =
            expected.iter().map(|text| format!("spec.egress[0].ports[0]{text}")).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        check(&policy(json!({"egress": [{"ports": [port]}]})), &expected);
    }

    #[track_caller]
    fn check_peer(peer: Value, expected: &[&str]) {
        let expected: Vec<_> =
            expected.iter().map(|text| format!("spec.ingress[0].from[0]{text}")).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        check(&policy(json!({"ingress": [{"from": [peer]}]})), &expected);
    }

    #[test]
    fn a_policy_is_about_what_it_has_rules_for() {
        for (spec, expected) in [
            (json!({}), json!(["Ingress"])),
            (json!({"egress": []}), json!(["Ingress"])),
            (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
            (json!({"egress": [{}], "policyTypes": ["Egress"]}), json!(["Egress"])),
        ] {
            let created = policy(spec.clone()).created().to_value();
            assert_eq!(created["spec"]["policyTypes"], expected, "{spec}");
        }
        let created =
            policy(json!({"ingress": [{"ports": [{"port": 80}]}], "egress": [{"ports": [{}]}]}))
                .created()
                .to_value();
        assert_eq!(created["spec"]["ingress"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(created["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
        check(
            &policy(
                json!({"policyTypes": ["Egress", "Both"], "podSelector": {"matchLabels": {"a": "-"}}}),
            ),
            &[
                "spec.podSelector.matchLabels: Invalid value: \"-\": a valid label",
                "spec.policyTypes[1]: Unsupported value: \"Both\": supported values: \"Egress\", \"Ingress\"",
            ],
        );
        check(
            &policy(json!({"policyTypes": ["Egress", "Ingress", "Egress"]})),
            &[
                "spec.policyTypes: Invalid value: [\"Egress\",\"Ingress\",\"Egress\"]: may not specify more than two",
            ],
        );
    }

    #[test]
    fn ports() {
        for port in [
            json!({}),
            json!({"port": "http"}),
            json!({"port": 80, "endPort": 80}),
            json!({"port": 80, "endPort": 90, "protocol": "SCTP"}),
        ] {
            check_port(port, &[]);
        }
        check_port(json!({"protocol": "ICMP"}), &[".protocol: Unsupported value: \"ICMP\""]);
        check_port(json!({"port": 0}), &[".port: Invalid value: 0: must be between 1 and 65535"]);
        check_port(
            json!({"port": 80, "endPort": 79}),
            &[".endPort: Invalid value: 80: must be greater than or equal to `port`"],
        );
        check_port(
            json!({"port": 80, "endPort": 65_536}),
            &[".endPort: Invalid value: 65536: must be between 1 and 65535"],
        );
        check_port(
            json!({"port": "http", "endPort": 1}),
            &[".endPort: Invalid value: 1: may not be specified when `port` is non-numeric"],
        );
        check_port(
            json!({"endPort": 1}),
            &[".endPort: Invalid value: 1: may not be specified when `port` is not specified"],
        );
        check_port(json!({"port": "a_b"}), &[".port: Invalid value: \"a_b\": must contain only"]);
    }

    #[test]
    fn peers() {
        for peer in [
            json!({"podSelector": {}}),
            json!({"podSelector": {}, "namespaceSelector": {}}),
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.0.0.0/9"]}}),
            json!({"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:1::/64"]}}),
            json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["1.2.3.4/32"]}}),
        ] {
            check_peer(peer, &[]);
        }
        check_peer(json!({}), &[": Required value: must specify a peer"]);
        check_peer(
            json!({"podSelector": {}, "ipBlock": {"cidr": "::/0"}}),
            &[": Forbidden: may not specify both ipBlock and another peer"],
        );
        check_peer(
            json!({"namespaceSelector": {"matchLabels": {"-": ""}}}),
            &[".namespaceSelector.matchLabels: Invalid value: \"-\": name part"],
        );
        check_peer(json!({"ipBlock": {"cidr": ""}}), &[".ipBlock.cidr: Required value"]);
        check_peer(
            json!({"ipBlock": {"cidr": "10.0.0.0"}}),
            &[".ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value"],
        );
        check_peer(
            json!({"ipBlock": {"cidr": "10.0.0.0/8",
                "except": ["x", "11.0.0.0/16", "10.0.0.0/8", "::/64"]}}),
            &[
                ".ipBlock.except[0]: Invalid value: \"x\": must be a valid CIDR value",
                ".ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ".ipBlock.except[2]: Invalid value: \"10.0.0.0/8\": must be a strict subset",
                ".ipBlock.except[3]: Invalid value: \"::/64\": must be a strict subset",
            ],
        );
    }
}
