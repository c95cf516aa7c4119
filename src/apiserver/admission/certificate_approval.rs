//! Whoever may write about requests for certificates may not for that reason decide for every signer,
//! or sign as one (upstream `CertificateApproval` and `CertificateSigning`,
//! plugin/pkg/admission/certificates, v1.35).

use super::super::authz::Decision;
use super::super::rbac::Action;
use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Plugin, Warnings};
use crate::api::status::Status;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub(super) const APPROVAL: Plugin = Plugin {
    name: "CertificateApproval",
    mutation: None,
    judgement: Some(Judgement { wants: |_| Vec::new(), judge: judge_approval }),
};

pub(super) const SIGNING: Plugin = Plugin {
    name: "CertificateSigning",
    mutation: None,
    judgement: Some(Judgement { wants: |_| Vec::new(), judge: judge_signing }),
};

fn judge_approval(
    attributes: &Attributes<'_>,
    _facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let decided = attributes.updating::<CertificateSigningRequest>(Part::Of("approval"));
    match decided {
        Some((_, old)) if !may(attributes, "approve", &old.spec.signer_name) => {
            let signer = &old.spec.signer_name;
            let why = format!("user not permitted to approve requests with signerName {signer:?}");
            Err(attributes.forbidden(&why))
        }
        _ => Ok(()),
    }
}

fn judge_signing(
    attributes: &Attributes<'_>,
    _facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let Some((new, old)) = attributes.updating::<CertificateSigningRequest>(Part::Status) else {
        return Ok(());
    };
    let (told, before) = (new.status.as_ref(), old.status.as_ref());
    let is_same = told.map(|it| (&it.certificate, &it.conditions))
        == before.map(|it| (&it.certificate, &it.conditions));
    if is_same || may(attributes, "sign", &old.spec.signer_name) {
        return Ok(());
    }
    let signer = &old.spec.signer_name;
    let why = format!("user not permitted to sign requests with signerName {signer:?}");
    Err(attributes.forbidden(&why))
}

/// Whether whoever asks may do this for a signer, or for all of its domain (upstream
/// `IsAuthorizedForSignerName`, pkg/certauthorization).
fn may(attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let whole_domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    [Some(signer), whole_domain.as_deref()].into_iter().flatten().any(|name| {
        let action = Action::Resource {
            verb,
            group: "certificates.k8s.io",
            resource: "signers",
            subresource: "",
            name,
            namespace: None,
        };
        matches!(attributes.decide(action), Decision::Allow(_))
    })
}
