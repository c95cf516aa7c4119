//! Whom an endpoint is meant for: nodes that are near it.
//!
//! Start at [`Rule::of`]. Follows upstream staging/src/k8s.io/endpointslice/{topologycache,
//! trafficdist} (v1.35). Nothing is remembered: whether there were hints is seen in the slices.

mod close;
mod zones;

use super::spread::Slices;
use crate::control::Report;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::sync::Arc;

pub(super) use zones::{counts_for_zones, zone};

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// The name that the annotation had before. It counts where both are there.
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

const ENABLED: &str = "TopologyAwareHintsEnabled";
const DISABLED: &str = "TopologyAwareHintsDisabled";

/// How the endpoints of a Service are given to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Every endpoint is everybody's.
    None,
    /// Each endpoint is its own zone's, and its own node's where `by_node` (`trafficDistribution`).
    Close { by_node: bool },
    /// Each zone has as many as its part of the processors (`topology-mode: Auto`).
    Zones,
}

impl Rule {
    pub(super) fn of(service: &Service) -> Self {
        if wants_zones(service) {
            return Self::Zones;
        }
        let distribution = service.spec.as_ref().and_then(|it| it.traffic_distribution.as_deref());
        match distribution {
            Some("PreferClose" | "PreferSameZone") => Self::Close { by_node: false },
            Some("PreferSameNode") => Self::Close { by_node: true },
            _ => Self::None,
        }
    }
}

/// Upstream `hintsEnabled`.
pub(super) fn wants_zones(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let mode =
        annotations.and_then(|all| all.get(TOPOLOGY_HINTS).or_else(|| all.get(TOPOLOGY_MODE)));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// Puts the hints of all slices of a family right, of which these existed before. What users are told
/// is for the case that anything is written.
pub(super) fn reconcile(
    rule: Rule,
    family: &str,
    nodes: &[Arc<Node>],
    existing: &[Arc<EndpointSlice>],
    slices: &mut Slices,
) -> Vec<Report> {
    let had_hints = existing.iter().any(|slice| has_hints(slice));
    match rule {
        Rule::None => {
            remove(slices);
            Vec::new()
        }
        Rule::Close { by_node } => {
            close::reconcile(by_node, slices);
            Vec::new()
        }
        Rule::Zones => match zones::add(nodes, slices) {
            Ok(()) if had_hints => Vec::new(),
            Ok(()) => {
                let message = "Topology Aware Hints has been enabled";
                vec![Report::normal(ENABLED, format!("{message}, addressType: {family}"))]
            }
            Err(why) => {
                remove(slices);
                vec![Report::warning(DISABLED, format!("{why}, addressType: {family}"))]
            }
        },
    }
}

fn has_hints(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().any(|endpoint| endpoint.hints.is_some())
}

fn remove(slices: &mut Slices) {
    slices.touch(has_hints);
    for slice in slices.written() {
        slice.endpoints.iter_mut().for_each(|endpoint| endpoint.hints = None);
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_annotation_counts_before_the_field() {
        let rule = |annotations, distribution| {
            let service = serde_json::from_value(json!({
                "metadata": {"annotations": annotations},
                "spec": {"trafficDistribution": distribution},
            }));
            Rule::of(&service.unwrap())
        };
        assert_eq!(rule(json!({}), json!(null)), Rule::None);
        assert_eq!(rule(json!({}), json!("PreferClose")), Rule::Close { by_node: false });
        assert_eq!(rule(json!({}), json!("PreferSameNode")), Rule::Close { by_node: true });
        assert_eq!(rule(json!({TOPOLOGY_MODE: "Auto"}), json!("PreferClose")), Rule::Zones);
        let both = json!({TOPOLOGY_MODE: "Auto", TOPOLOGY_HINTS: "Disabled"});
        assert_eq!(rule(both, json!(null)), Rule::None);
    }
}
