//! Answers requests for certificates: lets nodes renew their own, signs what was approved, and
//! removes what nobody needs any more.
//!
//! Start at [`plan()`]. One controller where upstream has three (csrapproving, csrsigning and
//! csrcleaner, pkg/controller/certificates, v1.35): a request is always in the hands of one of them.

mod names;
mod plan;
mod signers;

pub use names::Verdict;
pub use plan::{Observed, Permission, plan};
pub use signers::Signers;

use super::Caches;
use crate::api::ObjectKey;
use crate::api::node::key_of_node;
use crate::client::{Cache, Client, ClientError, ResourceType, Seen, key_of, revision_of};
use crate::control::{Attempt, Controller, Plan, Queue};
use crate::pki::CertificateRequest;
use crate::stdx::chain;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use names::{Claim, NODE_PREFIX};
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
        // Whose name it is, and where it is: what a node may have and show depends on it.
        let matters = |node: &Arc<Node>| {
            (
                key_of_node(node).map(str::to_owned),
                node.status.as_ref().and_then(|status| status.addresses.clone()),
            )
        };
        self.nodes.on_change(move |change| {
            let (old, new) = (change.old.as_ref(), change.new.as_ref());
            if old.map(matters) != new.map(matters) {
                let open = requests.list();
                let open = open.iter().filter(|request| stage(request) != Stage::Done);
                open.for_each(|request| changed.add(&key_of(&request.metadata)));
            }
        });
        queue
    }

    /// Whether whoever asks may have the name, though they may ask. The Node is read, not looked up: a
    /// request may be here before the cache has heard of what was done to the Node before it.
    ///
    /// # Errors
    /// Where that cannot be found out.
    async fn judge(
        &self,
        request: &CertificateSigningRequest,
        kind: NodeRequest,
        now: Timestamp,
    ) -> Result<Verdict, ClientError> {
        let Ok(wanted) = CertificateRequest::parse(&request.spec.request.0) else {
            return Ok(Verdict::Free);
        };
        let Some(name) = wanted.common_name.strip_prefix(NODE_PREFIX) else {
            return Ok(Verdict::Free);
        };
        match kind {
            NodeRequest::Own | NodeRequest::Agent => Ok(Verdict::Free),
            NodeRequest::Serving => {
                let node = self.node(name).await?;
                Ok(match names::serves(&wanted, name, node.as_ref()) {
                    true => Verdict::Free,
                    false => Verdict::Taken { why: "the names are not the node's".to_owned() },
                })
            }
            NodeRequest::Foreign => {
                let node = self.node(name).await?;
                let key = wanted.fingerprint();
                let all = self.requests.list();
                let parsed: Vec<_> = all.iter().filter_map(|other| open_claim(other)).collect();
                let others: Vec<_> =
                    parsed.iter().map(|(other, node, key)| claim(other, node, key)).collect();
                Ok(names::judge(&claim(request, name, &key), node.as_ref(), &others, now))
            }
        }
    }

    async fn node(&self, name: &str) -> Result<Option<Node>, ClientError> {
        match self.client.get(&ObjectKey::cluster(name)).await {
            Ok(node) => Ok(Some(node)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
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

fn claim<'a>(request: &CertificateSigningRequest, node: &'a str, key: &'a str) -> Claim<'a> {
    let made = request.metadata.creation_timestamp.as_ref();
    Claim {
        node,
        key,
        made_at: made.map_or(Timestamp::MIN, |made| made.0),
        revision: revision_of(&request.metadata).unwrap_or_default(),
        is_granted: matches!(stage(request), Stage::Approved | Stage::Done),
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
        let (permissions, verdict) = (Vec::new(), Verdict::default());
        let mut observed =
            Observed { request, permissions, verdict, signed: None, now: attempt.now };
        match stage(&observed.request) {
            Stage::Recognized(kinds) => {
                for kind in kinds {
                    let mut permission = self.review(&observed.request, kind.subresource()).await;
                    let is_enough = permission == Permission::Granted;
                    if is_enough {
                        match self.judge(&observed.request, kind, attempt.now).await {
                            Ok(verdict) => observed.verdict = verdict,
                            Err(error) => {
                                permission = Permission::Unknown { why: chain(&error).to_string() };
                            }
                        }
                    }
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
        vec![
            (
                ResourceType::of::<CertificateSigningRequest>(),
                Arc::clone(&self.requests) as Arc<dyn Seen>,
            ),
            (ResourceType::of::<Node>(), Arc::clone(&self.nodes) as Arc<dyn Seen>),
        ]
    }
}
