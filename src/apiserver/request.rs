//! What a request asks for, read from its method and path alone (upstream `RequestInfo`,
//! apiserver pkg/endpoints/request/requestinfo.go, v1.35).
//!
//! Authorization judges this before anybody looks whether such a thing exists.

use super::join::TUNNEL_PATH;
use super::query::Query;
use crate::api::fields::FieldSelector;
use http::Method;
use percent_encoding::percent_decode_str;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// A method that nothing here answers, or any method on a path that is no resource.
    Other,
}

impl Verb {
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "",
        }
    }
}

/// A resource, one object of it, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResourcePath {
    pub(super) group: String,
    pub(super) version: String,
    /// For a namespace itself, its own name, as upstream has it.
    pub(super) namespace: Option<String>,
    pub(super) resource: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// What follows the subresource, joined by slashes.
    pub(super) rest: Option<String>,
}

/// A request as authorization sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestInfo {
    pub(super) verb: Verb,
    /// The method in lower case: the verb where the path is no resource.
    pub(super) method: String,
    pub(super) path: String,
    /// `None` for paths such as `/version` and the discovery documents.
    pub(super) resource: Option<ResourcePath>,
}

/// Subresources of a namespace: every other third segment is a resource inside the namespace.
const NAMESPACE_SUBRESOURCES: &[&str] = &["status", "finalize"];

impl RequestInfo {
    #[must_use]
    pub(super) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self {
            verb: Verb::Other,
            method: method.as_str().to_ascii_lowercase(),
            path: path.to_owned(),
            resource: None,
        };
        if let Some((verb, mut resource)) = parse_resource(method, path) {
            info.verb = specific_verb(verb, &resource, query);
            if matches!(info.verb, Verb::List | Verb::Watch) && resource.name.is_none() {
                resource.name = name_in_field_selector(query);
            }
            info.resource = Some(resource);
        }
        info
    }

    /// Whether this can change anything.
    #[must_use]
    pub(super) fn is_mutating(&self) -> bool {
        self.resource.is_some() && !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// Whether the answer may take as long as the client likes, so that no limit on requests
    /// under way counts it.
    #[must_use]
    pub(super) fn is_long_running(&self) -> bool {
        let subresource = self.resource.as_ref().and_then(|path| path.subresource.as_deref());
        self.verb == Verb::Watch
            || self.path == TUNNEL_PATH
            || matches!(subresource, Some("log" | "exec" | "attach" | "portforward" | "proxy"))
    }
}

fn parse_resource(method: &Method, path: &str) -> Option<(Verb, ResourcePath)> {
    let parts: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (group, version, mut rest) = match &parts[..] {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return None,
    };
    let mut verb = match *method {
        Method::POST => Verb::Create,
        Method::GET | Method::HEAD => Verb::Get,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    };
    // The old form of a watch, `/api/v1/watch/...`.
    if let ["watch", resource @ ..] = rest
        && !resource.is_empty()
    {
        // Whatever watches only reads.
        verb = if verb == Verb::Get { Verb::Watch } else { Verb::Other };
        rest = resource;
    }
    let mut namespace = None;
    if let ["namespaces", name, inside @ ..] = rest {
        namespace = Some((*name).to_owned());
        if inside.first().is_some_and(|first| !NAMESPACE_SUBRESOURCES.contains(first)) {
            rest = inside;
        }
    }
    let segment = |index: usize| rest.get(index).map(|part| (*part).to_owned());
    let resource = ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace,
        resource: segment(0)?,
        name: segment(1),
        subresource: segment(2),
        rest: (rest.len() > 3).then(|| rest[3..].join("/")),
    };
    Some((verb, resource))
}

fn specific_verb(verb: Verb, resource: &ResourcePath, query: &Query) -> Verb {
    match verb {
        Verb::Get if resource.name.is_none() && query.flag("watch") => Verb::Watch,
        Verb::Get if resource.name.is_none() => Verb::List,
        Verb::Delete if resource.name.is_none() => Verb::DeleteCollection,
        other => other,
    }
}

fn name_in_field_selector(query: &Query) -> Option<String> {
    let selector: FieldSelector = query.get("fieldSelector")?.parse().ok()?;
    let name = selector.required("metadata.name")?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expected: &str) {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, &Query::parse(query));
        let Some(resource) = info.resource else {
            assert_eq!(format!("{} {}", info.method, info.path), expected, "{request}");
            return;
        };
        let mut text = format!("{} {}/{}", info.verb.as_str(), resource.version, resource.resource);
        for (mark, part) in [
            (" group=", Some(resource.group).filter(|group| !group.is_empty())),
            (" ns=", resource.namespace),
            (" name=", resource.name),
            (" sub=", resource.subresource),
        ] {
            if let Some(part) = part {
                text.push_str(mark);
                text.push_str(&part);
            }
        }
        assert_eq!(text, expected, "{request}");
    }

    #[test]
    fn paths_mean_what_upstream_says() {
        check("GET /version", "get /version");
        check("GET /api/v1", "get /api/v1");
        check("GET /apis/apps/v1", "get /apis/apps/v1");
        check("GET /api/v1/pods", "list v1/pods");
        check("GET /api/v1/pods?watch=true", "watch v1/pods");
        check("GET /api/v1/pods?watch=0", "list v1/pods");
        check("GET /api/v1/watch/pods", "watch v1/pods");
        check("HEAD /api/v1/watch/pods", "watch v1/pods");
        check("POST /api/v1/watch/pods", " v1/pods");
        check("GET /api/v1/watch/namespaces/a/pods/b", "watch v1/pods ns=a name=b");
        check("GET /api/v1/namespaces", "list v1/namespaces");
        check("GET /api/v1/namespaces/a", "get v1/namespaces ns=a name=a");
        check("PUT /api/v1/namespaces/a/finalize", "update v1/namespaces ns=a name=a sub=finalize");
        check("POST /api/v1/namespaces/a/pods", "create v1/pods ns=a");
        check("GET /api/v1/namespaces/a/pods/b/log", "get v1/pods ns=a name=b sub=log");
        check(
            "DELETE /apis/apps/v1/namespaces/a/deployments",
            "deletecollection v1/deployments group=apps ns=a",
        );
        check(
            "PATCH /apis/apps/v1/namespaces/a/deployments/b",
            "patch v1/deployments group=apps ns=a name=b",
        );
        check("GET /api/v1/namespaces/a/configmaps/x%3Ay", "get v1/configmaps ns=a name=x:y");
        check(
            "GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db",
            "list v1/pods ns=a name=b",
        );
    }
}
