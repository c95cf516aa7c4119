//! Tokens on request (upstream `TokenREST.Create`, pkg/registry/core/serviceaccount/storage, v1.35).

use super::super::admission::check_token;
use super::super::metadata::whole_second;
use super::super::query::WriteOptions;
use super::super::tokens::{Bound, Request};
use super::{Call, decode};
use crate::api::status::{Status, Subject};
use crate::api::{FieldError, FieldPath, ObjectKey};
use crate::registry;
use crate::registry::schema::types;
use crate::stdx::http::Response;
use crate::stdx::json;
use http::StatusCode;
use jiff::SignedDuration;
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

/// What a token is to be bound to, as it is now.
enum Found {
    Nothing,
    Pod(Box<ObjectMeta>, Option<Box<ObjectMeta>>),
    Secret(Box<ObjectMeta>),
    Node(Box<ObjectMeta>),
}

pub(super) async fn create(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut document = decode::document(call, types::TOKEN_REQUEST, options.field_validation)?;
    document["apiVersion"] = json!(format!("{GROUP}/v1"));
    document["kind"] = json!(KIND);
    // Clients send what an empty one of theirs looks like.
    document["status"] = Value::Null;
    let mut request: TokenRequest = json::from_value(&document).map_err(|error| {
        Status::bad_request(format!("cannot be handled as a TokenRequest: {error}"))
    })?;
    let key = call.key()?;
    match_names(&request.metadata, &key)?;
    let current = call.server.current(call.kind, &key).await?;
    let account = current.object.metadata();
    let wanted_audiences = request.spec.audiences.clone();
    complete(call, &mut request, account)?;
    let seconds = request.spec.expiration_seconds.unwrap_or(Request::SECONDS_DEFAULT);
    request.spec.expiration_seconds = Some(seconds);
    if let Some(error) = Request::validate_seconds(seconds) {
        return Err(Status::invalid(GROUP, KIND, "", &[error]));
    }
    let found = match &request.spec.bound_object_ref {
        Some(reference) => find(call, &key, reference, &wanted_audiences).await?,
        None => {
            check_token(call, None, &wanted_audiences, None).await?;
            Found::Nothing
        }
    };
    let now = call.server.config.clock.now();
    let audiences = &request.spec.audiences;
    let wanted = Request { account, audiences, seconds, bound: found.bound(), now };
    let token = call.server.tokens.issue(&wanted).await?;
    // Not later than the token itself ends.
    let end = whole_second(now).saturating_add(SignedDuration::from_secs(seconds));
    let expiration_timestamp = Time(end.unwrap_or(jiff::Timestamp::MAX));
    request.status = Some(TokenRequestStatus { token, expiration_timestamp });
    request.metadata.creation_timestamp = Some(Time(whole_second(now)));
    let json = json::to_vec(&request);
    call.respond_with(StatusCode::CREATED, types::TOKEN_REQUEST, json)
}

impl Found {
    fn bound(&self) -> Bound<'_> {
        match self {
            Self::Nothing => Bound::Nothing,
            Self::Pod(pod, node) => Bound::Pod(pod, node.as_deref()),
            Self::Secret(secret) => Bound::Secret(secret),
            Self::Node(node) => Bound::Node(node),
        }
    }
}

/// The body may say for whom it is, but nobody else.
fn match_names(metadata: &ObjectMeta, key: &ObjectKey) -> Result<(), Status> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let fields = [
        (
            "name",
            &metadata.name,
            key.name.as_str(),
            "must match the service account name if specified",
        ),
        (
            "namespace",
            &metadata.namespace,
            namespace,
            "must match the service account namespace if specified",
        ),
    ];
    for (field, own, expected, why) in fields {
        let own = own.as_deref().unwrap_or_default();
        if !own.is_empty() && own != expected {
            let path = FieldPath::new("metadata").child(field);
            let error = FieldError::invalid(&path, own, why);
            return Err(Status::invalid(GROUP, KIND, &key.name, &[error]));
        }
    }
    Ok(())
}

/// Fills in what the client left to the server.
fn complete(
    call: &Call<'_>,
    request: &mut TokenRequest,
    account: &ObjectMeta,
) -> Result<(), Status> {
    let own = account.uid.as_deref().unwrap_or_default();
    if let Some(uid) = request.metadata.uid.as_deref().filter(|uid| !uid.is_empty() && *uid != own)
    {
        let name = account.name.as_deref().unwrap_or_default();
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account \
             ({own})"
        );
        return Err(Status::conflict(Subject { group: GROUP, resource: KIND, name }, &why));
    }
    if request.spec.audiences.is_empty() {
        request.spec.audiences = call.server.tokens.audiences().to_vec();
    }
    request.metadata.name.clone_from(&account.name);
    request.metadata.namespace.clone_from(&account.namespace);
    request.metadata.uid.clone_from(&account.uid);
    Ok(())
}

async fn find(
    call: &Call<'_>,
    account: &ObjectKey,
    reference: &BoundObjectReference,
    audiences: &[String],
) -> Result<Found, Status> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (version, kind, name) =
        (text(&reference.api_version), text(&reference.kind), text(&reference.name));
    // Upstream looks at the group only.
    let is_core = !version.contains('/');
    let plural = match (is_core, kind.as_str()) {
        (true, "Pod") => "pods",
        (true, "Secret") => "secrets",
        (true, "Node") => "nodes",
        _ => {
            let (group, version) = version.split_once('/').unwrap_or(("", &version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let row = registry::find("", "v1", plural).expect("a built-in kind");
    let namespace = row.facts.is_namespaced().then(|| account.namespace.clone()).flatten();
    let current = call.server.current(row, &ObjectKey { namespace, name: name.clone() }).await?;
    let pod = current.object.as_any().downcast_ref::<Pod>();
    check_token(call, Some(reference), audiences, pod).await?;
    let metadata = Box::new(current.object.metadata().clone());
    let found = match plural {
        "secrets" => Found::Secret(metadata),
        "nodes" => Found::Node(metadata),
        _ => {
            let spec = pod.and_then(|pod| pod.spec.as_ref());
            let own = spec.and_then(|spec| spec.service_account_name.as_deref());
            if own.unwrap_or_default() != account.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different \
                     serviceaccount name.",
                    account.name
                )));
            }
            let node = spec.and_then(|spec| spec.node_name.as_deref());
            let node = node.filter(|node| !node.is_empty());
            let node = match node {
                Some(node) => Some(Box::new(node_of_pod(call, node).await?)),
                None => None,
            };
            Found::Pod(metadata, node)
        }
    };
    let uid = current.object.metadata().uid.as_deref().unwrap_or_default();
    match reference.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
        None => Ok(found),
        Some(wanted) => {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            let subject = Subject { group: "", resource: &kind, name: &name };
            Err(Status::conflict(subject, &why))
        }
    }
}

/// The node of a pod; by its name alone where it is not there.
async fn node_of_pod(call: &Call<'_>, name: &str) -> Result<ObjectMeta, Status> {
    let row = registry::find("", "v1", "nodes").expect("a built-in kind");
    let found = call.server.find(row, &ObjectKey::cluster(name)).await?;
    let Some(entry) = found else {
        return Ok(ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() });
    };
    let node = row.decode_stored(&entry.value).map_err(Status::internal)?;
    Ok(node.metadata().clone())
}
