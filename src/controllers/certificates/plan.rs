//! The decision about a request: approve it, write the certificate into it, or remove it.

use super::names::{NODE_PREFIX, Verdict};
use super::signers::{
    CLIENT, KUBELET_CLIENT, KUBELET_SERVING, Signed, check_client, check_kubelet_client,
    check_serving, usages,
};
use crate::api::node::{AGENT_PREFIX, AGENTS};
use crate::control::{Plan, Write};
use crate::pki::{CertificateRequest, not_after};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Arc;
use std::time::Duration;

/// What has been answered goes after this long, and what has not after [`PENDING_TIME`] (upstream
/// pkg/controller/certificates/cleaner, v1.35).
const ANSWERED_TIME: SignedDuration = SignedDuration::from_hours(1);
const PENDING_TIME: SignedDuration = SignedDuration::from_hours(24);

/// What could not be found out or signed is tried again after this long.
const RETRY: Duration = Duration::from_secs(30);

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub request: Arc<CertificateSigningRequest>,
    /// Of the kinds that the request is, in order, until one is granted.
    pub permissions: Vec<(NodeRequest, Permission)>,
    /// Whether whoever asks may have the name that they ask for, where they may ask.
    pub verdict: Verdict,
    /// What came of signing it, where it is approved and for one of our signers.
    pub signed: Option<Signed>,
    pub now: Timestamp,
}

/// Whether somebody may have a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    Granted,
    Denied,
    Unknown { why: String },
}

/// Requests that are approved without anybody being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRequest {
    /// A node asks for itself.
    Own,
    /// Somebody asks for a node.
    Foreign,
    /// A node asks for its parts beside the kubelet.
    Agent,
    /// A node asks for what its kubelet's port shows.
    Serving,
}

impl NodeRequest {
    /// What whoever asks must be allowed to create. The last is one that upstream once had.
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::Own | Self::Agent => "selfnodeclient",
            Self::Foreign => "nodeclient",
            Self::Serving => "selfnodeserver",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Own => {
                "Auto approving self kubelet client certificate after SubjectAccessReview."
            }
            Self::Foreign => "Auto approving kubelet client certificate after SubjectAccessReview.",
            Self::Agent => {
                "Auto approving client certificate of the node's agent after SubjectAccessReview."
            }
            Self::Serving => {
                "Auto approving self kubelet server certificate after SubjectAccessReview."
            }
        }
    }
}

/// In whose hands a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its kind is known: those who may have it get it.
    Recognized(Vec<NodeRequest>),
    /// Its signer has it.
    Approved,
    /// Somebody else has to decide.
    Waiting,
    /// It has its answer.
    Done,
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    status.and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    conditions(request).iter().find(|condition| condition.type_ == kind)
}

fn certificate(request: &CertificateSigningRequest) -> Option<&ByteString> {
    let certificate = request.status.as_ref()?.certificate.as_ref();
    certificate.filter(|certificate| !certificate.0.is_empty())
}

pub(super) fn stage(request: &CertificateSigningRequest) -> Stage {
    let has = |kind: &str| condition(request, kind).is_some();
    if certificate(request).is_some() || has("Denied") || has("Failed") {
        return Stage::Done;
    }
    if has("Approved") {
        return Stage::Approved;
    }
    match recognize(request) {
        kinds if kinds.is_empty() => Stage::Waiting,
        kinds => Stage::Recognized(kinds),
    }
}

/// Upstream `recognizers` (pkg/controller/certificates/approver/sarapprove.go), and those of our own.
fn recognize(request: &CertificateSigningRequest) -> Vec<NodeRequest> {
    let Ok(wanted) = CertificateRequest::parse(&request.spec.request.0) else {
        return Vec::new();
    };
    let usages = usages(request);
    let user = request.spec.username.as_deref().unwrap_or_default();
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT if check_kubelet_client(&wanted, &usages).is_ok() => {
            let own = (user == wanted.common_name).then_some(NodeRequest::Own);
            own.into_iter().chain([NodeRequest::Foreign]).collect()
        }
        CLIENT if check_client(&usages).is_ok() && is_of_agent(&wanted, user) => {
            vec![NodeRequest::Agent]
        }
        KUBELET_SERVING
            if check_serving(&wanted, &usages).is_ok() && user == wanted.common_name =>
        {
            vec![NodeRequest::Serving]
        }
        _ => Vec::new(),
    }
}

