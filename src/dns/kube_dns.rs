//! The Service by which some programs find the cluster's DNS. Pure.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who has this label is left alone by service proxies, ours and upstream's: the DNS is on every
/// node, and has no endpoints that somebody could be led to.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// `kube-system/kube-dns`, for those who know it by that name (`resolver
/// kube-dns.kube-system.svc.cluster.local` in many an nginx.conf), and so that nobody else gets the
/// address. `None` where the DNS is not at addresses of Services.
#[must_use]
pub fn kube_dns(addresses: &[IpAddr], service_ranges: &[IpNet]) -> Option<Service> {
    let is_inside = |address: &&IpAddr| service_ranges.iter().any(|it| it.contains(*address));
    let addresses: Vec<_> = addresses.iter().filter(is_inside).map(ToString::to_string).collect();
    let first = addresses.first()?.clone();
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: super::serve::PORT.into(),
        ..ServicePort::default()
    };
    let labels = [
        ("k8s-app", "kube-dns"),
        ("kubernetes.io/cluster-service", "true"),
        ("kubernetes.io/name", "CoreDNS"),
        (PROXY_NAME, "kinglet-dns"),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let policy = (addresses.len() > 1).then(|| "RequireDualStack".to_owned());
    Some(Service {
        metadata: ObjectMeta {
            namespace: Some("kube-system".to_owned()),
            name: Some("kube-dns".to_owned()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(first),
            cluster_ips: Some(addresses),
            ip_family_policy: policy,
            ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_has_the_addresses_of_the_dns() {
        let made = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|it| it.parse().unwrap()).collect();
            let ranges = ["10.43.0.0/16", "fd43::/112"].map(|range| range.parse().unwrap());
            kube_dns(&addresses, &ranges).and_then(|service| service.spec)
        };
        assert_eq!(made(&["169.254.20.10"]), None);
        let one = made(&["10.43.0.10", "169.254.20.10"]).unwrap();
        assert_eq!(one.cluster_ips, Some(vec!["10.43.0.10".to_owned()]));
        assert_eq!(one.ip_family_policy, None);
        let both = made(&["10.43.0.10", "fd43::a"]).unwrap();
        assert_eq!(both.ip_family_policy.as_deref(), Some("RequireDualStack"));
    }
}
