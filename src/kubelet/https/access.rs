//! Who may ask the kubelet what: believed and allowed by the API server, and remembered for a while
//! (upstream's webhook modes of the kubelet, pkg/kubelet/server/auth.go and cmd/kubelet/app/auth.go,
//! v1.35).
//!
//! Start at [`Access::admit`]. A client certificate of the cluster's authority is believed by
//! itself; tokens are asked about. Nobody is anonymous here.

use super::attributes::{self, Attributes};
use crate::client::{Client, ClientError};
use crate::pki::CertificateUser;
use crate::stdx::{chain, monotonic};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tracing::warn;

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// How long answers are remembered: upstream's `authentication.webhook.cacheTTL`,
/// `authorization.webhook.cacheAuthorizedTTL` and `cacheUnauthorizedTTL`.
const BELIEVED: Duration = Duration::from_secs(2 * 60);
const ALLOWED: Duration = Duration::from_secs(5 * 60);
const DENIED: Duration = Duration::from_secs(30);

/// With more answers than this, all are forgotten.
const ANSWERS_MAX: usize = 1_024;

/// Somebody who has shown who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct User {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl From<CertificateUser> for User {
    fn from(CertificateUser { user, mut groups, .. }: CertificateUser) -> Self {
        groups.push("system:authenticated".to_owned());
        Self { name: user, groups, ..Self::default() }
    }
}

/// A request that is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) code: StatusCode,
    pub(super) text: String,
}

impl Denied {
    fn unauthorized() -> Self {
        Self { code: StatusCode::UNAUTHORIZED, text: "Unauthorized".to_owned() }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Access {
    client: Client,
    node: String,
    believed: Answers<String, User>,
    allowed: Answers<(User, &'static str, &'static str), bool>,
}

impl Access {
    /// `client` is this node's.
    pub(super) fn new(client: Client, node: String) -> Self {
        Self { client, node, believed: Answers::default(), allowed: Answers::default() }
    }

    /// Lets a request through, or says why not.
    pub(super) async fn admit(
        &self,
        certificate: Option<&User>,
        request: &http::request::Parts,
    ) -> Result<(), Denied> {
        let user = match certificate {
            Some(user) => user.clone(),
            None => self.by_token(&request.headers).await?,
        };
        let attributes = attributes::of(&request.method, request.uri.path());
        for subresource in attributes.subresources {
            if self.may(&user, attributes.verb, subresource).await? {
                return Ok(());
            }
        }
        Err(forbidden(&user, attributes, &self.node))
    }

    async fn by_token(&self, headers: &HeaderMap) -> Result<User, Denied> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) =
            header.and_then(|text| text.split_once(' ')).ok_or_else(Denied::unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Denied::unauthorized());
        }
        let token = token.trim().to_owned();
        if let Some(user) = self.believed.get(&token) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.clone()), audiences: None },
            ..TokenReview::default()
        };
        let answer: TokenReview = self.ask(TOKEN_REVIEWS, &review).await?;
        let status = answer.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Err(Denied::unauthorized());
        };
        let user = User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        };
        self.believed.put(token, user.clone(), BELIEVED);
        Ok(user)
    }

    async fn may(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Denied> {
        let question = (user.clone(), verb, subresource);
        if let Some(answer) = self.allowed.get(&question) {
            return Ok(answer);
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: some(&user.uid),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer: SubjectAccessReview = self.ask(ACCESS_REVIEWS, &review).await?;
        let is_allowed = answer.status.is_some_and(|status| status.allowed);
        self.allowed.put(question, is_allowed, if is_allowed { ALLOWED } else { DENIED });
        Ok(is_allowed)
    }

    async fn ask<Q>(&self, path: &str, review: &Q) -> Result<Q, Denied>
    where
        Q: serde::Serialize + serde::de::DeserializeOwned + Sync,
    {
        let answer: Result<Q, ClientError> = self.client.post(path, review).await;
        answer.map_err(|error| {
            warn!(error = chain(&error), "the API server does not say who may ask this kubelet");
            let text = "Authorization error: the API server was not reached".to_owned();
            Denied { code: StatusCode::INTERNAL_SERVER_ERROR, text }
        })
    }
}

/// In upstream's words.
fn forbidden(user: &User, attributes: Attributes, node: &str) -> Denied {
    let Attributes { verb, subresources } = attributes;
    let text = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}], node={node})",
        user.name,
        subresources.join(" ")
    );
    Denied { code: StatusCode::FORBIDDEN, text }
}

/// Answers, each for its time.
#[derive(Debug)]
struct Answers<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Answers<K, V> {
    fn get(&self, question: &K) -> Option<V> {
        let answers = self.0.lock().expect("no panics under this lock");
        let (answer, until) = answers.get(question)?;
        (monotonic() < *until).then(|| answer.clone())
    }

    fn put(&self, question: K, answer: V, good_for: Duration) {
        let now = monotonic();
        let mut answers = self.0.lock().expect("no panics under this lock");
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (_, until)| now < *until);
        }
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(question, (answer, now + good_for));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_good_for_their_time_and_not_too_many() {
        let answers = Answers::<usize, bool>::default();
        answers.put(0, true, Duration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(answers.get(&0), Some(true));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(answers.get(&0), None);
        for number in 0..ANSWERS_MAX + 10 {
            answers.put(number, true, Duration::from_secs(10));
        }
        assert!(answers.0.lock().unwrap().len() <= ANSWERS_MAX);
        assert_eq!(answers.get(&(ANSWERS_MAX + 9)), Some(true));
    }
}
