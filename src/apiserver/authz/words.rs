//! What somebody is told who may not do what they want.
//!
//! Follows upstream `ForbiddenStatusError` (apiserver
//! pkg/endpoints/handlers/responsewriters/errors.go, v1.35).

use super::super::rbac::Action;
use super::Ask;
use crate::api::status::{Details, Reason, Status};

/// `reason` is empty where there is nothing to say.
pub(super) fn forbidden(ask: &Ask<'_>, reason: &str) -> Status {
    let user = ask.user;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let (verb, group, resource, subresource, name, namespace) = match ask.action {
        Action::Path { verb, path } => {
            let what = escape_markup(&format!("User {user:?} cannot {verb} path {path:?}"));
            return Status::new(Reason::Forbidden, format!("forbidden: {what}{reason}"));
        }
        Action::Resource { verb, group, resource, subresource, name, namespace } => {
            (verb, group, resource, subresource, name, namespace)
        }
    };
    let whole = match subresource {
        "" => resource.to_owned(),
        below => format!("{resource}/{below}"),
    };
    let place = match namespace {
        Some(namespace) if !namespace.is_empty() => format!("in the namespace {namespace:?}"),
        _ => "at the cluster scope".to_owned(),
    };
    let what =
        format!("User {user:?} cannot {verb} resource {whole:?} in API group {group:?} {place}");
    let what = escape_markup(&what);
    let message = format!("{} is forbidden: {what}{reason}", qualified(group, resource, name));
    let details = Box::new(Details {
        name: name.to_owned(),
        group: group.to_owned(),
        kind: resource.to_owned(),
        ..Details::default()
    });
    Status { details, ..Status::new(Reason::Forbidden, message) }
}

/// `pods`, `pods "web"`, `deployments.apps "web"`.
fn qualified(group: &str, resource: &str, name: &str) -> String {
    let resource =
        if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    if name.is_empty() { resource } else { format!("{resource} {name:?}") }
}

/// User-chosen text must not look like HTML to a browser.
fn escape_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::super::identity::Identity;
    use super::super::super::query::Query;
    use super::super::super::request::RequestInfo;
    use super::*;

    #[track_caller]
    fn check(request: &str, reason: &str, expected: &str) {
        let (method, path) = request.split_once(' ').unwrap();
        let info = RequestInfo::parse(&method.parse().unwrap(), path, &Query::default());
        let anonymous = Identity::anonymous();
        let status = forbidden(&Ask::of_request(&anonymous, &info, &Query::default()), reason);
        assert_eq!(status.message, expected, "{request}");
    }

    #[test]
    fn the_words_are_upstreams() {
        check(
            "POST /version",
            "",
            "forbidden: User \"system:anonymous\" cannot post path \"/version\"",
        );
        check(
            "GET /<b>",
            "",
            "forbidden: User \"system:anonymous\" cannot get path \"/&lt;b&gt;\"",
        );
        check(
            "GET /api/v1/namespaces/default/pods",
            "",
            "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API \
             group \"\" in the namespace \"default\"",
        );
        check(
            "GET /apis/apps/v1/deployments/a",
            "RBAC: clusterrole.rbac.authorization.k8s.io \"x\" not found",
            "deployments.apps \"a\" is forbidden: User \"system:anonymous\" cannot get resource \
             \"deployments\" in API group \"apps\" at the cluster scope: RBAC: \
             clusterrole.rbac.authorization.k8s.io \"x\" not found",
        );
        check(
            "GET /api/v1/namespaces/default/pods/a/log",
            "",
            "pods \"a\" is forbidden: User \"system:anonymous\" cannot get resource \"pods/log\" \
             in API group \"\" in the namespace \"default\"",
        );
    }
}
