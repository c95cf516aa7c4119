//! Single requests: what is asked, and the [`Client`] that asks.

use super::known::{Journal, LastKnown};
use super::{ApiObject, ClientError, ResourceType, key_of};
use crate::api::{ObjectKey, Reason, Revision, Status};
use crate::stdx::http::{Body, HttpService, Response, read_whole};
use crate::stdx::{Wanted, json};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// An answer larger than this is given up. The largest are lists, and those come in pages of
/// [`LIST_PAGE_OBJECTS`].
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Lists are read in pages of this many objects, so that the text of a page and the decoded
/// objects of all of them are never in memory together with the text of the rest.
pub(super) const LIST_PAGE_OBJECTS: usize = 500;

/// An answer that is not whole after this long is given up. Upstream's API server ends requests
/// (other than watches) after 60 seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);

pub(super) const JSON: &str = "application/json";

/// What stays as it is in a value of a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `None`: of all namespaces, or of a cluster-scoped kind.
    pub namespace: Option<String>,
    /// A label selector: `app=web,tier!=db`.
    pub labels: Option<String>,
    /// A field selector: `spec.nodeName=n1`.
    pub fields: Option<String>,
}

impl Selection {
    #[must_use]
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    #[must_use]
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { fields: Some(selector.into()), ..Self::default() }
    }

    /// Path and query of a list or watch of this selection, ready for more parameters.
    pub(super) fn path(&self, resource: &ResourceType) -> PathAndQuery {
        let mut path = PathAndQuery::new(resource.collection_path(self.namespace.as_deref()));
        if let Some(labels) = &self.labels {
            path.push("labelSelector", labels);
        }
        if let Some(fields) = &self.fields {
            path.push("fieldSelector", fields);
        }
        path
    }
}

/// A path that query parameters are added to.
#[derive(Clone, Debug)]
pub(super) struct PathAndQuery {
    text: String,
    has_query: bool,
}

impl PathAndQuery {
    fn new(path: String) -> Self {
        Self { text: path, has_query: false }
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        let separator = if self.has_query { '&' } else { '?' };
        self.has_query = true;
        write!(self.text, "{separator}{name}={}", utf8_percent_encode(value, QUERY))
            .expect("writing to a String does not fail");
    }

    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut longer = self.clone();
        longer.push(name, value);
        longer
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// A change of an object, in one of the API's patch formats.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902, a list of operations.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Upstream's own: lists are merged by key.
    Strategic(Value),
}

impl Patch {
    /// The patch as a request carries it.
    #[must_use]
    pub fn content(&self) -> Content {
        let (media_type, value) = match self {
            Self::Json(value) => ("application/json-patch+json", value),
            Self::Merge(value) => ("application/merge-patch+json", value),
            Self::Strategic(value) => ("application/strategic-merge-patch+json", value),
        };
        Content { media_type, bytes: Bytes::from(value.to_string()) }
    }
}

/// What happens to the objects that an object owns when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// How to delete, and what must be true for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `None`: the kind's, or the object's, default.
    pub grace_seconds: Option<i64>,
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only the object as it was last written at this revision.
    pub revision: Option<Revision>,
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Deletes the object with this uid and no later one of the same name.
    #[must_use]
    pub fn of_uid(uid: impl Into<String>) -> Self {
        Self { uid: Some(uid.into()), ..Self::default() }
    }

    /// The options as a request carries them.
    #[must_use]
    pub fn content(&self) -> Content {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            kind: &'static str,
            api_version: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            grace_period_seconds: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            preconditions: Option<Preconditions<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            propagation_policy: Option<Propagation>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Preconditions<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            uid: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            resource_version: Option<String>,
        }
        let has_preconditions = self.uid.is_some() || self.revision.is_some();
        Content::json(&Wire {
            kind: "DeleteOptions",
            api_version: "v1",
            grace_period_seconds: self.grace_seconds,
            preconditions: has_preconditions.then(|| Preconditions {
                uid: self.uid.as_deref(),
                resource_version: self.revision.map(|revision| revision.to_string()),
            }),
            propagation_policy: self.propagation,
        })
    }
}

/// A request's body with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub media_type: &'static str,
    pub bytes: Bytes,
}

impl Content {
    #[must_use]
    pub fn json(body: &impl Serialize) -> Self {
        Self { media_type: JSON, bytes: Bytes::from(json::to_vec(body)) }
    }
}

