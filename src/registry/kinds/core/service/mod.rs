//! Services: one name and address for many pods.
//!
//! Follows upstream pkg/registry/core/service (v1.35). Which addresses and node ports are free is
//! not known here: who writes Services fills them in before it validates.

mod changes;
mod cluster_ips;
mod validate;
mod warnings;

use crate::api::{FieldError, names};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, Body, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What is wrong with the addresses of a Service and their families, by themselves: asked for also
/// before addresses are given (upstream `ValidateServiceClusterIPsRelatedFields`).
#[must_use]
pub fn service_address_errors(spec: &ServiceSpec) -> Vec<FieldError> {
    cluster_ips::validate(spec)
}

/// How long a client stays with one pod.
const AFFINITY_SECONDS: i32 = 10_800;

/// The address of a Service that has none.
const HEADLESS: &str = "None";

impl Resource for Service {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "service",
        short_names: &[Cow::Borrowed("svc")],
        categories: ALL,
        subresources: &[
            Subresource {
                name: "proxy",
                body: Body::Other { group: "", version: "", kind: "ServiceProxyOptions" },
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::SERVICE;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Type", "From where the Service can be reached."),
        Column::text("Cluster-IP", "Address inside the cluster."),
        Column::text("External-IP", "Addresses outside the cluster."),
        Column::text("Port(s)", "Ports, with those of the nodes."),
        Column::AGE,
        Column::wide("Selector", "Labels of the pods behind it."),
    ];
    const NAME_RULE: names::Rule = names::dns1035_label;
    const CREATES_ON_UPDATE: bool = true;
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        default_spec(self.spec.get_or_insert_default());
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.get_or_insert_default();
        let balancer = status.load_balancer.get_or_insert_default();
        if type_of(&spec) == Type::LoadBalancer {
            for ingress in balancer.ingress.iter_mut().flatten() {
                if ingress.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
                    ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
                }
            }
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(no_status());
        let spec = self.spec.get_or_insert_default();
        changes::complete_cluster_ips(spec);
    }

    fn prepare_update(&mut self, old: &Self) {
        let old_spec = old.spec.clone().unwrap_or_default();
        let spec = self.spec.get_or_insert_default();
        changes::carry_over(spec, &old_spec);
        if type_of(spec) != Type::LoadBalancer {
            self.status.get_or_insert_default().load_balancer = Some(LoadBalancerStatus::default());
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        validate::validate(self)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        changes::validate(
            &self.spec.clone().unwrap_or_default(),
            &old.spec.clone().unwrap_or_default(),
        )
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        warnings::warnings(self)
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        validate::validate_status(self)
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let spec = self.spec.clone().unwrap_or_default();
        vec![
            ("spec.clusterIP", spec.cluster_ip.unwrap_or_default()),
            ("spec.type", spec.type_.unwrap_or_default()),
        ]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        vec![
            cells::name(&self.metadata),
            spec.type_.clone().unwrap_or_default().into(),
            cells::or_none(cluster_ips(&spec).first().map(String::as_str)),
            external_ip(self, &spec).into(),
            cells::or_none(Some(&ports(&spec))),
            cells::age(&self.metadata, now),
            cells::labels(spec.selector.as_ref()).into(),
        ]
    }
}

/// From where a Service can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
    Other,
}

impl Type {
    fn needs_cluster_ip(self) -> bool {
        self != Self::ExternalName
    }

    fn needs_node_port(self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }
}

fn type_of(spec: &ServiceSpec) -> Type {
    match spec.type_.as_deref() {
        Some("ClusterIP") => Type::ClusterIp,
        Some("NodePort") => Type::NodePort,
        Some("LoadBalancer") => Type::LoadBalancer,
        Some("ExternalName") => Type::ExternalName,
        _ => Type::Other,
    }
}

fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(cluster_ips(spec), [only] if only == HEADLESS)
}

/// Upstream `ExternallyAccessible` (pkg/api/service).
fn is_external(spec: &ServiceSpec) -> bool {
    let has_addresses = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    type_of(spec).needs_node_port() || (type_of(spec) == Type::ClusterIp && has_addresses)
}

/// Upstream `NeedsHealthCheck` (pkg/api/service).
fn needs_health_check(spec: &ServiceSpec) -> bool {
    type_of(spec) == Type::LoadBalancer && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn no_status() -> ServiceStatus {
    ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), conditions: None }
}

