//! Nobody is made an administrator by a certificate of the signer for API clients (upstream
//! `CertificateSubjectRestriction`, plugin/pkg/admission/certificates/subjectrestriction, v1.35).

use super::super::identity::MASTERS;
use super::{Attributes, Facts, Judgement, Plugin, Warnings};
use crate::api::status::Status;
use crate::pki::CertificateRequest;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "CertificateSubjectRestriction",
    mutation: None,
    judgement: Some(Judgement { wants: |_| Vec::new(), judge }),
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn judge(
    attributes: &Attributes<'_>,
    _facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let Some(request) = attributes.creating::<CertificateSigningRequest>() else {
        return Ok(());
    };
    if request.spec.signer_name != SIGNER {
        return Ok(());
    }
    let parsed = CertificateRequest::parse(&request.spec.request.0)
        .map_err(|error| attributes.forbidden(&format!("failed to parse CSR: {error}")))?;
    if parsed.organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {SIGNER} signer with {MASTERS} group is not allowed");
        return Err(attributes.forbidden(&why));
    }
    Ok(())
}
