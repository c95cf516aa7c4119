//! Who may do what.
//!
//! For now a short list: the group `system:masters` and the components' own identities may do
//! everything, anybody may ask for health and version. RBAC and the Node authorizer take this
//! function's place.

use super::identity::{Identity, MASTERS, NODES};
use super::request::{RequestInfo, ResourcePath};
use crate::api::status::{Details, Reason, Status};

/// Components that are known by a user of their own.
const COMPONENTS: &[&str] = &[
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kube-proxy",
];

/// Paths that anybody may read, with everything below them.
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

/// Lets the request through or says why not.
///
/// # Errors
/// Forbidden, in upstream's words (apiserver pkg/endpoints/handlers/responsewriters/errors.go).
pub(super) fn authorize(identity: &Identity, request: &RequestInfo) -> Result<(), Status> {
    if is_component(identity) || is_public(request) {
        return Ok(());
    }
    Err(forbidden(identity, request))
}

fn is_component(identity: &Identity) -> bool {
    let user = identity.user();
    let is_node = user.starts_with("system:node:") && identity.is_in(NODES);
    identity.is_in(MASTERS)
        || COMPONENTS.contains(&user)
        || is_node
        || user.starts_with("system:serviceaccount:kube-system:")
}

/// Whether anybody may ask this.
pub(super) fn is_public(request: &RequestInfo) -> bool {
    let below = |public: &str| {
        request
            .path
            .strip_prefix(public)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    matches!(request.method.as_str(), "get" | "head") && PUBLIC_PATHS.iter().any(|path| below(path))
}

fn forbidden(identity: &Identity, request: &RequestInfo) -> Status {
    let user = identity.user();
    let Some(path) = &request.resource else {
        let what = format!("User {user:?} cannot {} path {:?}", request.method, request.path);
        return Status::new(Reason::Forbidden, format!("forbidden: {}", escape_markup(&what)));
    };
    let verb = request.verb.as_str();
    let resource = match &path.subresource {
        Some(subresource) => format!("{}/{subresource}", path.resource),
        None => path.resource.clone(),
    };
    let place = match &path.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let group = &path.group;
    let what =
        format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}");
    let message = format!("{} is forbidden: {}", qualified(path), escape_markup(&what));
    let details = Box::new(Details {
        name: path.name.clone().unwrap_or_default(),
        group: group.clone(),
        kind: path.resource.clone(),
        ..Details::default()
    });
    Status { details, ..Status::new(Reason::Forbidden, message) }
}

/// `pods`, `pods "web"`, `deployments.apps "web"`.
fn qualified(path: &ResourcePath) -> String {
    let resource = if path.group.is_empty() {
        path.resource.clone()
    } else {
        format!("{}.{}", path.resource, path.group)
    };
    match &path.name {
        Some(name) => format!("{resource} {name:?}"),
        None => resource,
    }
}

/// User-chosen text must not look like HTML to a browser.
fn escape_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::query::Query;
    use super::*;

    fn check(identity: &Identity, request: &str, expected: &str) {
        let (method, path) = request.split_once(' ').unwrap();
        let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::default());
        let answer = match authorize(identity, &info) {
            Ok(()) => "yes".to_owned(),
            Err(status) => status.message,
        };
        assert_eq!(answer, expected, "{identity:?} {request}");
    }

    #[test]
    fn anonymous_gets_health_and_version_only() {
        let anonymous = Identity::anonymous();
        for path in ["/healthz", "/livez/ping", "/readyz", "/version"] {
            check(&anonymous, &format!("GET {path}"), "yes");
        }
        check(
            &anonymous,
            "POST /version",
            "forbidden: User \"system:anonymous\" cannot post path \"/version\"",
        );
        check(
            &anonymous,
            "GET /healthzz",
            "forbidden: User \"system:anonymous\" cannot get path \"/healthzz\"",
        );
        check(
            &anonymous,
            "GET /api/v1/namespaces/default/pods",
            "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API \
             group \"\" in the namespace \"default\"",
        );
        check(
            &anonymous,
            "GET /apis/apps/v1/deployments/a",
            "deployments.apps \"a\" is forbidden: User \"system:anonymous\" cannot get resource \
             \"deployments\" in API group \"apps\" at the cluster scope",
        );
    }

    #[test]
    fn components_may_do_everything() {
        for identity in [
            Identity::new("alice", &["system:masters"]),
            Identity::node("one"),
            Identity::new("system:kube-scheduler", &[]),
            Identity::service_account("kube-system", "deployment-controller"),
        ] {
            check(&identity, "DELETE /api/v1/namespaces/default/pods/a", "yes");
        }
    }

    #[test]
    fn others_may_not() {
        for identity in [
            Identity::new("alice", &[]),
            Identity::new("system:node:one", &[]),
            Identity::service_account("default", "default"),
        ] {
            let info = RequestInfo::parse(&http::Method::GET, "/api/v1/pods", &Query::default());
            assert!(authorize(&identity, &info).is_err(), "{identity:?}");
        }
    }
}
