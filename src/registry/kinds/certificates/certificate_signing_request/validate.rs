//! What may be wrong with a request, and what an update of it may not do.
//!
//! Follows upstream pkg/apis/certificates/validation (v1.35). What upstream lets pass in an update
//! because an older release stored it so is not let pass: nothing was stored so here.

use super::conditions::{self, APPROVED, DENIED, FAILED};
use super::pem;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{diff, invalid, one_of, to_value};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use std::collections::BTreeSet;

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const EXPIRATION_SECONDS_MIN: i32 = 600;
const DOMAIN_BYTES_MAX: usize = 253;
/// Domain, `/`, and a path of a subdomain and a label.
const SIGNER_BYTES_MAX: usize = DOMAIN_BYTES_MAX + 1 + DOMAIN_BYTES_MAX + 1 + 63;

/// Sorted as the error lists them.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What an update may do besides keeping everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Nothing,
    /// Set the certificate, once.
    Certificate,
    /// Approve or deny.
    Decision,
}

/// `old` is absent for a new request.
pub(super) fn validate(
    request: &CertificateSigningRequest,
    old: Option<&CertificateSigningRequest>,
) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let spec = &request.spec;
    let mut errors = Vec::new();
    if let Err(problem) = pem::check_request(&spec.request.0) {
        errors.push(FieldError::invalid(&path.child("request"), to_value(&spec.request), problem));
    }
    errors.extend(validate_usages(spec.usages.as_deref().unwrap_or_default(), &path));
    errors.extend(validate_signer(&spec.signer_name, &path.child("signerName")));
    if let Some(seconds) = spec.expiration_seconds.filter(|one| *one < EXPIRATION_SECONDS_MIN) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    errors.extend(validate_conditions(request));
    let certificate = certificate(request);
    // What is stored is good, or may not be changed anyway.
    if certificate.is_some() && certificate != old.and_then(self::certificate) {
        let problem = certificate.and_then(|one| pem::check_certificates(&one.0).err());
        let path = FieldPath::new("status").child("certificate");
        let shown = "<certificate data>";
        errors.extend(problem.map(|problem| FieldError::invalid(&path, shown, problem)));
    }
    errors
}

fn certificate(request: &CertificateSigningRequest) -> Option<&ByteString> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    (!certificate.0.is_empty()).then_some(certificate)
}

fn validate_usages(usages: &[String], path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("usages");
    let mut errors = Vec::new();
    if usages.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        errors.extend(one_of(&path.index(index), usage, USAGES));
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in usages.iter().enumerate() {
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(&path.index(index), usage.as_str()));
        }
    }
    errors
}

/// `example.com/signer-name` (upstream `ValidateSignerName`, pkg/apis/core/validation, v1.35).
fn validate_signer(name: &str, path: &FieldPath) -> Vec<FieldError> {
    if name == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        return vec![FieldError::invalid(path, name, detail)];
    }
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let (Some((domain, rest)), 1) = (name.split_once('/'), name.matches('/').count()) else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(path, name, detail)];
    };
    let mut errors = Vec::new();
    if domain.len() > DOMAIN_BYTES_MAX {
        errors.push(FieldError::too_long(path, DOMAIN_BYTES_MAX));
    }
    errors.extend(validate_labels(domain, names::dns1123_label, path));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    errors.extend(validate_labels(rest, names::dns1123_subdomain, path));
    if name.len() > SIGNER_BYTES_MAX {
        errors.push(FieldError::too_long(path, SIGNER_BYTES_MAX));
    }
    errors
}

/// The problems of the first label that has any.
fn validate_labels(text: &str, rule: names::Rule, path: &FieldPath) -> Vec<FieldError> {
    let mut labels = text.split('.').map(|label| (label, rule(label)));
    let bad = labels.find(|(_, problems)| !problems.is_empty());
    let problems = bad.into_iter().flat_map(|(label, problems)| {
        problems.into_iter().map(move |problem| format!("validating label {label:?}: {problem}"))
    });
    invalid(path, text, problems.collect())
}

fn validate_conditions(request: &CertificateSigningRequest) -> Vec<FieldError> {
    let path = FieldPath::new("status").child("conditions");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions::all(request).iter().enumerate() {
        let own = path.index(index);
        let kind = condition.type_.as_str();
        if kind.is_empty() {
            errors.push(FieldError::required(&own.child("type"), ""));
        }
        let states: &[&str] = match [APPROVED, DENIED, FAILED].contains(&kind) {
            true => &["True"],
            false => &["False", "True", "Unknown"],
        };
        match condition.status.as_str() {
            "" => errors.push(FieldError::required(&own.child("status"), "")),
            status => errors.extend(one_of(&own.child("status"), status, states)),
        }
        let excludes = match kind {
            APPROVED => seen.contains(DENIED),
            DENIED => seen.contains(APPROVED),
            _ => false,
        };
        if excludes {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path, kind, detail));
        }
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&own.child("type"), kind));
        }
    }
    errors
}

pub(super) fn validate_update(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    allowed: Allowed,
) -> Vec<FieldError> {
    let path = FieldPath::new("status");
    let conditions_path = path.child("conditions");
    let mut errors = validate(new, Some(old));
    let of_type = conditions::of_type;
    for kind in [APPROVED, DENIED, FAILED] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&conditions_path, detail));
        }
    }
    let decisions = if allowed == Allowed::Decision { [].as_slice() } else { &[APPROVED, DENIED] };
    for kind in decisions {
        let (new, old) = (of_type(new, kind), of_type(old, kind));
        let detail = if new.len() > old.len() {
            format!("updates may not add a condition of type {kind:?}")
        } else if new.len() == old.len() && new != old {
            let difference = diff(&new.first(), &old.first());
            format!("updates may not modify a condition of type {kind:?}\n{difference}")
        } else {
            continue;
        };
        errors.push(FieldError::forbidden(&conditions_path, detail));
    }
    if certificate(new) != certificate(old) {
        let detail = match (allowed, certificate(old)) {
            (Allowed::Certificate, None) => return errors,
            (Allowed::Certificate, Some(_)) => {
                "updates may not modify existing certificate content"
            }
            _ => "updates may not set certificate content",
        };
        errors.push(FieldError::forbidden(&path.child("certificate"), detail));
    }
    errors
}
