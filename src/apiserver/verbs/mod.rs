//! The generic verbs: one handler each for every kind.
//!
//! Start at [`answer`]. What is special about a kind is a hook of its row in the registry; what is
//! special about a subresource is in a file of its own here.

mod apply;
mod binding;
mod component_status;
mod condition;
mod connect;
mod create;
mod decode;
mod delete;
mod delete_collection;
mod eviction;
mod finalize;
mod get;
mod list;
mod log;
mod ownership;
mod patch;
mod proxy;
mod review;
mod scale;
mod selected;
mod shown;
mod store;
mod token;
mod update;
mod watch;

pub(super) use self::ownership::{MANAGER_BYTES_MAX, is_printable};
pub(super) use self::proxy::{PodClient, endpoint_slices, is_of_others, node_of};
pub(super) use self::update::Part;
use super::encoding::{self, Accepted, Language, Offers};
use super::identity::Identity;
use super::query::Query;
use super::request::{ResourcePath, Verb};
use super::server::{Asked, Server, no_such_path, not_allowed};
use super::websocket;
use crate::api::{ObjectKey, Revision, Status};
use crate::registry::schema::protobuf::TypeMeta;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{Kind, KindRef, Rows};
use crate::stdx::Wanted;
use crate::stdx::http::Response;
use crate::streaming::body::Unit;
use bytes::Bytes;
use http::header::{HeaderValue, WARNING};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};

/// One request for a resource, with everything that its handler may look at.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) verb: Verb,
    /// Who asks.
    pub(super) identity: &'a Identity,
    pub(super) kind: &'a KindRef,
    /// All kinds, among them the other versions of this one.
    pub(super) rows: Arc<Rows>,
    /// `None` for cluster-scoped kinds, and for all namespaces.
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) query: &'a Query,
    pub(super) headers: &'a HeaderMap,
    /// See [`Asked::wanted`].
    pub(super) wanted: Option<&'a Arc<Wanted>>,
    pub(super) body: Bytes,
    pub(super) accepted: Accepted,
    /// What the client is told besides the answer.
    warnings: Mutex<Vec<String>>,
}

/// Warnings beyond this many are not sent: headers have limits.
const WARNINGS_MAX: usize = 16;

impl Call<'_> {
    /// The object that the path names.
    fn key(&self) -> Result<ObjectKey, Status> {
        let name = self.name.ok_or_else(not_allowed)?;
        Ok(ObjectKey { namespace: self.namespace.map(str::to_owned), name: name.to_owned() })
    }

    /// Tells the client something besides the answer (`Warning: 299`).
    pub(super) fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().expect("no panics under this lock");
        // What is decided anew after a race is told once.
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// An object as the client wants to see it.
    fn respond(
        &self,
        code: StatusCode,
        stored: &[u8],
        revision: Revision,
    ) -> Result<Response, Status> {
        let (now, form) = (self.server.config.clock.now(), self.accepted.form);
        let json = encoding::render(self.kind, stored, revision, &form, now)?;
        let shown = encoding::shown_as(self.kind, form);
        let shown = shown.as_ref().map(|(of, type_meta)| (*of, type_meta));
        encoding::document_response(code, self.accepted, shown, json)
    }

    /// An object of another built-in kind, such as a `Status`.
    fn respond_with(
        &self,
        code: StatusCode,
        of: TypeRef,
        json: Vec<u8>,
    ) -> Result<Response, Status> {
        encoding::document_response(code, self.accepted, Some((of, &TypeMeta::of(of))), json)
    }

    /// A `Status` that says that what was asked is done, with what there is to tell beyond that.
    fn respond_success(
        &self,
        code: StatusCode,
        told: Map<String, Value>,
    ) -> Result<Response, Status> {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        });
        if code != StatusCode::OK {
            status["code"] = json!(code.as_u16());
        }
        status.as_object_mut().expect("made as an object").extend(told);
        self.respond_with(code, types::STATUS, status.to_string().into_bytes())
    }
}

/// Answers a request for a resource.
pub(super) async fn answer(
    server: &Arc<Server>,
    asked: &Asked,
    identity: &Identity,
    path: &ResourcePath,
    body: Bytes,
) -> Result<Response, Status> {
    if path.subresource.as_deref() == Some("proxy") {
        return proxy::answer(server, asked, path, body).await;
    }
    // A binding can also be posted beside the pods; the pod is named in the body then.
    let is_bindings = path.group.is_empty() && path.resource == "bindings";
    let plural = if is_bindings { "pods" } else { &path.resource };
    let kind = &server.kind(&path.group, &path.version, plural).await?;
    if path.rest.is_some() {
        return Err(no_such_path());
    }
    let offers = Offers::of(kind, asked.info.verb == Verb::Watch);
    let call = Call {
        server,
        verb: asked.info.verb,
        identity,
        kind,
        rows: server.rows().await?,
        namespace: namespace(kind, path)?,
        name: path.name.as_deref(),
        query: &asked.query,
        headers: &asked.headers,
        wanted: asked.wanted.as_ref(),
        body,
        accepted: encoding::negotiate(&asked.headers, &asked.query, offers)?,
        warnings: Mutex::default(),
    };
    if let Some(warning) = kind.deprecation() {
        call.warn(warning.to_owned());
    }
    let answered = if is_bindings {
        match (call.verb, call.name) {
            (Verb::Create, None) if call.namespace.is_none() => return Err(no_such_path()),
            (Verb::Create, None) => binding::create(&call).await,
            _ => return Err(not_allowed()),
        }
    } else {
        dispatch(&call, path.subresource.as_deref()).await
    };
    // Warnings come with a refusal as well.
    let mut response =
        answered.unwrap_or_else(|status| encoding::status_response(&status, &asked.headers));
    add_warnings(&call, &mut response);
    Ok(response)
}

