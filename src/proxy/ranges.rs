//! Which addresses Services can have: what this node was started with, and what ServiceCIDRs have been
//! made since. Pure.
//!
//! Ranges count from when they are made to when they are gone, ready or not: Services may have had
//! addresses of one that is being deleted (upstream's proxies do so as well, `OnServiceCIDRsChanged`,
//! pkg/proxy/nftables/proxier.go, v1.35).

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::sync::Arc;

/// As few ranges as say it, none of which overlap: the kernel takes no others.
pub(super) fn of_services(flags: &[IpNet], objects: &[Arc<ServiceCIDR>]) -> Vec<IpNet> {
    let specs = objects.iter().filter_map(|object| object.spec.as_ref());
    let texts = specs.flat_map(|spec| spec.cidrs.iter().flatten());
    let made = texts.filter_map(|text| text.parse().ok());
    let all: Vec<IpNet> = flags.iter().copied().chain(made).collect();
    IpNet::aggregate(&all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_of_flags_and_of_objects_are_one() {
        let check = |objects: &[&[&str]], expected: &str| {
            let object = |cidrs: &&[&str]| json!({"spec": {"cidrs": cidrs}});
            let objects: Vec<_> = objects.iter().map(object).collect();
            let objects: Vec<_> = objects
                .into_iter()
                .map(|object| Arc::new(serde_json::from_value(object).unwrap()))
                .collect();
            let flags = ["10.43.0.0/16".parse().unwrap(), "fd43::/112".parse().unwrap()];
            let ranges = of_services(&flags, &objects);
            let ranges: Vec<_> = ranges.iter().map(IpNet::to_string).collect();
            assert_eq!(ranges.join(" "), expected, "{objects:?}");
        };
        check(&[], "10.43.0.0/16 fd43::/112");
        // The one that the API server makes of its flags.
        check(&[&["10.43.0.0/16", "fd43::/112"]], "10.43.0.0/16 fd43::/112");
        check(&[&["10.96.0.0/24"], &["odd"]], "10.43.0.0/16 10.96.0.0/24 fd43::/112");
        // Ranges may overlap.
        check(&[&["10.43.8.0/24"], &["10.42.0.0/15"]], "10.42.0.0/15 fd43::/112");
    }
}