fn is_of_agent(wanted: &CertificateRequest, user: &str) -> bool {
    let node = user.strip_prefix(NODE_PREFIX);
    node.is_some()
        && wanted.common_name.strip_prefix(AGENT_PREFIX) == node
        && wanted.organizations == [AGENTS]
        && wanted.alternative_names.is_none()
}

pub fn plan(observed: &Observed) -> Plan {
    let request = &*observed.request;
    let Observed { permissions, verdict, signed, now, .. } = observed;
    let goes_at = goes_at(request);
    if request.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    if goes_at.is_some_and(|at| at < *now) {
        return Plan::of([Write::delete(request)]);
    }
    let granted = permissions.iter().find(|(_, permission)| *permission == Permission::Granted);
    let mut plan = Plan::default();
    let mut is_unsettled =
        permissions.iter().any(|(_, it)| matches!(it, Permission::Unknown { .. }));
    let mut looks_at = goes_at;
    match (granted, verdict) {
        (None, _) | (Some((NodeRequest::Serving, _)), Verdict::Taken { .. }) => {}
        (Some(_), Verdict::Taken { why }) => {
            plan.then([Write::replace(&denied(request, why), Some("approval"))]);
        }
        (Some(_), Verdict::Contested { until }) => looks_at = Some(*until),
        (Some((kind, _)), Verdict::Free) => {
            plan.then([Write::replace(&approved(request, *kind), Some("approval"))]);
        }
    }
    match signed {
        Some(Signed::Issued(certificate)) => {
            let mut answered = request.clone();
            let status = answered.status.get_or_insert_default();
            status.certificate = Some(ByteString(certificate.clone().into_bytes()));
            plan.then([Write::update_status(&answered)]);
        }
        Some(Signed::Refused(why)) => {
            plan.then([Write::update_status(&refused(request, why, *now))]);
        }
        Some(Signed::Failed(_)) => is_unsettled = true,
        None => {}
    }
    let until_then = looks_at.map(|at| {
        let left = Duration::try_from(at.duration_since(*now)).unwrap_or_default();
        left + Duration::from_secs(1)
    });
    plan.recheck_after = if is_unsettled { Some(RETRY) } else { until_then };
    plan
}

fn approved(request: &CertificateSigningRequest, kind: NodeRequest) -> CertificateSigningRequest {
    let condition = CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(kind.message().to_owned()),
        ..CertificateSigningRequestCondition::default()
    };
    with(request, condition)
}

fn denied(request: &CertificateSigningRequest, why: &str) -> CertificateSigningRequest {
    let condition = CertificateSigningRequestCondition {
        type_: "Denied".to_owned(),
        status: "True".to_owned(),
        reason: Some("NameTaken".to_owned()),
        message: Some(why.to_owned()),
        ..CertificateSigningRequestCondition::default()
    };
    with(request, condition)
}

fn refused(
    request: &CertificateSigningRequest,
    why: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let condition = CertificateSigningRequestCondition {
        type_: "Failed".to_owned(),
        status: "True".to_owned(),
        reason: Some("SignerValidationFailure".to_owned()),
        message: Some(why.to_owned()),
        last_update_time: Some(Time(now)),
        ..CertificateSigningRequestCondition::default()
    };
    with(request, condition)
}

fn with(
    request: &CertificateSigningRequest,
    condition: CertificateSigningRequestCondition,
) -> CertificateSigningRequest {
    let mut changed = request.clone();
    let status = changed.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(condition);
    changed
}

