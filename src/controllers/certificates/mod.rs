//! Answers requests for certificates: lets nodes renew their own, signs what was approved, and
//! removes what nobody needs any more.
//!
//! Start at [`plan()`]. One controller where upstream has three (csrapproving, csrsigning and
//! csrcleaner, pkg/controller/certificates, v1.35): a request is always in the hands of one of them.

mod plan;
mod signers;

pub use plan::{Observed, Permission, plan};
pub use signers::Signers;

use super::Caches;
use crate::api::ObjectKey;
use crate::client::{Cache, Client, ResourceType, Seen};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::stdx::chain;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use plan::{Stage, stage};
use std::sync::Arc;
use uuid::Uuid;

const REVIEWS_PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Looks at requests.
#[derive(Debug)]
pub struct CertificateController {
    client: Client,
    requests: Arc<Cache<CertificateSigningRequest>>,
    signers: Signers,
}

impl CertificateController {
    /// `client` is asked whether a node may have what it asks for.
    #[must_use]
    pub fn new(client: Client, caches: &Caches, signers: Signers) -> Self {
        let requests = Arc::clone(&caches.certificate_signing_requests);
        Self { client, requests, signers }
    }

    /// Queues a request when it changes.
    #[must_use]
    pub fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let changed = queue.clone();
        self.requests.on_change(move |change| {
            if change.new.is_some() {
                changed.add(&change.key);
            }
        });
        queue
    }

    /// Whether the one who asks may have a certificate of a node.
    async fn review(&self, request: &CertificateSigningRequest, subresource: &str) -> Permission {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    verb: Some("create".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = self.client.post::<_, SubjectAccessReview>(REVIEWS_PATH, &review).await;
        match answer.map(|review| review.status.is_some_and(|status| status.allowed)) {
            Ok(true) => Permission::Granted,
            Ok(false) => Permission::Denied,
            Err(error) => Permission::Unknown { why: chain(&error).to_string() },
        }
    }
}

impl Controller for CertificateController {
    const NAME: &'static str = "certificate-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let request = self.requests.get(key)?;
        let mut observed =
            Observed { request, permissions: Vec::new(), signed: None, now: attempt.now };
        match stage(&observed.request) {
            Stage::Recognized(kinds) => {
                for kind in kinds {
                    let permission = self.review(&observed.request, kind.subresource()).await;
                    let is_enough = permission == Permission::Granted;
                    observed.permissions.push((kind, permission));
                    if is_enough {
                        break;
                    }
                }
            }
            Stage::Approved => {
                let serial = Uuid::new_v4().as_u128();
                observed.signed = self.signers.sign(&observed.request, attempt.now, serial);
            }
            Stage::Waiting | Stage::Done => {}
        }
        Some(observed)
    }

    fn plan(observed: &Observed) -> Plan {
        plan(observed)
    }

    fn caches(&self) -> Vec<(ResourceType, Arc<dyn Seen>)> {
        vec![(
            ResourceType::of::<CertificateSigningRequest>(),
            Arc::clone(&self.requests) as Arc<dyn Seen>,
        )]
    }
}