fn namespace<'a>(kind: &Kind, path: &'a ResourcePath) -> Result<Option<&'a str>, Status> {
    match (kind.facts.is_namespaced(), path.namespace.as_deref()) {
        (true, Some(namespace)) => Ok(Some(namespace)),
        (true, None) if path.name.is_some() && path.subresource.is_some() => Err(no_such_path()),
        (true, None) => Ok(None),
        // The path of a namespace itself names it as its own namespace. No other cluster-scoped
        // kind is in one, whatever its name.
        (false, Some(own)) if is_namespace(kind) && Some(own) == path.name.as_deref() => Ok(None),
        (false, Some(_)) => Err(no_such_path()),
        (false, None) => Ok(None),
    }
}

fn is_namespace(kind: &Kind) -> bool {
    kind.facts.group.is_empty() && kind.facts.plural == "namespaces"
}

async fn dispatch(call: &Call<'_>, subresource: Option<&str>) -> Result<Response, Status> {
    let Some(subresource) = subresource else {
        return dispatch_object(call).await;
    };
    let row = call.kind.facts.subresource(subresource).ok_or_else(no_such_path)?;
    if !row.verbs.contains(&call.verb.as_str()) {
        return Err(not_allowed());
    }
    match (row.name, call.verb) {
        ("status", Verb::Get) => get::get(call).await,
        ("status", Verb::Patch) => patch::patch(call, Part::Status).await,
        ("status", _) => update::update(call, Part::Status).await,
        ("approval" | "ephemeralcontainers" | "resize", Verb::Get) => get::get(call).await,
        (part @ ("approval" | "ephemeralcontainers" | "resize"), Verb::Patch) => {
            patch::patch(call, Part::Of(part)).await
        }
        (part @ ("approval" | "ephemeralcontainers" | "resize"), _) => {
            update::update(call, Part::Of(part)).await
        }
        ("scale", _) => scale::answer(call).await,
        ("binding", _) => binding::create(call).await,
        ("log", _) => Ok(websocket::carry(call, log::get(call).await?, Unit::Piece)),
        ("exec" | "attach" | "portforward", _) => connect::to_pod(call, row.name).await,
        ("eviction", _) => eviction::create(call).await,
        ("token", _) => token::create(call).await,
        ("finalize", _) => finalize::update(call).await,
        // In the kind's facts, but not served yet.
        _ => Err(no_such_path()),
    }
}

async fn dispatch_object(call: &Call<'_>) -> Result<Response, Status> {
    if !call.kind.takes(call.verb.as_str()) {
        return Err(refused(call));
    }
    if call.kind.facts.is_question() {
        return review::create(call).await;
    }
    if !call.kind.facts.is_stored() {
        return component_status::answer(call).await;
    }
    let is_inside = call.namespace.is_some() || !call.kind.facts.is_namespaced();
    match (call.verb, call.name) {
        (Verb::List, _) => list::list(call).await,
        (Verb::Watch, _) => {
            let unit = match call.accepted.language {
                Language::Json | Language::Yaml => Unit::Line,
                Language::Protobuf => Unit::Frame,
            };
            Ok(websocket::carry(call, watch::watch(call).await?, unit))
        }
        _ if !is_inside && call.name.is_some() => Err(no_such_path()),
        _ if !is_inside => Err(not_allowed()),
        (Verb::Create, None) => create::create(call).await,
        (Verb::Get, Some(_)) => get::get(call).await,
        (Verb::Update, Some(_)) => update::update(call, Part::Object).await,
        (Verb::Patch, Some(_)) => patch::patch(call, Part::Object).await,
        (Verb::Delete, Some(_)) => delete::delete(call).await,
        (Verb::DeleteCollection, None) => delete_collection::delete_collection(call).await,
        _ => Err(not_allowed()),
    }
}

/// The kind does not take the verb: never, or while its definition goes (upstream
/// `serveResource`, apiextensions pkg/apiserver/customresource_handler.go, v1.35).
fn refused(call: &Call<'_>) -> Status {
    let mut status = not_allowed();
    if call.kind.custom_version().is_some() {
        status.message = format!(
            "{} not allowed while custom resource definition is terminating",
            call.verb.as_str()
        );
    }
    status
}

/// RFC 7234 warnings, as upstream sends them: `299 - "text"`.
fn add_warnings(call: &Call<'_>, response: &mut Response) {
    let warnings = call.warnings.lock().expect("no panics under this lock");
    for text in warnings.iter() {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
