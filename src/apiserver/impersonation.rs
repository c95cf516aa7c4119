//! Acting as somebody else: `Impersonate-*` headers, each of which has to be allowed.
//!
//! Follows upstream `WithImpersonation` (apiserver pkg/endpoints/filters/impersonation.go, v1.35).

use super::authz::{self, Ask};
use super::identity::{ANONYMOUS, AUTHENTICATED, Extra, Identity, UNAUTHENTICATED};
use super::rbac::Action;
use super::server::Server;
use crate::api::status::Status;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

const PREFIX: &str = "impersonate-";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const GROUP: &str = "authentication.k8s.io";

/// Whom somebody wants to act as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: String,
    uid: String,
    /// `None`: those that follow from the user.
    groups: Option<Vec<String>>,
    extra: Extra,
}

/// One thing that has to be allowed: to impersonate this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part<'a> {
    group: &'static str,
    resource: &'static str,
    subresource: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
}

/// Who acts: the asker, or whom they may act as.
///
/// # Errors
/// Forbidden where they may not, an internal error (as upstream has it) where no user is named.
pub(super) async fn impersonate(
    server: &Server,
    asker: Arc<Identity>,
    headers: &HeaderMap,
) -> Result<Arc<Identity>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(asker);
    }
    let wanted = Wanted::of(headers);
    if wanted == Wanted::default() {
        return Ok(asker);
    }
    if wanted.user.is_empty() {
        return Err(Status::internal(
            "requested groups, a uid or extra without impersonating a user",
        ));
    }
    for part in wanted.parts() {
        authz::require(server, &Ask::of(&asker, part.action())).await?;
    }
    Ok(Arc::new(wanted.identity()))
}

impl Wanted {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let all = |name: &str| -> Vec<String> {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.map(str::to_owned).collect()
        };
        let mut extra = Extra::new();
        for name in headers.keys() {
            if let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) {
                let decoded = percent_decode_str(key).decode_utf8();
                let key = decoded.map_or_else(|_| key.to_owned(), |key| key.into_owned());
                extra.entry(key).or_default().extend(all(name.as_str()));
            }
        }
        let groups = Some(all("impersonate-group")).filter(|groups| !groups.is_empty());
        Self { user: text("impersonate-user"), uid: text("impersonate-uid"), groups, extra }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = vec![match account(&self.user) {
            Some((namespace, name)) => Part {
                resource: "serviceaccounts",
                namespace: Some(namespace),
                name,
                ..Part::default()
            },
            None => Part { resource: "users", name: &self.user, ..Part::default() },
        }];
        let groups = self.groups.iter().flatten();
        parts.extend(groups.map(|name| Part { resource: "groups", name, ..Part::default() }));
        for (key, values) in &self.extra {
            parts.extend(values.iter().map(|name| Part {
                group: GROUP,
                resource: "userextras",
                subresource: key,
                name,
                ..Part::default()
            }));
        }
        if !self.uid.is_empty() {
            parts.push(Part { group: GROUP, resource: "uids", name: &self.uid, ..Part::default() });
        }
        parts
    }

    fn identity(self) -> Identity {
        let own = |name: &str| name.to_owned();
        let mut groups = self.groups.unwrap_or_else(|| match account(&self.user) {
            Some((namespace, _)) => {
                vec![own("system:serviceaccounts"), format!("system:serviceaccounts:{namespace}")]
            }
            None => Vec::new(),
        });
        let has = |name: &str| groups.iter().any(|group| group == name);
        let more = match self.user.as_str() {
            ANONYMOUS => Some(UNAUTHENTICATED).filter(|group| !has(group)),
            _ => Some(AUTHENTICATED).filter(|group| !has(group) && !has(UNAUTHENTICATED)),
        };
        groups.extend(more.map(own));
        Identity::exactly(self.user, groups).with_uid(self.uid).with_extra(self.extra)
    }
}

impl<'a> Part<'a> {
    fn action(&self) -> Action<'a> {
        Action::Resource {
            verb: "impersonate",
            group: self.group,
            resource: self.resource,
            subresource: self.subresource,
            name: self.name,
            namespace: self.namespace,
        }
    }
}

/// Namespace and name of the account that a user is (upstream `serviceaccount.SplitUsername`).
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], parts: &str, identity: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let wanted = Wanted::of(&map);
        let shown: Vec<_> = wanted
            .parts()
            .iter()
            .map(|part| {
                let slash = if part.subresource.is_empty() { "" } else { "/" };
                let namespace = part.namespace.map(|name| format!("{name}:")).unwrap_or_default();
                format!("{}{slash}{} {namespace}{}", part.resource, part.subresource, part.name)
            })
            .collect();
        assert_eq!(shown.join(", "), parts);
        let made = wanted.identity();
        let shown = format!("{} {} [{}]", made.user(), made.uid(), made.groups().join(","));
        assert_eq!(shown, identity);
    }

    #[test]
    fn each_part_has_to_be_allowed() {
        check(&[("impersonate-user", "alice")], "users alice", "alice  [system:authenticated]");
        check(
            &[
                ("impersonate-user", "alice"),
                ("impersonate-group", "dev"),
                ("impersonate-group", "ops"),
                ("impersonate-uid", "7"),
                ("impersonate-extra-acme.com%2fproject", "a"),
                ("impersonate-extra-acme.com%2fproject", "b"),
            ],
            "users alice, groups dev, groups ops, userextras/acme.com/project a, \
             userextras/acme.com/project b, uids 7",
            "alice 7 [dev,ops,system:authenticated]",
        );
        check(
            &[("impersonate-user", "system:serviceaccount:a:b")],
            "serviceaccounts a:b",
            "system:serviceaccount:a:b  [system:serviceaccounts,system:serviceaccounts:a,system:authenticated]",
        );
        check(
            &[("impersonate-user", "system:anonymous")],
            "users system:anonymous",
            "system:anonymous  [system:unauthenticated]",
        );
        check(
            &[("impersonate-user", "bob"), ("impersonate-group", "system:unauthenticated")],
            "users bob, groups system:unauthenticated",
            "bob  [system:unauthenticated]",
        );
    }
}