fn default_spec(spec: &mut ServiceSpec) {
    for text in [
        &mut spec.cluster_ip,
        &mut spec.external_name,
        &mut spec.external_traffic_policy,
        &mut spec.load_balancer_ip,
        &mut spec.session_affinity,
        &mut spec.type_,
    ] {
        text.take_if(|text| text.is_empty());
    }
    for list in [&mut spec.cluster_ips, &mut spec.external_ips, &mut spec.ip_families] {
        list.take_if(|list| list.is_empty());
    }
    spec.ports.take_if(|ports| ports.is_empty());
    spec.selector.take_if(|selector| selector.is_empty());
    spec.health_check_node_port.take_if(|port| *port == 0);
    spec.publish_not_ready_addresses.take_if(|publish| !*publish);
    default_affinity(spec);
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.take_if(|protocol| protocol.is_empty());
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        port.name.take_if(|name| name.is_empty());
        port.node_port.take_if(|number| *number == 0);
        let is_empty = |target: &mut IntOrString| match target {
            IntOrString::Int(number) => *number == 0,
            IntOrString::String(name) => name.is_empty(),
        };
        port.target_port.take_if(is_empty);
        port.target_port.get_or_insert(IntOrString::Int(port.port));
    }
    if is_external(spec) {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if matches!(type_of(spec), Type::ClusterIp | Type::NodePort | Type::LoadBalancer) {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if type_of(spec) == Type::LoadBalancer {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

fn default_affinity(spec: &mut ServiceSpec) {
    let affinity = spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    match affinity.as_str() {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec.session_affinity_config.as_ref();
            let seconds = config
                .and_then(|config| config.client_ip.as_ref())
                .and_then(|client| client.timeout_seconds);
            let timeout_seconds = Some(seconds.unwrap_or(AFFINITY_SECONDS));
            spec.session_affinity_config =
                Some(SessionAffinityConfig { client_ip: Some(ClientIPConfig { timeout_seconds }) });
        }
        _ => {}
    }
}

fn external_ip(service: &Service, spec: &ServiceSpec) -> String {
    let given = spec.external_ips.clone().unwrap_or_default();
    match type_of(spec) {
        Type::ClusterIp | Type::NodePort if given.is_empty() => cells::NONE.to_owned(),
        Type::ClusterIp | Type::NodePort => given.join(","),
        Type::LoadBalancer => {
            let balancer = service.status.iter().flat_map(|status| &status.load_balancer);
            let ingress = balancer.flat_map(|balancer| balancer.ingress.iter().flatten());
            let balanced: BTreeSet<_> = ingress
                .filter_map(|one| {
                    let ip = one.ip.clone().filter(|ip| !ip.is_empty());
                    ip.or_else(|| one.hostname.clone().filter(|name| !name.is_empty()))
                })
                .collect();
            let all: Vec<_> = balanced.into_iter().chain(given).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        Type::ExternalName => spec.external_name.clone().unwrap_or_default(),
        Type::Other => cells::UNKNOWN.to_owned(),
    }
}

fn ports(spec: &ServiceSpec) -> String {
    let each = spec.ports.iter().flatten().map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        match port.node_port.filter(|number| *number > 0) {
            Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
            None => format!("{}/{protocol}", port.port),
        }
    });
    each.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::Case;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Case {
        let metadata = json!({"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"});
        Case::of("services", json!({"metadata": metadata, "spec": spec}))
    }

    #[track_caller]
    fn check(spec: Value, pointer: &str, expected: Value) {
        let value = service(spec).created().to_value();
        let actual = value["spec"].pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(actual, expected, "{value:#}");
    }

    #[test]
    fn defaults_are_upstreams() {
        check(
            json!({"ports": [{"port": 80}]}),
            "",
            json!({
                "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "sessionAffinity": "None", "type": "ClusterIP",
            }),
        );
        check(
            json!({"sessionAffinity": "ClientIP"}),
            "/sessionAffinityConfig/clientIP/timeoutSeconds",
            json!(10800),
        );
        check(json!({"type": "NodePort"}), "/externalTrafficPolicy", json!("Cluster"));
        check(json!({"externalIPs": ["1.2.3.4"]}), "/externalTrafficPolicy", json!("Cluster"));
        check(json!({"type": "LoadBalancer"}), "/allocateLoadBalancerNodePorts", json!(true));
        check(json!({"type": "ExternalName"}), "/internalTrafficPolicy", json!(null));
        check(json!({"clusterIP": "None"}), "/clusterIPs", json!(["None"]));
        let status = service(json!({})).created().to_value()["status"].clone();
        assert_eq!(status, json!({"loadBalancer": {}}));
    }

    #[test]
    fn cells() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        for (spec, expected) in [
            (
                json!({"clusterIPs": ["10.43.0.1"], "ports": [{"port": 80}], "selector": {"app": "web"}}),
                json!(["web", "ClusterIP", "10.43.0.1", "<none>", "80/TCP", "10m", "app=web"]),
            ),
            (
                json!({"type": "NodePort", "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}),
                json!(["web", "NodePort", "<none>", "<none>", "53:30053/UDP", "10m", "<none>"]),
            ),
            (
                json!({"type": "LoadBalancer"}),
                json!(["web", "LoadBalancer", "<none>", "<pending>", "<none>", "10m", "<none>"]),
            ),
            (
                json!({"type": "ExternalName", "externalName": "a.b"}),
                json!(["web", "ExternalName", "<none>", "a.b", "<none>", "10m", "<none>"]),
            ),
        ] {
            assert_eq!(json!(service(spec).decode().row(now)), expected);
        }
        let balanced = service(json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}))
            .with(json!({"status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "b.c"}]}}}));
        assert_eq!(balanced.decode().row(now)[3], "2.2.2.2,b.c,9.9.9.9");
    }
}
