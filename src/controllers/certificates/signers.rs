//! The signers of `kubernetes.io`, and what each of them signs (upstream
//! pkg/controller/certificates/signer/signer.go and pkg/apis/certificates/helpers.go, v1.35).

use super::names::NODE_PREFIX;
use crate::pki::{CertificateRequest, IssueError, Issuer, Terms, Usage};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use std::collections::BTreeSet;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Certificates last no longer than this (upstream's `--cluster-signing-duration`).
const LIFETIME_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);

/// And no shorter than this.
const LIFETIME_MIN: SignedDuration = SignedDuration::from_mins(10);

const NODES: &str = "system:nodes";

/// The authorities that sign.
#[derive(Clone, Debug)]
pub struct Signers {
    /// Signs for those who ask the API server.
    pub client: Issuer,
    /// Signs for those who are asked.
    pub server: Issuer,
}

/// What came of signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The certificate, as PEM.
    Issued(String),
    /// The signer signs nothing like this.
    Refused(String),
    /// It could not be signed now.
    Failed(String),
}

impl Signers {
    /// Signs an approved request; `None` where it is for somebody else's signer.
    pub(super) fn sign(
        &self,
        request: &CertificateSigningRequest,
        now: Timestamp,
        serial: u128,
    ) -> Option<Signed> {
        let signer = request.spec.signer_name.as_str();
        let issuer = match signer {
            CLIENT | KUBELET_CLIENT => &self.client,
            KUBELET_SERVING => &self.server,
            _ => return None,
        };
        let wanted = match CertificateRequest::parse(&request.spec.request.0) {
            Ok(wanted) => wanted,
            Err(error) => return Some(Signed::Failed(error.to_string())),
        };
        let usages = usages(request);
        if let Err(why) = check(signer, &wanted, &usages) {
            return Some(Signed::Refused(why));
        }
        let usages: Vec<Usage> = usages.iter().filter_map(|usage| parse(usage)).collect();
        let lifetime = lifetime(request.spec.expiration_seconds);
        let issued = issuer.issue(&wanted, &Terms { usages: &usages, lifetime, now, serial });
        Some(match issued {
            Ok(certificate) => Signed::Issued(certificate),
            Err(error @ (IssueError::Expired { .. } | IssueError::Key | IssueError::Sign(_))) => {
                Signed::Failed(error.to_string())
            }
        })
    }
}

pub(super) fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

fn parse(usage: &str) -> Option<Usage> {
    match usage {
        "digital signature" => Some(Usage::DigitalSignature),
        "key encipherment" => Some(Usage::KeyEncipherment),
        "client auth" => Some(Usage::ClientAuth),
        "server auth" => Some(Usage::ServerAuth),
        _ => None,
    }
}

/// How long a certificate lasts for which so many seconds were asked.
fn lifetime(asked_seconds: Option<i32>) -> SignedDuration {
    let asked = asked_seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds)));
    asked.map_or(LIFETIME_MAX, |asked| asked.clamp(LIFETIME_MIN, LIFETIME_MAX))
}

/// What a signer has against a request.
fn check(signer: &str, wanted: &CertificateRequest, usages: &BTreeSet<&str>) -> Result<(), String> {
    match signer {
        KUBELET_SERVING => check_serving(wanted, usages),
        KUBELET_CLIENT => check_kubelet_client(wanted, usages),
        _ => check_client(usages),
    }
}

/// Upstream `validAPIServerClientUsages`.
pub(super) fn check_client(usages: &BTreeSet<&str>) -> Result<(), String> {
    let odd = |usage: &&&str| {
        !matches!(**usage, "digital signature" | "key encipherment" | "client auth")
    };
    if let Some(usage) = usages.iter().find(odd) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    if usages.contains("client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".to_owned())
}

/// Upstream `ValidateKubeletClientCSR`.
pub(super) fn check_kubelet_client(
    wanted: &CertificateRequest,
    usages: &BTreeSet<&str>,
) -> Result<(), String> {
    check_organization(wanted)?;
    let why = match wanted {
        CertificateRequest { dns_names, .. } if !dns_names.is_empty() => {
            "DNS subjectAltNames are not allowed"
        }
        CertificateRequest { emails: 1.., .. } => "Email subjectAltNames are not allowed",
        CertificateRequest { ip_addresses, .. } if !ip_addresses.is_empty() => {
            "IP subjectAltNames are not allowed"
        }
        CertificateRequest { uris: 1.., .. } => "URI subjectAltNames are not allowed",
        _ => "",
    };
    if !why.is_empty() {
        return Err(why.to_owned());
    }
    check_name(wanted)?;
    check_usages(usages, "client auth")
}

