//! Log: what a container wrote, fetched from the kubelet of its node (upstream `LogLocation`,
//! pkg/registry/core/pod/strategy.go, v1.35).

use super::super::query::Query;
use super::Call;
use crate::api::status::{Reason, Status};
use crate::api::{FieldError, FieldPath};
use crate::stdx::http::{Response, full, read_whole};
use crate::stdx::{chain, quoted};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a query or a path segment may show as it is.
pub(super) const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// More of what a kubelet says when it says no is not read.
const REFUSAL_BYTES_MAX: usize = 50 << 10;

/// The options that a kubelet understands (upstream `PodLogOptions`), which are true or not.
const FLAGS: &[&str] = &["follow", "previous", "timestamps"];

/// Those that have a value.
const VALUES: &[&str] = &["sinceSeconds", "sinceTime", "tailLines", "limitBytes"];

/// Upstream `ValidatePodLogOptions`, and what cannot be read before that.
fn check(query: &Query, pod: &str) -> Result<(), Status> {
    let (tail, limit) = (query.number("tailLines")?, query.number("limitBytes")?);
    let seconds = query.number("sinceSeconds")?;
    let moment = query.text("sinceTime");
    if let Some(text) = moment.filter(|text| text.parse::<Timestamp>().is_err()) {
        let text = quoted(text);
        let why = format!("parsing time {text} as \"2006-01-02T15:04:05Z07:00\": cannot parse it");
        return Err(Status::bad_request(why));
    }
    let path = FieldPath::new;
    let above_zero = |name: &str, value: Option<i64>| {
        let too_low = value.filter(|value| *value < 1)?;
        Some(FieldError::invalid(&path(name), too_low, "must be greater than 0"))
    };
    let mut problems = Vec::new();
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        let why = "must be greater than or equal to 0";
        problems.push(FieldError::invalid(&path("tailLines"), tail, why));
    }
    problems.extend(above_zero("limitBytes", limit));
    if seconds.is_some() && moment.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        problems.push(FieldError::forbidden(&path(""), why));
    } else {
        problems.extend(above_zero("sinceSeconds", seconds));
    }
    // Upstream's PodLogsQuerySplitStreams is alpha.
    if query.text("stream").is_some() {
        problems.push(FieldError::forbidden(&path("stream"), "may not be specified"));
    }
    match &problems[..] {
        [] => Ok(()),
        problems => Err(Status::invalid("", "PodLogOptions", pod, problems)),
    }
}

pub(super) async fn get(call: &Call<'_>) -> Result<Response, Status> {
    let key = call.key()?;
    check(call.query, &key.name)?;
    let current = call.server.current(call.kind, &key).await?;
    let pod: &Pod = current
        .object
        .as_any()
        .downcast_ref()
        .ok_or_else(|| Status::internal("only pods have logs"))?;
    let container = container(pod, &key.name, call.query.text("container"))?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let Some(node) = node.filter(|node| !node.is_empty()) else {
        // A pod that no node has yet has written nothing.
        return Ok(plain_text(Bytes::new()));
    };
    let request = http::Request::get(kubelet_path(call, &key.name, &container))
        .body(Bytes::new())
        .map_err(Status::internal)?;
    match call.server.nodes.call(node, request).await {
        Ok(response) => checked(response).await,
        Err(error) => {
            let why = format!("cannot reach the kubelet of node {node:?}: {}", chain(&error));
            Err(Status::new(Reason::ServiceUnavailable, why))
        }
    }
}

/// A kubelet says no in plain text; clients understand a `Status` (upstream
/// `GenericHttpResponseChecker`, apiserver pkg/registry/generic/rest/response_checker.go, v1.35).
async fn checked(response: Response) -> Result<Response, Status> {
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    // One that breaks off says as much as it has said.
    let body = read_whole(response.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body).trim_end().to_owned();
    let reason = match code {
        StatusCode::BAD_REQUEST => return Err(Status::bad_request(text)),
        StatusCode::NOT_FOUND => Reason::NotFound,
        StatusCode::UNPROCESSABLE_ENTITY => Reason::Invalid,
        _ => return Err(Status::internal(text)),
    };
    Err(Status::new(reason, text))
}

fn kubelet_path(call: &Call<'_>, pod: &str, container: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let namespace = encode(call.namespace.unwrap_or_default());
    let mut path = format!("/containerLogs/{namespace}/{}/{}", encode(pod), encode(container));
    let flags = FLAGS.iter().filter(|name| call.query.flag(name)).map(|name| (name, "true"));
    let values = VALUES.iter().filter_map(|name| Some((name, call.query.text(name)?)));
    let mut separator = '?';
    for (name, value) in flags.chain(values) {
        path.push_str(&format!("{separator}{name}={}", encode(value)));
        separator = '&';
    }
    path
}

/// The container that is meant: the one named, or the only one.
pub(super) fn container(pod: &Pod, name: &str, wanted: Option<&str>) -> Result<String, Status> {
    let Some(spec) = &pod.spec else {
        return Err(Status::bad_request(format!("pod {name} has no containers")));
    };
    let containers: Vec<&str> =
        spec.containers.iter().map(|container| container.name.as_str()).collect();
    let init: Vec<&str> =
        spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral: Vec<&str> = ephemeral.map(|container| container.name.as_str()).collect();
    match (wanted, &containers[..]) {
        (Some(wanted), _) => {
            let known = [&containers[..], &init, &ephemeral].concat();
            if known.contains(&wanted) {
                return Ok(wanted.to_owned());
            }
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, many) => {
            let mut why = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(why))
        }
    }
}

fn plain_text(body: Bytes) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_before_anybody_is_asked() {
        let refused = |query: &str| match check(&Query::parse(query), "a") {
            Ok(()) => String::new(),
            Err(status) => status.message.replace("PodLogOptions \"a\" is invalid: ", ""),
        };
        for (query, expected) in [
            ("", ""),
            ("tailLines=0&limitBytes=1&sinceSeconds=1&follow=yes", ""),
            ("sinceTime=2026-01-01T00:00:00Z", ""),
            ("tailLines=x", r#"strconv.ParseInt: parsing "x": invalid syntax"#),
            ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
            ("stream=All", "stream: Forbidden: may not be specified"),
        ] {
            assert_eq!(refused(query), expected, "{query}");
        }
        assert!(refused("sinceTime=yesterday").starts_with("parsing time \"yesterday\""));
        assert!(refused("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1").contains("at most one"));
    }
}
