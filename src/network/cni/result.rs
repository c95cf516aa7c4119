//! What a plugin answers: pure.

use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// What a plugin says where it fails (CNI specification, section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{}{}", .msg, if .details.is_empty() { String::new() } else { format!("; {}", .details) })]
#[serde(default)]
pub(super) struct PluginError {
    pub(super) code: u32,
    pub(super) msg: String,
    pub(super) details: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    interfaces: Vec<Interface>,
    ips: Vec<Address>,
    /// Of versions before 0.3.
    ip4: Option<OldAddress>,
    ip6: Option<OldAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    sandbox: String,
}

#[derive(Deserialize)]
struct Address {
    address: String,
    interface: Option<usize>,
}

#[derive(Deserialize)]
struct OldAddress {
    ip: String,
}

/// The addresses of the pod's `interface` in the result of the last plugin, IPv4 first as the
/// plugins have them.
pub(super) fn addresses(result: &Value, interface: &str) -> Vec<IpAddr> {
    let Ok(answer) = Answer::deserialize(result) else { return Vec::new() };
    let is_the_pods = |address: &&Address| match address.interface {
        None => true,
        Some(index) => answer
            .interfaces
            .get(index)
            .is_some_and(|found| !found.sandbox.is_empty() && found.name == interface),
    };
    let ips = answer.ips.iter().filter(is_the_pods).map(|address| &address.address);
    let old = answer.ip4.iter().chain(&answer.ip6).map(|address| &address.ip);
    ips.chain(old).filter_map(|text| text.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(result: &Value, expected: &[&str]) {
        let found: Vec<_> = addresses(result, "eth0").iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn addresses_of_all_versions() {
        check(
            &json!({"ip4": {"ip": "10.1.0.5/16"}, "ip6": {"ip": "fd00::5/64"}}),
            &["10.1.0.5", "fd00::5"],
        );
        check(&json!({"ips": [{"version": "4", "address": "10.1.0.5/16"}]}), &["10.1.0.5"]);
        check(
            &json!({
                "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
                "ips": [{"interface": 0, "address": "10.1.0.1/16"}, {"interface": 1, "address": "10.1.0.5/16"}],
            }),
            &["10.1.0.5"],
        );
        check(&json!({}), &[]);
        check(&json!("nonsense"), &[]);
    }

    #[test]
    fn an_error_says_what_it_is_about() {
        let error: PluginError =
            serde_json::from_value(json!({"code": 7, "msg": "no", "details": "subnet"})).unwrap();
        assert_eq!(error.to_string(), "no; subnet");
    }
}
