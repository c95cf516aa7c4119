//! Makes tokens of service accounts.

use super::claims::{Claims, Private, Reference};
use super::plan::{Lifetime, lifetime};
use super::{Tokens, plan};
use crate::api::FieldError;
use crate::api::status::Status;
use crate::stdx::chain;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use uuid::Uuid;

/// What a token is bound to: it is worth nothing when that is gone.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Bound<'a> {
    Nothing,
    /// With the node that the pod is on, where it is on one.
    Pod(&'a ObjectMeta, Option<&'a ObjectMeta>),
    Secret(&'a ObjectMeta),
    Node(&'a ObjectMeta),
}

/// A token that somebody wants.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Request<'a> {
    pub(in super::super) account: &'a ObjectMeta,
    pub(in super::super) audiences: &'a [String],
    pub(in super::super) seconds: i64,
    pub(in super::super) bound: Bound<'a>,
    pub(in super::super) now: Timestamp,
}

impl Request<'_> {
    /// What a token lasts whose maker does not say.
    pub(in super::super) const SECONDS_DEFAULT: i64 = plan::SECONDS_DEFAULT;

    /// What is wrong with how long it is to last.
    pub(in super::super) fn validate_seconds(seconds: i64) -> Option<FieldError> {
        plan::validate(seconds)
    }
}

impl Tokens {
    /// # Errors
    /// Where it cannot be signed.
    pub(in super::super) async fn issue(&self, request: &Request<'_>) -> Result<String, Status> {
        let is_for_server =
            request.audiences.iter().all(|audience| self.settings.audiences.contains(audience));
        let is_of_pod = matches!(request.bound, Bound::Pod(..));
        let lifetime = lifetime(request.seconds, is_of_pod, is_for_server);
        let claims = claims(request, &self.settings.issuer, lifetime);
        let signed = self.keys().await.sign(&claims);
        signed.map_err(|error| {
            Status::internal(format!("failed to generate token: {}", chain(&error)))
        })
    }
}

/// Upstream `Claims` (pkg/serviceaccount/claims.go, v1.35).
fn claims(request: &Request<'_>, issuer: &str, lifetime: Lifetime) -> Claims {
    let account = request.account;
    let now = request.now.as_second();
    let namespace = account.namespace.clone().unwrap_or_default();
    let mut private = Private {
        namespace,
        serviceaccount: reference(account),
        warnafter: lifetime.warn_after_seconds.map(|seconds| now.saturating_add(seconds)),
        ..Private::default()
    };
    match request.bound {
        Bound::Nothing => {}
        Bound::Pod(pod, node) => {
            private.pod = Some(reference(pod));
            private.node = node.map(reference);
        }
        Bound::Secret(secret) => private.secret = Some(reference(secret)),
        Bound::Node(node) => private.node = Some(reference(node)),
    }
    Claims {
        aud: request.audiences.to_vec(),
        exp: Some(now.saturating_add(lifetime.seconds)),
        iat: Some(now),
        iss: issuer.to_owned(),
        jti: Uuid::new_v4().to_string(),
        nbf: Some(now),
        sub: format!("system:serviceaccount:{}:{}", private.namespace, private.serviceaccount.name),
        private,
    }
}

fn reference(metadata: &ObjectMeta) -> Reference {
    Reference {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}
