//! The decision what the status of an Ingress is to be, and whether its class has to be made.

use crate::api::ingress::{CLASS, CONTROLLER, DEFAULT_CLASS, is_served};
use crate::control::{Plan, Write};
use k8s_openapi::api::networking::v1::{
    Ingress, IngressClass, IngressClassSpec, IngressLoadBalancerIngress,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub enum Observed {
    Class {
        classes: Vec<Arc<IngressClass>>,
    },
    Ingress {
        ingress: Arc<Ingress>,
        /// The classes that are served here.
        served: BTreeSet<String>,
        /// Where.
        addresses: BTreeSet<IpAddr>,
    },
}

pub fn plan(observed: &Observed) -> Plan {
    match observed {
        Observed::Class { classes } => class(classes),
        Observed::Ingress { ingress, served, addresses } => status(ingress, served, addresses),
    }
}

/// The class is the default, unless there is one already.
fn class(classes: &[Arc<IngressClass>]) -> Plan {
    if classes.iter().any(|class| class.metadata.name.as_deref() == Some(CLASS)) {
        return Plan::default();
    }
    let is_default = |class: &Arc<IngressClass>| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
    };
    let default = BTreeMap::from([(DEFAULT_CLASS.to_owned(), "true".to_owned())]);
    let class = IngressClass {
        metadata: ObjectMeta {
            name: Some(CLASS.to_owned()),
            annotations: (!classes.iter().any(is_default)).then_some(default),
            ..ObjectMeta::default()
        },
        spec: Some(IngressClassSpec {
            controller: Some(CONTROLLER.to_owned()),
            ..IngressClassSpec::default()
        }),
    };
    Plan::of([Write::create(&class)])
}

/// What others serve, others say.
fn status(ingress: &Ingress, served: &BTreeSet<String>, addresses: &BTreeSet<IpAddr>) -> Plan {
    if !is_served(ingress, served) || ingress.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let wanted: Vec<IngressLoadBalancerIngress> = addresses
        .iter()
        .map(|address| IngressLoadBalancerIngress {
            ip: Some(address.to_string()),
            ..IngressLoadBalancerIngress::default()
        })
        .collect();
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let has = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    if has == wanted {
        return Plan::default();
    }
    let mut changed = ingress.clone();
    let balancer = changed.status.get_or_insert_default().load_balancer.get_or_insert_default();
    balancer.ingress = Some(wanted).filter(|wanted| !wanted.is_empty());
    Plan::of([Write::update_status(&changed)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn the_class_is_made_once_and_is_the_default_where_there_is_none() {
        let check = |classes: &[Value], expected: Option<bool>| {
            let classes = classes.iter().cloned().map(object).collect();
            let plan = plan(&Observed::Class { classes });
            let made = plan.writes().next().map(|write| {
                let body = write.body();
                assert_eq!(body["spec"]["controller"], CONTROLLER);
                body["metadata"]["annotations"][DEFAULT_CLASS] == "true"
            });
            assert_eq!(made, expected);
        };
        let class = |name: &str, default: &str| json!({ "metadata": { "name": name, "annotations": { DEFAULT_CLASS: default } } });
        check(&[], Some(true));
        check(&[class("nginx", "false")], Some(true));
        check(&[class("nginx", "true")], Some(false));
        check(&[class(CLASS, "false")], None);
    }

    /// The addresses that are written for an Ingress with these, where any are.
    fn written(class: &str, has: &[&str], addresses: &[&str]) -> Option<Value> {
        let has: Vec<_> = has.iter().map(|ip| json!({ "ip": ip })).collect();
        let ingress = object(json!({
            "metadata": { "namespace": "n", "name": "i", "resourceVersion": "7" },
            "spec": { "ingressClassName": class },
            "status": { "loadBalancer": { "ingress": has } },
        }));
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let served = BTreeSet::from([CLASS.to_owned()]);
        let plan = plan(&Observed::Ingress { ingress, served, addresses });
        plan.writes().next().map(|write| write.body()["status"]["loadBalancer"]["ingress"].clone())
    }

    #[test]
    fn the_status_has_the_addresses_of_nodes() {
        let (a, b) = ("192.0.2.1", "192.0.2.2");
        assert_eq!(written(CLASS, &[], &[b, a]), Some(json!([{ "ip": a }, { "ip": b }])));
        assert_eq!(written(CLASS, &[a], &[a]), None);
        assert_eq!(written(CLASS, &[a], &[]), Some(Value::Null));
        assert_eq!(written("other", &[], &[a]), None);
    }
}