/// What a list answered, all pages of it.
#[derive(Clone, Debug)]
pub struct ObjectList<K> {
    pub items: Vec<K>,
    /// The revision that the list shows.
    pub revision: Revision,
}

/// One page of a list of which only the length matters.
#[derive(Deserialize)]
struct CountedPage {
    metadata: ListMeta,
    items: Vec<IgnoredAny>,
}

/// One page of a list as it comes over the wire.
#[derive(Deserialize)]
#[serde(bound(deserialize = "K: Deserialize<'de>"))]
pub(super) struct Page<K> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Option::default")]
    items: Option<Vec<K>>,
}

impl<K> Page<K> {
    pub(super) fn split(self) -> (Vec<K>, PageEnd) {
        let revision = self.metadata.resource_version.and_then(|text| text.parse().ok());
        let next = self.metadata.continue_.filter(|token| !token.is_empty());
        let end = PageEnd { revision: revision.unwrap_or_default(), next };
        (self.items.unwrap_or_default(), end)
    }
}

/// What a page says about the list it is of.
#[derive(Debug)]
pub(super) struct PageEnd {
    pub(super) revision: Revision,
    /// The token of the page after it.
    pub(super) next: Option<String>,
}

/// Where the pages of a list go.
pub(super) trait TakePage: Send {
    fn take_page(&mut self, json: &[u8]) -> Result<PageEnd, ClientError>;
    /// Forgets all pages so far: the list begins again.
    fn restart(&mut self);
}

impl<K: DeserializeOwned + Send> TakePage for Vec<K> {
    fn take_page(&mut self, json: &[u8]) -> Result<PageEnd, ClientError> {
        let (items, end) = decode::<Page<K>>(json)?.split();
        self.extend(items);
        Ok(end)
    }

    fn restart(&mut self) {
        self.clear();
    }
}

/// Asks the API server, as one component with one identity.
#[derive(Clone, Debug)]
pub struct Client {
    service: Arc<dyn HttpService>,
    user_agent: HeaderValue,
    known: Option<Arc<LastKnown>>,
}

impl Client {
    /// `user_agent` is the component's name as it shows in logs and in field managers.
    ///
    /// # Panics
    /// Where `user_agent` cannot be the value of a header; it is a constant of the caller.
    #[must_use]
    pub fn new(service: Arc<dyn HttpService>, user_agent: &str) -> Self {
        let user_agent = HeaderValue::from_str(user_agent).expect("component names are plain text");
        Self { service, user_agent, known: None }
    }

    /// Has watches that are made with this write down what they show, and begin with it where no
    /// server answers.
    #[must_use]
    pub fn remembering(self, known: Arc<LastKnown>) -> Self {
        Self { known: Some(known), ..self }
    }

    /// Nobody watches these objects any more.
    pub fn forget<K: ApiObject>(&self, selection: &Selection) {
        if let Some(known) = &self.known {
            let resource = ResourceType::of::<K>();
            known.forget(&resource, selection.path(&resource).as_str());
        }
    }

    /// What is known of what is at a path.
    pub(super) fn journal(&self, resource: &ResourceType, path: &PathAndQuery) -> Option<Journal> {
        Some(self.known.as_ref()?.journal(resource, path.as_str()))
    }

    /// # Errors
    /// Where there is no such object, or it cannot be had.
    pub async fn get<K: ApiObject>(&self, key: &ObjectKey) -> Result<K, ClientError> {
        let path = ResourceType::of::<K>().object_path(key, None);
        decode(&self.request(Method::GET, &path, None).await?)
    }

    /// All the objects of a selection, as of one revision.
    ///
    /// # Errors
    /// Where the list cannot be had, whole.
    pub async fn list<K: ApiObject>(
        &self,
        selection: &Selection,
    ) -> Result<ObjectList<K>, ClientError> {
        self.list_as(&ResourceType::of::<K>(), selection, JSON).await
    }

    /// As `list`, of a kind that is known only at run time, encoded as `accept` says.
    ///
    /// # Errors
    /// Where the list cannot be had, whole.
    pub async fn list_as<T: DeserializeOwned + Send>(
        &self,
        resource: &ResourceType,
        selection: &Selection,
        accept: &str,
    ) -> Result<ObjectList<T>, ClientError> {
        let mut items = Vec::new();
        let revision = self.list_pages(&selection.path(resource), accept, &mut items).await?;
        Ok(ObjectList { items, revision })
    }

