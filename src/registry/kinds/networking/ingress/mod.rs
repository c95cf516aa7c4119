//! Ingresses: which Service gets an HTTP request from outside.
//!
//! Follows upstream pkg/registry/networking/ingress (v1.35). What is wrong with one is in
//! [`validate`].

mod validate;

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::ip_warning;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    Ingress, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressRule, IngressStatus,
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use validate::CLASS_ANNOTATION;

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

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let annotated =
            self.metadata.annotations.iter().flatten().any(|(name, _)| name == CLASS_ANNOTATION);
        let class = self.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
        let is_old_way = old.is_none() && annotated && class.is_none();
        let warning = format!(
            "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
        );
        is_old_way.then_some(warning).into_iter().collect()
    }

    fn status_warnings(&self) -> Vec<String> {
        let balancer = self.status.iter().flat_map(|status| &status.load_balancer);
        let served = balancer.flat_map(|balancer| balancer.ingress.iter().flatten());
        let path = FieldPath::new("status").child("loadBalancer").child("ingress");
        let warn = |(index, one): (usize, &IngressLoadBalancerIngress)| {
            ip_warning(&path.index(index), one.ip.as_deref()?)
        };
        served.enumerate().filter_map(warn).collect()
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
    fn what_is_deprecated_is_told() {
        let old = "kubernetes.io/ingress.class";
        let annotated = |spec: Value| {
            ingress(spec).with(json!({"metadata": {"annotations": {old: "nginx"}}})).decode()
        };
        let told = [format!(
            "annotation {old:?} is deprecated, please use 'spec.ingressClassName' instead"
        )];
        assert_eq!(annotated(json!({})).warnings(None), told);
        let both = annotated(json!({"ingressClassName": "nginx"}));
        assert_eq!(both.warnings(None), [""; 0]);
        assert_eq!(ingress(json!({})).decode().warnings(None), [""; 0]);
        assert_eq!(annotated(json!({})).warnings(Some(&*both)), [""; 0]);
    }

    #[test]
    fn addresses_that_are_written_oddly_are_told_of() {
        let at = |ip: &str| {
            let status = json!({"loadBalancer": {"ingress": [{"hostname": "a"}, {"ip": ip}]}});
            ingress(json!({})).with(json!({"status": status})).decode().status_warnings()
        };
        let path = "status.loadBalancer.ingress[1]";
        let odd = |ip: &str, better: &str| {
            format!(
                "{path}: non-standard IP address {ip:?} will be considered invalid in a future \
                 Kubernetes release: use {better:?}"
            )
        };
        assert_eq!(at("1.2.3.4"), [""; 0]);
        assert_eq!(at("fd00::1"), [""; 0]);
        assert_eq!(at("001.2.3.4"), [odd("001.2.3.4", "1.2.3.4")]);
        assert_eq!(at("::ffff:1.2.3.4"), [odd("::ffff:1.2.3.4", "1.2.3.4")]);
        let long = format!(
            "{path}: IPv6 address \"FD00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")"
        );
        assert_eq!(at("FD00:0::1"), [long]);
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
