//! Answers requests for certificates: lets nodes renew their own, signs what was approved, and
//! removes what nobody needs any more.
//!
//! Start at [`plan()`]. One controller where upstream has three (csrapproving, csrsigning and
//! csrcleaner, pkg/controller/certificates, v1.35): a request is always in the hands of one of them.

mod names;
mod plan;
mod signers;

pub use names::NODE_KEY;
pub use plan::{Observed, Permission, plan};
pub use signers::Signers;

use super::Caches;
use crate::api::ObjectKey;
use crate::client::{Cache, Client, ResourceType, Seen, key_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::pki::CertificateRequest;
use crate::stdx::chain;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use names::{Claim, Made, NODE_PREFIX};
use plan::{NodeRequest, Stage, stage};
use signers::KUBELET_CLIENT;
use std::sync::Arc;
use uuid::Uuid;

const REVIEWS_PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Looks at requests.
#[derive(Debug)]
pub struct CertificateController {
    client: Client,
    requests: Arc<Cache<CertificateSigningRequest>>,
    nodes: Arc<Cache<Node>>,
    signers: Signers,
}

impl CertificateController {
    /// `client` is asked whether a node may have what it asks for.
    #[must_use]
    pub fn new(client: Client, caches: &Caches, signers: Signers) -> Self {
        let requests = Arc::clone(&caches.certificate_signing_requests);
        Self { client, requests, nodes: Arc::clone(&caches.nodes), signers }
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
        let (changed, requests) = (queue.clone(), Arc::clone(&self.requests));
        let addresses = |node: &Arc<Node>| node.status.as_ref()?.addresses.clone();
        self.nodes.on_change(move |change| {
            let (old, new) = (change.old.as_ref(), change.new.as_ref());
            if old.and_then(addresses) != new.and_then(addresses) {
                // What a node may show depends on where it is.
                let open = requests.list();
                let open = open.iter().filter(|request| stage(request) != Stage::Done);
                open.for_each(|request| changed.add(&key_of(&request.metadata)));
            }
        });
        queue
    }

    /// Why whoever asks may not have the name, though they may ask.
    fn refusal(&self, request: &CertificateSigningRequest, kind: NodeRequest) -> Option<String> {
        let wanted = CertificateRequest::parse(&request.spec.request.0).ok()?;
        let name = wanted.common_name.strip_prefix(NODE_PREFIX)?;
        let node = self.nodes.get(&ObjectKey::cluster(name));
        match kind {
            NodeRequest::Own | NodeRequest::Agent => None,
            NodeRequest::Serving => (!names::serves(&wanted, name, node.as_deref()))
                .then(|| "the names are not the node's".to_owned()),
            NodeRequest::Foreign => {
                let key = wanted.fingerprint();
                let claim = Claim { node: name, key: &key, made: Made::of(request) };
                let all = self.requests.list();
                let parsed: Vec<_> = all.iter().filter_map(|other| open_claim(other)).collect();
                let others: Vec<_> = parsed
                    .iter()
                    .map(|(other, node, key)| Claim { node, key, made: Made::of(other) })
                    .collect();
                names::refusal(&claim, node.as_deref(), &others)
            }
        }
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

/// The node that a request is for, and the key, where it is somebody's who is no node, and is not
/// refused.
fn open_claim(
    request: &CertificateSigningRequest,
) -> Option<(&CertificateSigningRequest, String, String)> {
    let user = request.spec.username.as_deref().unwrap_or_default();
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_refused = |kind: &str| matches!(kind, "Denied" | "Failed");
    if request.spec.signer_name != KUBELET_CLIENT
        || user.starts_with(NODE_PREFIX)
        || conditions.into_iter().flatten().any(|it| is_refused(&it.type_))
    {
        return None;
    }
    let wanted = CertificateRequest::parse(&request.spec.request.0).ok()?;
    let node = wanted.common_name.strip_prefix(NODE_PREFIX)?.to_owned();
    Some((request, node, wanted.fingerprint()))
}

impl Controller for CertificateController {
    const NAME: &'static str = "certificate-controller";
    type Key = ObjectKey;
    type Observed = Observed;

    async fn observe(&self, key: &ObjectKey, attempt: Attempt) -> Option<Observed> {
        let request = self.requests.get(key)?;
        let (permissions, refusal) = (Vec::new(), None);
        let mut observed =
            Observed { request, permissions, refusal, signed: None, now: attempt.now };
        match stage(&observed.request) {
            Stage::Recognized(kinds) => {
                for kind in kinds {
                    let permission = self.review(&observed.request, kind.subresource()).await;
                    let is_enough = permission == Permission::Granted;
                    observed.permissions.push((kind, permission));
                    if is_enough {
                        observed.refusal = self.refusal(&observed.request, kind);
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
        vec![
            (
                ResourceType::of::<CertificateSigningRequest>(),
                Arc::clone(&self.requests) as Arc<dyn Seen>,
            ),
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
        ]
    }
}
