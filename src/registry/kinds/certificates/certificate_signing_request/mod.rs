//! CertificateSigningRequests: who asks for which certificate, whether they may have it, and the
//! certificate.
//!
//! Start at [`validate::validate`]. Follows upstream pkg/registry/certificates/certificates and
//! pkg/apis/certificates/validation (v1.35). Whether somebody may approve for a signer or sign is
//! admission's.

mod conditions;
mod pem;
#[cfg(test)]
mod tests;
mod validate;

use crate::api::{FieldError, names};
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    Body, BuiltIn, Column, Creator, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::Value;
use std::borrow::Cow;
use validate::Allowed;

/// Nothing is asked of the names of requests beyond being part of a path, which all names are.
const ANY_NAME: names::Rule = |_| Vec::new();

impl Resource for CertificateSigningRequest {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "certificatesigningrequest",
        short_names: &[Cow::Borrowed("csr")],
        subresources: &[
            Subresource {
                name: "approval",
                body: Body::Parent,
                verbs: &["get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::CERTIFICATE_SIGNING_REQUEST;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Who is asked to sign."),
        Column::text("Requestor", "Who asks."),
        Column::text("RequestedDuration", "How long the certificate should be valid."),
        Column::text("Condition", "Whether the request is approved, denied, failed or signed."),
    ];
    const NAME_RULE: names::Rule = ANY_NAME;

    fn resets(subresource: &str) -> Resets {
        Resets::Of(match subresource {
            "status" => &[&["spec"], &["status", "conditions"]],
            "approval" => &[&["spec"], &["status", "certificate"]],
            _ => &[&["spec"], &["status"]],
        })
    }

    fn apply_defaults(&mut self) {
        let status = self.status.get_or_insert_default();
        status.conditions.take_if(|conditions| conditions.is_empty());
        status.certificate.take_if(|certificate| certificate.0.is_empty());
    }

    /// Nobody asks in the name of somebody else.
    fn stamp_creator(&mut self, creator: Creator<'_>) {
        self.spec.username = Some(creator.user.to_owned());
        self.spec.groups = Some(creator.groups.to_vec());
        self.spec.uid = Some(creator.uid.to_owned()).filter(|uid| !uid.is_empty());
        self.spec.extra = Some(creator.extra.clone()).filter(|extra| !extra.is_empty());
    }

    fn prepare_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        conditions::keep_decisions(self, old);
    }

    fn prepare_part(&mut self, _approval: &str, old: &Self) {
        let conditions = self.status.take().and_then(|status| status.conditions);
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
        self.status.get_or_insert_default().conditions = conditions;
    }

    fn stamp_status(&mut self, old: &Self, now: Timestamp) {
        conditions::stamp(self, old, now);
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate::validate(self, None)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        validate::validate_update(self, old, Allowed::Nothing)
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        validate::validate_update(self, old, Allowed::Certificate)
    }

    fn validate_part(&self, _approval: &str, old: &Self) -> Vec<FieldError> {
        validate::validate_update(self, old, Allowed::Decision)
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", self.spec.signer_name.clone())]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let seconds = self.spec.expiration_seconds;
        let duration = seconds
            .map(|seconds| cells::human_duration(SignedDuration::from_secs(i64::from(seconds))));
        vec![
            cells::name(&self.metadata),
            cells::age(&self.metadata, now),
            cells::or_none(Some(&self.spec.signer_name)),
            self.spec.username.clone().unwrap_or_default().into(),
            cells::or_none(duration.as_deref()),
            conditions::summary(self).into(),
        ]
    }
}
