//! What stands in a pod's `/etc/hosts`: upstream `managedHostsFileContent` and
//! `nodeHostsFileContent` (pkg/kubelet/kubelet_pods.go, v1.35). Pure.

use crate::kubelet::container::sandbox::{domain, hostname};
use crate::kubelet::pod::BoundPod;
use std::net::IpAddr;

/// `node_hosts` is the node's own file, which pods on its network see.
#[must_use]
pub fn hosts(
    pod: &BoundPod,
    addresses: &[IpAddr],
    cluster_domain: &str,
    node_hosts: &str,
) -> String {
    let mut text = if pod.uses_node_network() {
        format!("# Kubernetes-managed hosts file (host network).\n{node_hosts}")
    } else {
        own(pod, addresses, cluster_domain)
    };
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

fn own(pod: &BoundPod, addresses: &[IpAddr], cluster_domain: &str) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n\
        127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\n\
        fe00::0\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\n\
        fe00::2\tip6-allrouters\n"
        .to_owned();
    let name = hostname(pod);
    let full = domain(pod, cluster_domain).map(|domain| format!("{name}.{domain}\t"));
    for address in addresses {
        text.push_str(&format!("{address}\t{}{name}\n", full.as_deref().unwrap_or_default()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn made(spec: Value) -> String {
        let mut spec = spec;
        spec["containers"] = json!([{ "name": "a" }]);
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u1" });
        let object = json!({ "metadata": metadata, "spec": spec });
        let pod = BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap();
        let addresses = ["10.42.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        hosts(&pod, &addresses, "cluster.local", "127.0.0.1 localhost\n")
    }

    #[test]
    fn the_pod_knows_itself() {
        let text = made(json!({}));
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.42.0.7\tweb\nfd00::7\tweb\n"), "{text}");
        let text = made(json!({ "hostname": "h", "subdomain": "s" }));
        assert!(text.contains("10.42.0.7\th.s.shop.svc.cluster.local\th\n"), "{text}");
    }

    #[test]
    fn aliases_come_last_and_the_node_s_file_is_kept() {
        let aliases = json!([{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }]);
        let text = made(json!({ "hostNetwork": true, "hostAliases": aliases }));
        assert_eq!(
            text,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\
             \n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
        );
    }
}