    /// How many objects of a kind there are in a namespace, without reading them.
    ///
    /// # Errors
    /// Where the server does not say.
    pub async fn count(
        &self,
        resource: &ResourceType,
        selection: &Selection,
    ) -> Result<i64, ClientError> {
        let path = selection.path(resource).with("limit", "1");
        let answer = self.fetch(Method::GET, path.as_str(), JSON, None).await?;
        let page: CountedPage = serde_json::from_slice(&answer).map_err(ClientError::Malformed)?;
        let shown = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
        Ok(shown.saturating_add(page.metadata.remaining_item_count.unwrap_or_default()))
    }

    /// Reads a list page by page. Where a later page is not to be had any more because the history
    /// it belongs to was compacted, the list is read again, in one piece.
    pub(super) async fn list_pages(
        &self,
        path: &PathAndQuery,
        accept: &str,
        pages: &mut dyn TakePage,
    ) -> Result<Revision, ClientError> {
        let paged = path.with("limit", &LIST_PAGE_OBJECTS.to_string());
        let mut next_path = paged.clone();
        loop {
            let answer = self.fetch(Method::GET, next_path.as_str(), accept, None).await;
            let is_first = next_path.as_str() == paged.as_str();
            let end = match answer {
                Err(error) if error.is_expired() && !is_first => {
                    pages.restart();
                    let whole = self.fetch(Method::GET, path.as_str(), accept, None).await?;
                    pages.take_page(&whole)?
                }
                answer => pages.take_page(&answer?)?,
            };
            match end.next {
                Some(next) => next_path = paged.with("continue", &next),
                None => return Ok(end.revision),
            }
        }
    }

    /// # Errors
    /// Where the object was not created.
    pub async fn create<K: ApiObject>(&self, object: &K) -> Result<K, ClientError> {
        let namespace = k8s_openapi::Metadata::metadata(object).namespace.as_deref();
        let path = ResourceType::of::<K>().collection_path(namespace);
        decode(&self.request(Method::POST, &path, Some(Content::json(object))).await?)
    }

    /// Replaces the object, if it is still at the `resourceVersion` that `object` has.
    ///
    /// # Errors
    /// Where the object was not updated.
    pub async fn update<K: ApiObject>(&self, object: &K) -> Result<K, ClientError> {
        self.replace(object, None).await
    }

    /// As [`Client::update`], of the status alone.
    ///
    /// # Errors
    /// Where the object was not updated.
    pub async fn update_status<K: ApiObject>(&self, object: &K) -> Result<K, ClientError> {
        self.replace(object, Some("status")).await
    }

    async fn replace<K: ApiObject>(
        &self,
        object: &K,
        subresource: Option<&str>,
    ) -> Result<K, ClientError> {
        let key = key_of(k8s_openapi::Metadata::metadata(object));
        let path = ResourceType::of::<K>().object_path(&key, subresource);
        decode(&self.request(Method::PUT, &path, Some(Content::json(object))).await?)
    }

    /// # Errors
    /// Where the object was not changed.
    pub async fn patch<K: ApiObject>(
        &self,
        key: &ObjectKey,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<K, ClientError> {
        let path = ResourceType::of::<K>().object_path(key, subresource);
        decode(&self.request(Method::PATCH, &path, Some(patch.content())).await?)
    }

    /// # Errors
    /// Where the object was not deleted, nor its deletion begun.
    pub async fn delete<K: ApiObject>(
        &self,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<(), ClientError> {
        let path = ResourceType::of::<K>().object_path(key, None);
        self.request(Method::DELETE, &path, Some(options.content())).await?;
        Ok(())
    }

    /// Posts to a path of its own kind, such as that of a pod's binding.
    ///
    /// # Errors
    /// Where the server did not do what was asked.
    pub async fn post<Q, A>(&self, path: &str, body: &Q) -> Result<A, ClientError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        decode(&self.request(Method::POST, path, Some(Content::json(body))).await?)
    }

    /// Any request with a whole answer, undecoded.
    ///
    /// # Errors
    /// Where the server did not do what was asked.
    pub async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        content: Option<Content>,
    ) -> Result<Bytes, ClientError> {
        self.fetch(method, path_and_query, JSON, content).await
    }

