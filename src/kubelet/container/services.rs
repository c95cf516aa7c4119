//! The variables that tell containers of Services: upstream pkg/kubelet/envvars and
//! `getServiceEnvVarMap` (pkg/kubelet/kubelet_pods.go, v1.35). Pure.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// The variables for a pod in that namespace: always of `default/kubernetes`, and of all Services
/// of its namespace where the pod wants links.
#[must_use]
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> Vec<(String, String)> {
    let wanted = services.iter().filter(|service| {
        let own = service.metadata.namespace.as_deref();
        let is_api =
            own == Some("default") && service.metadata.name.as_deref() == Some("kubernetes");
        is_api || (links && own == Some(namespace))
    });
    let mut variables: Vec<_> = wanted.flat_map(|service| of_service(service)).collect();
    // One Service's name with a port's name can be another's; the order has to be the same each time.
    variables.sort();
    variables.dedup_by(|later, earlier| later.0 == earlier.0);
    variables
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (Some(first), false) = (ports.first(), matches!(address, "" | "None")) else {
        return Vec::new();
    };
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut variables = vec![
        (format!("{name}_SERVICE_HOST"), address.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
        (format!("{name}_PORT"), url(address, first)),
    ];
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let variable = format!("{name}_SERVICE_PORT_{}", upper(port_name));
            variables.push((variable, port.port.to_string()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol(port).to_uppercase());
        variables.extend([
            (prefix.clone(), url(address, port)),
            (format!("{prefix}_PROTO"), protocol(port).to_lowercase()),
            (format!("{prefix}_PORT"), port.port.to_string()),
            (format!("{prefix}_ADDR"), address.to_owned()),
        ]);
    }
    variables
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn url(address: &str, port: &ServicePort) -> String {
    let protocol = protocol(port).to_lowercase();
    match address.parse::<Ipv6Addr>() {
        Ok(address) => format!("{protocol}://[{address}]:{}", port.port),
        Err(_) => format!("{protocol}://{address}:{}", port.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(namespace: &str, name: &str, spec: Value) -> Arc<Service> {
        let metadata = json!({ "namespace": namespace, "name": name });
        let object = json!({ "metadata": metadata, "spec": spec });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn services() -> Vec<Arc<Service>> {
        let api = json!({ "clusterIP": "10.43.0.1", "ports": [{ "name": "https", "port": 443 }] });
        let dns = json!({ "clusterIP": "fd00::5", "ports": [{ "port": 53, "protocol": "UDP" }] });
        let headless = json!({ "clusterIP": "None", "ports": [{ "port": 80 }] });
        vec![
            service("default", "kubernetes", api),
            service("shop", "my-dns", dns),
            service("shop", "headless", headless),
        ]
    }

    fn render(namespace: &str, links: bool) -> Vec<String> {
        let variables = variables(&services(), namespace, links);
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn the_api_is_always_told_of() {
        let expected = [
            "KUBERNETES_PORT=tcp://10.43.0.1:443",
            "KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443",
            "KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1",
            "KUBERNETES_PORT_443_TCP_PORT=443",
            "KUBERNETES_PORT_443_TCP_PROTO=tcp",
            "KUBERNETES_SERVICE_HOST=10.43.0.1",
            "KUBERNETES_SERVICE_PORT=443",
            "KUBERNETES_SERVICE_PORT_HTTPS=443",
        ];
        assert_eq!(render("shop", false), expected);
        assert_eq!(render("other", true), expected);
    }

    #[test]
    fn links_tell_of_the_namespaces_own() {
        let own: Vec<_> = render("shop", true).split_off(8);
        assert_eq!(
            own,
            [
                "MY_DNS_PORT=udp://[fd00::5]:53",
                "MY_DNS_PORT_53_UDP=udp://[fd00::5]:53",
                "MY_DNS_PORT_53_UDP_ADDR=fd00::5",
                "MY_DNS_PORT_53_UDP_PORT=53",
                "MY_DNS_PORT_53_UDP_PROTO=udp",
                "MY_DNS_SERVICE_HOST=fd00::5",
                "MY_DNS_SERVICE_PORT=53",
            ]
        );
    }
}
