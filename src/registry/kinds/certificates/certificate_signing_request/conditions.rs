//! The conditions of a request: what was decided, when, and how that is shown.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const APPROVED: &str = "Approved";
pub(super) const DENIED: &str = "Denied";
pub(super) const FAILED: &str = "Failed";

pub(super) fn all(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    status.and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn all_mut(request: &mut CertificateSigningRequest) -> &mut [CertificateSigningRequestCondition] {
    let status = request.status.as_mut();
    status.and_then(|status| status.conditions.as_deref_mut()).unwrap_or_default()
}

pub(super) fn of_type<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Vec<&'a CertificateSigningRequestCondition> {
    all(request).iter().filter(|condition| condition.type_ == kind).collect()
}

/// Who writes the status may leave out details of what was decided (upstream
/// `preserveConditionInstances`).
pub(super) fn keep_decisions(
    request: &mut CertificateSigningRequest,
    old: &CertificateSigningRequest,
) {
    for kind in [APPROVED, DENIED] {
        let decided = of_type(old, kind);
        if of_type(request, kind).len() != decided.len() {
            continue;
        }
        let repeated = all_mut(request).iter_mut().filter(|condition| condition.type_ == kind);
        for (condition, decided) in repeated.zip(decided) {
            condition.clone_from(decided);
        }
    }
}

/// Upstream `populateConditionTimestamps`.
pub(super) fn stamp(
    request: &mut CertificateSigningRequest,
    old: &CertificateSigningRequest,
    now: Timestamp,
) {
    for condition in all_mut(request) {
        condition.last_update_time.get_or_insert(Time(now));
        let before = all(old).iter().find(|before| {
            before.type_ == condition.type_
                && before.status == condition.status
                && before.last_transition_time.is_some()
        });
        let since = before.and_then(|before| before.last_transition_time.clone());
        condition.last_transition_time.get_or_insert(since.unwrap_or(Time(now)));
    }
}

/// `Approved,Issued` (upstream `extractCSRStatus`, pkg/printers/internalversion, v1.35).
pub(super) fn summary(request: &CertificateSigningRequest) -> String {
    let has = |kind: &str| !of_type(request, kind).is_empty();
    let mut words = vec![match (has(DENIED), has(APPROVED)) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }];
    if has(FAILED) {
        words.push("Failed");
    }
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    if certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        words.push("Issued");
    }
    words.join(",")
}