    /// As `request`, with the answer encoded as `accept` says.
    ///
    /// # Errors
    /// Where the server did not do what was asked.
    pub async fn fetch(
        &self,
        method: Method,
        path_and_query: &str,
        accept: &str,
        content: Option<Content>,
    ) -> Result<Bytes, ClientError> {
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let body = self.open(method, path_and_query, accept, content).await?;
            read_whole(body, ANSWER_BYTES_MAX).await.map_err(ClientError::Transport)
        });
        answered.await.unwrap_or_else(|_elapsed| Err(timed_out()))
    }

    /// A request whose answer is read as it arrives, such as a watch or a log that is followed.
    ///
    /// # Errors
    /// Where the server said no.
    pub async fn open(
        &self,
        method: Method,
        path_and_query: &str,
        accept: &str,
        content: Option<Content>,
    ) -> Result<Body, ClientError> {
        self.send(self.build(method, path_and_query, accept, content)).await
    }

    /// Opens a watch. A server in this process tells as soon as it can that the watch has seen what
    /// is `wanted` of it.
    pub(super) async fn open_watch(
        &self,
        path_and_query: &str,
        accept: &str,
        wanted: Arc<Wanted>,
    ) -> Result<Body, ClientError> {
        let mut request = self.build(Method::GET, path_and_query, accept, None);
        if let Ok(request) = &mut request {
            request.extensions_mut().insert(wanted);
        }
        self.send(request).await
    }

    async fn send(&self, request: http::Result<http::Request<Bytes>>) -> Result<Body, ClientError> {
        let request = request.map_err(|error| ClientError::Transport(io::Error::other(error)))?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.service.call(request)).await;
        let Ok(response) = answered else { return Err(timed_out()) };
        let response = response.map_err(ClientError::Transport)?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(refusal(response).await)
    }

    fn build(
        &self,
        method: Method,
        path_and_query: &str,
        accept: &str,
        content: Option<Content>,
    ) -> http::Result<http::Request<Bytes>> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(USER_AGENT, self.user_agent.clone())
            .header(ACCEPT, accept);
        let mut body = Bytes::new();
        if let Some(content) = content {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(content.media_type));
            body = content.bytes;
        }
        request.body(body)
    }
}

fn timed_out() -> ClientError {
    let seconds = ANSWER_TIMEOUT.as_secs();
    let message = format!("no whole answer within {seconds} seconds");
    ClientError::Transport(io::Error::new(io::ErrorKind::TimedOut, message))
}

pub(super) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(json).map_err(ClientError::Malformed)
}

/// The `Status` that a response which says no carries, or one made from its code.
async fn refusal(response: Response) -> ClientError {
    /// A `Status` is a page at most; what is longer was not sent by an API server.
    const STATUS_BYTES_MAX: usize = 1 << 20;
    let code = response.status();
    let body = match read_whole(response.into_body(), STATUS_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return ClientError::Transport(error),
    };
    let mut status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        Status::new(reason_of(code), format!("the server answered {code}: {}", text.trim()))
    });
    status.code = code.as_u16();
    ClientError::Status(Box::new(status))
}

fn reason_of(code: StatusCode) -> Reason {
    match code {
        StatusCode::BAD_REQUEST => Reason::BadRequest,
        StatusCode::UNAUTHORIZED => Reason::Unauthorized,
        StatusCode::FORBIDDEN => Reason::Forbidden,
        StatusCode::NOT_FOUND => Reason::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Reason::MethodNotAllowed,
        StatusCode::NOT_ACCEPTABLE => Reason::NotAcceptable,
        StatusCode::CONFLICT => Reason::Conflict,
        StatusCode::GONE => Reason::Gone,
        StatusCode::TOO_MANY_REQUESTS => Reason::TooManyRequests,
        StatusCode::SERVICE_UNAVAILABLE => Reason::ServiceUnavailable,
        StatusCode::GATEWAY_TIMEOUT => Reason::Timeout,
        _ => Reason::Unknown,
    }
}

/// The revision of the write that `answer` is the answer to: that of the object it holds, or, where
/// an object is gone at once, that of the deletion, which our server puts into its `Status`.
#[must_use]
pub fn revision_of_answer(answer: &[u8]) -> Option<Revision> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        resource_version: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.metadata.resource_version?.parse().ok()
}
