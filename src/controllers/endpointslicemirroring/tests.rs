//! Tables of decisions about mirrored slices.

use super::*;
use crate::control::Write;
use plan::ADDRESSES_PER_SUBSET_MAX;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn endpoints(subsets: &Value) -> Value {
    json!({
        "metadata": {"name": "db", "namespace": "default", "uid": "e", "labels": {"a": "b"},
            "annotations": {"note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "subsets": subsets,
    })
}

fn observed(endpoints: Value, slices: Vec<Arc<EndpointSlice>>) -> Observed {
    let service = json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {}});
    Observed {
        endpoints: Some(Arc::new(serde_json::from_value(endpoints).unwrap())),
        service: Some(Arc::new(serde_json::from_value(service).unwrap())),
        slices,
    }
}

/// What is there once the plan has been carried out, after which nothing is left to do.
#[track_caller]
fn carried_out(mut observed: Observed) -> Vec<Arc<EndpointSlice>> {
    let mut slices: BTreeMap<String, Arc<EndpointSlice>> = BTreeMap::new();
    for slice in &observed.slices {
        slices.insert(slice.metadata.name.clone().unwrap(), Arc::clone(slice));
    }
    for write in plan(&observed).writes() {
        match write {
            Write::Delete { key, .. } => drop(slices.remove(&key.name)),
            write => {
                let mut slice: EndpointSlice = serde_json::from_value(write.body()).unwrap();
                let next = format!("db-{}", slices.len());
                let name = slice.metadata.name.get_or_insert(next).clone();
                slices.insert(name, Arc::new(slice));
            }
        }
    }
    observed.slices = slices.into_values().collect();
    assert!(plan(&observed).steps.is_empty(), "what has been done is done");
    observed.slices
}

fn show(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
    let shown = slices.iter().map(|slice| {
        let endpoints = slice.endpoints.iter().map(|endpoint| {
            let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
            format!("{}{}", if ready { "" } else { "!" }, endpoint.addresses.join(","))
        });
        let ports = slice.ports.iter().flatten().map(|port| port.port.unwrap().to_string());
        let (ports, endpoints): (Vec<_>, Vec<_>) = (ports.collect(), endpoints.collect());
        let name = slice.metadata.name.as_deref().unwrap();
        format!("{name} {} [{}] {}", slice.address_type, ports.join(","), endpoints.join(" "))
    });
    shown.collect()
}

fn two_families() -> Value {
    json!([{
        "addresses": [{"ip": "10.0.0.1", "hostname": "a"}, {"ip": "fd00::1"}],
        "notReadyAddresses": [{"ip": "10.0.0.2", "nodeName": "n"}],
        "ports": [{"port": 5432, "protocol": "TCP"}],
    }])
}

#[test]
fn each_family_and_set_of_ports_has_a_slice() {
    let slices = carried_out(observed(endpoints(&two_families()), Vec::new()));
    assert_eq!(show(&slices), ["db-0 IPv4 [5432] 10.0.0.1 !10.0.0.2", "db-1 IPv6 [5432] fd00::1"]);
    let slice = json!(slices[0]);
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"a": "b", "kubernetes.io/service-name": "db",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["annotations"], json!({"note": "n"}));
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    assert_eq!(slice["endpoints"][0]["hostname"], "a");
    assert_eq!(slice["endpoints"][0]["conditions"], json!({"ready": true}));

    // Other ports: the slices there are take them.
    let mut moved = two_families();
    moved[0]["ports"][0]["port"] = json!(5433);
    let slices = carried_out(observed(endpoints(&moved), slices));
    assert_eq!(show(&slices), ["db-0 IPv4 [5433] 10.0.0.1 !10.0.0.2", "db-1 IPv6 [5433] fd00::1"]);
    let one =
        json!([{"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 5433, "protocol": "TCP"}]}]);
    let slices = carried_out(observed(endpoints(&one), slices));
    assert_eq!(show(&slices), ["db-0 IPv4 [5433] 10.0.0.3"]);
    assert_eq!(show(&carried_out(observed(endpoints(&json!([])), slices))), [""; 0]);
}

#[test]
fn what_is_not_to_be_mirrored_is_not() {
    let slices = carried_out(observed(endpoints(&two_families()), Vec::new()));
    let gone = |observed: Observed| assert_eq!(show(&carried_out(observed)), [""; 0]);
    let mut skipped = endpoints(&two_families());
    skipped["metadata"]["labels"] = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    gone(observed(skipped, slices.clone()));
    let mut lock = endpoints(&two_families());
    lock["metadata"]["annotations"] = json!({"control-plane.alpha.kubernetes.io/leader": "{}"});
    gone(observed(lock, slices.clone()));
    let all = observed(endpoints(&two_families()), slices);
    gone(Observed { endpoints: None, ..all.clone() });
    gone(Observed { service: None, ..all.clone() });
    let mut selecting = Service::clone(all.service.as_ref().unwrap());
    selecting.spec.get_or_insert_default().selector = Some(BTreeMap::new());
    gone(Observed { service: Some(Arc::new(selecting)), ..all });
}

#[test]
fn too_many_addresses_are_left_out_and_told() {
    let addresses: Vec<_> = (0..ADDRESSES_PER_SUBSET_MAX + 2)
        .map(|number| json!({"ip": format!("10.1.{}.{}", number / 256, number % 256)}))
        .collect();
    let observed = observed(endpoints(&json!([{"addresses": addresses}])), Vec::new());
    let plan = plan(&observed);
    assert_eq!(
        plan.reports[0].message,
        "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 addresses were skipped"
    );
    assert_eq!(carried_out(observed)[0].endpoints.len(), ADDRESSES_PER_SUBSET_MAX);
}