/// Upstream `ValidateKubeletServingCSR`.
pub(super) fn check_serving(
    wanted: &CertificateRequest,
    usages: &BTreeSet<&str>,
) -> Result<(), String> {
    check_organization(wanted)?;
    let why = match wanted {
        CertificateRequest { ip_addresses, dns_names, .. }
            if ip_addresses.is_empty() && dns_names.is_empty() =>
        {
            "DNS or IP subjectAltName is required"
        }
        CertificateRequest { emails: 1.., .. } => "Email subjectAltNames are not allowed",
        CertificateRequest { uris: 1.., .. } => "URI subjectAltNames are not allowed",
        _ => "",
    };
    if !why.is_empty() {
        return Err(why.to_owned());
    }
    check_usages(usages, "server auth")?;
    check_name(wanted)
}

fn check_organization(wanted: &CertificateRequest) -> Result<(), String> {
    if wanted.organizations == [NODES] {
        return Ok(());
    }
    Err("subject organization is not system:nodes".to_owned())
}

fn check_name(wanted: &CertificateRequest) -> Result<(), String> {
    if wanted.common_name.starts_with(NODE_PREFIX) {
        return Ok(());
    }
    Err("subject common name does not begin with system:node:".to_owned())
}

/// Keys that are not RSA need no encipherment.
fn check_usages(usages: &BTreeSet<&str>, auth: &str) -> Result<(), String> {
    let short = BTreeSet::from([auth, "digital signature"]);
    let mut long = short.clone();
    long.insert("key encipherment");
    if *usages == short || *usages == long {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", long.into_iter().collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> CertificateRequest {
        CertificateRequest {
            common_name: "system:node:a".to_owned(),
            organizations: vec![NODES.to_owned()],
            ..CertificateRequest::default()
        }
    }

    #[track_caller]
    fn refused(signer: &str, wanted: &CertificateRequest, usages: &[&str], expected: &str) {
        let result = check(signer, wanted, &usages.iter().copied().collect());
        assert_eq!(result.err().unwrap_or_default(), expected);
    }

    #[test]
    fn clients_of_the_api_server() {
        let anybody = CertificateRequest::default();
        refused(CLIENT, &anybody, &["client auth", "digital signature"], "");
        let odd = "invalid usage for client certificate: server auth";
        refused(CLIENT, &anybody, &["client auth", "server auth"], odd);
        let missing = "missing required usage for client certificate: client auth";
        refused(CLIENT, &anybody, &["digital signature"], missing);
    }

    #[test]
    fn kubelets() {
        let (client, server) =
            (["client auth", "digital signature"], ["server auth", "digital signature"]);
        refused(KUBELET_CLIENT, &node(), &client, "");
        let usages = "usages did not match [client auth digital signature key encipherment]";
        refused(KUBELET_CLIENT, &node(), &server, usages);
        let with_name = CertificateRequest { dns_names: vec!["a".to_owned()], ..node() };
        refused(KUBELET_CLIENT, &with_name, &client, "DNS subjectAltNames are not allowed");
        refused(KUBELET_SERVING, &with_name, &server, "");
        refused(KUBELET_SERVING, &node(), &server, "DNS or IP subjectAltName is required");
        let stranger = CertificateRequest { organizations: Vec::new(), ..node() };
        let why = "subject organization is not system:nodes";
        refused(KUBELET_CLIENT, &stranger, &client, why);
        let named = CertificateRequest { common_name: "root".to_owned(), ..node() };
        let why = "subject common name does not begin with system:node:";
        refused(KUBELET_CLIENT, &named, &client, why);
    }

    #[test]
    fn lifetimes() {
        for (asked, hours) in [(None, 8_760), (Some(7_200), 2), (Some(i32::MAX), 8_760)] {
            assert_eq!(lifetime(asked), SignedDuration::from_hours(hours));
        }
        assert_eq!(lifetime(Some(1)), LIFETIME_MIN);
    }
}
