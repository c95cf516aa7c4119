//! Each ready endpoint for its own zone, and for its own node where that is asked for: upstream
//! `preferCloseHeuristic` (staging/src/k8s.io/endpointslice/trafficdist, v1.35).

use super::super::spread::Slices;
use super::is_ready;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

pub(super) fn reconcile(by_node: bool, slices: &mut Slices) {
    slices.touch(|slice| {
        let mut ready = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
        ready.any(|endpoint| endpoint.hints != hints(endpoint, by_node))
    });
    for slice in slices.written() {
        for endpoint in slice.endpoints.iter_mut().filter(|endpoint| is_ready(endpoint)) {
            endpoint.hints = hints(endpoint, by_node);
        }
    }
}

fn hints(endpoint: &Endpoint, by_node: bool) -> Option<EndpointHints> {
    let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
    let node = endpoint.node_name.clone().filter(|_| by_node);
    let for_nodes = node.map(|name| vec![ForNode { name }]);
    let is_any = for_zones.is_some() || for_nodes.is_some();
    is_any.then_some(EndpointHints { for_nodes, for_zones })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::{Value, json};
    use std::sync::Arc;

    #[track_caller]
    fn check(by_node: bool, endpoint: Value, expected: Value) {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [endpoint],
        }))
        .unwrap();
        let is_right =
            slice.endpoints[0].hints == serde_json::from_value(expected.clone()).unwrap();
        let mut slices = Slices { unchanged: vec![Arc::new(slice)], ..Slices::default() };
        reconcile(by_node, &mut slices);
        let slice = slices.kept().next().unwrap();
        assert_eq!(json!(slice.endpoints[0].hints), expected);
        assert_eq!(slices.updated.is_empty(), is_right, "only what is wrong is written");
    }

    fn endpoint(ready: bool, more: Value) -> Value {
        let mut endpoint = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready},
            "zone": "a", "nodeName": "n"});
        json_patch::merge(&mut endpoint, &more);
        endpoint
    }

    #[test]
    fn ready_endpoints_are_for_those_near_them() {
        let zone = json!({"forZones": [{"name": "a"}]});
        let node = json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]});
        check(false, endpoint(true, json!({})), zone.clone());
        check(false, endpoint(true, json!({"hints": zone})), zone.clone());
        check(false, endpoint(true, json!({"hints": node})), zone.clone());
        check(true, endpoint(true, json!({"hints": zone})), node.clone());
        check(true, endpoint(true, json!({"zone": null})), json!({"forNodes": [{"name": "n"}]}));
        check(false, endpoint(true, json!({"zone": null, "hints": zone})), json!(null));
        check(false, endpoint(false, json!({})), json!(null));
    }
}
