//! What the components call themselves when they ask: the names by which upstream's are known, since
//! they are also the managers of the fields that they write.

use crate::apiserver::Identity;

pub(super) const KINGLET: &str = concat!("kinglet/", env!("CARGO_PKG_VERSION"));
pub(super) const KUBELET: &str = concat!("kubelet/", env!("CARGO_PKG_VERSION"));
const API_SERVER: &str = concat!("kube-apiserver/", env!("CARGO_PKG_VERSION"));
pub(super) const CONTROLLERS: &str = concat!("kube-controller-manager/", env!("CARGO_PKG_VERSION"));
const PROXY: &str = concat!("kube-proxy/", env!("CARGO_PKG_VERSION"));
const SCHEDULER: &str = concat!("kube-scheduler/", env!("CARGO_PKG_VERSION"));

/// What whoever is this calls itself.
pub(super) fn of(identity: &Identity) -> &'static str {
    match identity.user() {
        "system:apiserver" => API_SERVER,
        "system:kube-proxy" => PROXY,
        "system:kube-scheduler" => SCHEDULER,
        user if user.starts_with("system:node:") => KUBELET,
        _ => KINGLET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_go_by_their_known_names() {
        for (identity, expected) in [
            (Identity::api_server(), "kube-apiserver"),
            (Identity::node("a"), "kubelet"),
            (Identity::service_account("kube-system", "coredns"), "kinglet"),
            (Identity::new("system:kube-scheduler", &[]), "kube-scheduler"),
            (Identity::new("somebody", &[]), "kinglet"),
        ] {
            assert_eq!(of(&identity).split('/').next(), Some(expected));
        }
    }
}
