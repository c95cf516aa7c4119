//! Ingresses: which Service gets an HTTP request from outside.
//!
//! Follows upstream pkg/registry/networking/ingress (v1.35). What is wrong with one is in
//! [`validate`].

mod validate;

use crate::api::FieldError;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    Ingress, IngressLoadBalancerStatus, IngressRule, IngressStatus,
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// More hosts than this are counted, not shown.
const HOSTS_SHOWN_MAX: usize = 3;

impl Resource for Ingress {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "ingress",
        short_names: &[Cow::Borrowed("ing")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::INGRESS;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Class", "IngressClass that serves it."),
        Column::text("Hosts", "Hosts that requests are for."),
        Column::text("Address", "Where requests come in."),
        Column::text("Ports", "Ports where requests come in."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.rules.take_if(|rules| rules.is_empty());
        spec.tls.take_if(|tls| tls.is_empty());
        for tls in spec.tls.iter_mut().flatten() {
            tls.hosts.take_if(|hosts| hosts.is_empty());
        }
        let balancer = self.status.get_or_insert_default().load_balancer.get_or_insert_default();
        balancer.ingress.take_if(|ingress| ingress.is_empty());
    }

    fn prepare_create(&mut self) {
        let load_balancer = Some(IngressLoadBalancerStatus::default());
        self.status = Some(IngressStatus { load_balancer });
    }

    fn validate(&self) -> Vec<FieldError> {
        validate::validate(&self.spec.clone().unwrap_or_default())
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate::validate_class(self).into_iter().collect()
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        validate::validate_status(self, old)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let has_tls = spec.tls.as_ref().is_some_and(|tls| !tls.is_empty());
        vec![
            cells::name(&self.metadata),
            spec.ingress_class_name.unwrap_or_else(|| cells::NONE.to_owned()).into(),
            hosts(spec.rules.as_deref().unwrap_or_default()).into(),
            addresses(self.status.as_ref()).into(),
            (if has_tls { "80, 443" } else { "80" }).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

/// Upstream `formatHosts` (pkg/printers/internalversion).
fn hosts(rules: &[IngressRule]) -> String {
    let named = rules.iter().enumerate().filter_map(|(index, rule)| {
        let host = rule.host.as_deref().filter(|host| !host.is_empty())?;
        Some((index, host))
    });
    let shown: Vec<_> = named.take(HOSTS_SHOWN_MAX).collect();
    let names: Vec<_> = shown.iter().map(|(_, host)| *host).collect();
    match shown.last() {
        None => "*".to_owned(),
        Some((last, _)) if shown.len() == HOSTS_SHOWN_MAX && last + 1 < rules.len() => {
            format!("{} + {} more...", names.join(","), rules.len() - HOSTS_SHOWN_MAX)
        }
        Some(_) => names.join(","),
    }
}

fn addresses(status: Option<&IngressStatus>) -> String {
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let all: BTreeSet<_> = balancer
        .iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        .filter_map(|one| {
            let ip = one.ip.as_deref().filter(|ip| !ip.is_empty());
            ip.or_else(|| one.hostname.as_deref().filter(|name| !name.is_empty()))
        })
        .collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::Case;
    use serde_json::{Value, json};

    fn ingress(spec: Value) -> Case {
        let metadata = json!({"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"});
        Case::of("ingresses", json!({"metadata": metadata, "spec": spec}))
    }

    #[test]
    fn cells() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let hosts = |names: &[&str]| {
            let rules: Vec<_> = names.iter().map(|name| json!({"host": name})).collect();
            json!({"rules": rules})
        };
        for (spec, expected) in [
            (json!({}), json!(["web", "<none>", "*", "", "80", "10m"])),
            (
                json!({"ingressClassName": "c", "tls": [{}], "rules": [{"host": "a"}, {}]}),
                json!(["web", "c", "a", "", "80, 443", "10m"]),
            ),
            (hosts(&["a", "b", "c"]), json!(["web", "<none>", "a,b,c", "", "80", "10m"])),
            (
                hosts(&["a", "b", "", "c", "d", "e"]),
                json!(["web", "<none>", "a,b,c + 3 more...", "", "80", "10m"]),
            ),
        ] {
            assert_eq!(json!(ingress(spec).decode().row(now)), expected);
        }
        let served = ingress(json!({})).with(json!({"status": {"loadBalancer": {"ingress": [
            {"ip": "9.9.9.9", "hostname": "z"}, {"hostname": "b.c"}, {},
        ]}}}));
        assert_eq!(served.decode().row(now)[3], "9.9.9.9,b.c");
    }

    #[test]
    fn a_new_one_is_not_served_yet() {
        let given = ingress(json!({"rules": [], "tls": []}))
            .with(json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}));
        let created = given.created().to_value();
        assert_eq!(created["status"], json!({"loadBalancer": {}}));
        assert_eq!(created["spec"], json!({}));
    }
}
