//! `/configz`: what this kubelet goes by, in the words of upstream's `KubeletConfiguration`
//! (k8s.io/kubelet config/v1beta1, v1.35). What it has no choice about is left out. Pure.

use crate::kubelet::Config;
use serde_json::{Value, json};

pub(super) fn render(config: &Config) -> Value {
    let taints: Vec<_> = config
        .node
        .taints
        .iter()
        .map(|taint| json!({ "key": taint.key, "value": taint.value, "effect": taint.effect }))
        .collect();
    json!({ "kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": true,
        "port": config.node.kubelet_port,
        "authentication": {
            "x509": {},
            "webhook": { "enabled": true, "cacheTTL": "2m0s" },
            "anonymous": { "enabled": false },
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": { "cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s" },
        },
        "staticPodPath": config.static_pods_dir,
        "podLogsDir": config.logs_dir,
        "clusterDomain": config.cluster_dns.domain,
        "clusterDNS": config.cluster_dns.addresses,
        "resolvConf": config.node_files.resolv_conf,
        "cgroupRoot": config.cgroup_root,
        "cgroupsPerQOS": true,
        "maxPods": config.node.pods_max,
        "registerNode": true,
        "registerWithTaints": taints,
        "streamingConnectionIdleTimeout": "4h0m0s",
        "enableSystemLogHandler": true,
        "enableDebuggingHandlers": true,
    } })
}
