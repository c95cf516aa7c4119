//! The file that tells a client where the cluster is, whom to trust and who it is.

use super::Leaf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig with everything in it, under the name `default` as k3s writes it.
#[must_use]
pub fn kubeconfig(server: &str, authority: &str, client: &Leaf) -> String {
    let encoded = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: {server}
    certificate-authority-data: {}
users:
- name: default
  user:
    client-certificate-data: {}
    client-key-data: {}
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
preferences: {{}}
",
        encoded(authority),
        encoded(&client.certificate),
        encoded(&client.key),
    )
}