/// When nobody needs the request any more.
fn goes_at(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let since = |kind: &str| condition(request, kind)?.last_update_time.as_ref().map(|at| at.0);
    let answered = |at: Timestamp| at + ANSWERED_TIME;
    let is_issued = certificate(request).is_some();
    let ends = certificate(request).filter(|_| condition(request, "Approved").is_some());
    let of_approved = since("Approved").map(|at| match is_issued {
        true => at + ANSWERED_TIME,
        false => at + PENDING_TIME,
    });
    let created = request.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let of_pending = created.filter(|_| conditions(request).is_empty());
    [
        of_pending.map(|at| at + PENDING_TIME),
        since("Denied").map(answered),
        since("Failed").map(answered),
        of_approved,
        ends.and_then(|certificate| not_after(&certificate.0)),
    ]
    .into_iter()
    .flatten()
    .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CREATED: &str = "2026-01-01T00:00:00Z";

    fn observed(status: &Value, minutes: i64) -> Observed {
        let request = json!({
            "metadata": {"name": "r", "uid": "u", "creationTimestamp": CREATED},
            "spec": {"request": "", "signerName": "kubernetes.io/kube-apiserver-client"},
            "status": status,
        });
        let created: Timestamp = CREATED.parse().unwrap();
        Observed {
            request: Arc::new(serde_json::from_value(request).unwrap()),
            permissions: Vec::new(),
            verdict: Verdict::Free,
            signed: None,
            now: created + SignedDuration::from_mins(minutes),
        }
    }

    #[track_caller]
    fn check(observed: &Observed, expected: &str) {
        let plan = plan(observed);
        let writes: Vec<String> = plan
            .writes()
            .map(|write| {
                let status = write.body()["status"].clone();
                let last = status["conditions"].as_array().and_then(|all| all.last().cloned());
                let told = last.map(|it| format!(" {}: {}", it["type"], it["message"]));
                format!("{:?}{}", write.verb(), told.unwrap_or_default())
            })
            .collect();
        assert_eq!(writes.join("; "), expected);
    }

    fn told(kind: &str) -> Value {
        json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": CREATED}]})
    }

    #[test]
    fn whoever_may_have_it_is_approved() {
        let mut case = observed(&json!({}), 0);
        case.permissions = vec![
            (NodeRequest::Own, Permission::Denied),
            (NodeRequest::Foreign, Permission::Granted),
        ];
        check(
            &case,
            "Update \"Approved\": \"Auto approving kubelet client certificate after SubjectAccessReview.\"",
        );
        case.permissions.truncate(1);
        check(&case, "");
        case.permissions = vec![(NodeRequest::Foreign, Permission::Granted)];
        case.verdict = Verdict::Taken { why: "the name is taken".to_owned() };
        check(&case, "Update \"Denied\": \"the name is taken\"");
        // What a port may show, somebody else may still decide.
        case.permissions = vec![(NodeRequest::Serving, Permission::Granted)];
        check(&case, "");
        let until = case.now + SignedDuration::from_secs(9);
        case.permissions = vec![(NodeRequest::Foreign, Permission::Granted)];
        case.verdict = Verdict::Contested { until };
        check(&case, "");
        assert_eq!(plan(&case).recheck_after, Some(Duration::from_secs(10)));
        case.verdict = Verdict::Free;
        case.permissions = vec![(NodeRequest::Own, Permission::Unknown { why: "away".to_owned() })];
        assert_eq!(plan(&case).recheck_after, Some(RETRY));
    }

    #[test]
    fn what_was_approved_is_signed_or_refused() {
        let mut case = observed(&told("Approved"), 0);
        assert_eq!(stage(&case.request), Stage::Approved);
        case.signed = Some(Signed::Issued("PEM".to_owned()));
        let plan = plan(&case);
        let body = plan.writes().next().unwrap().body();
        assert_eq!(body["status"]["certificate"], "UEVN");
        case.signed = Some(Signed::Refused("odd".to_owned()));
        check(&case, "Update \"Failed\": \"odd\"");
    }

    #[test]
    fn requests_go_when_they_have_had_their_time() {
        let hour = 60;
        check(&observed(&json!({}), 23 * hour), "");
        check(&observed(&json!({}), 25 * hour), "Delete");
        check(&observed(&told("Denied"), 59), "");
        check(&observed(&told("Denied"), 61), "Delete");
        check(&observed(&told("Failed"), 61), "Delete");
        check(&observed(&told("Approved"), 61), "");
        check(&observed(&told("Approved"), 25 * hour), "Delete");
        let mut issued = told("Approved");
        issued["certificate"] = json!("UEVN");
        check(&observed(&issued, 59), "");
        check(&observed(&issued, 61), "Delete");
        let after = plan(&observed(&told("Denied"), 0)).recheck_after;
        assert_eq!(after, Some(Duration::from_secs(3_601)));
    }
}
