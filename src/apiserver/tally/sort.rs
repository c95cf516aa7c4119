//! What requests have in common that are counted together.
//!
//! A sort is looked up by borrowed words: counting a request allocates nothing, but the first of its
//! sort. Only of what is served are the words told. Start at [`sort_of`].

use super::super::metrics;
use super::super::request::{ResourcePath, Verb};
use super::super::server::Asked;
use crate::registry::Rows;
use crate::stdx::exposition::Labels;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

/// Paths that are no resources, with what is below them; others are told as nothing.
const DOCUMENTS: &[&str] = &[
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/apis",
    "/api",
    "/.well-known",
    "/openid",
    "/cacerts",
];

/// What requests of one sort have in common, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sort<'a> {
    pub(super) verb: &'static str,
    pub(super) dry_run: &'static str,
    pub(super) scope: &'static str,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) resource: &'a str,
    pub(super) subresource: &'a str,
}

impl Sort<'_> {
    /// Nothing is known but the verb.
    pub(super) fn of_verb(verb: &'static str) -> Sort<'static> {
        let none = "";
        Sort {
            verb,
            dry_run: none,
            scope: none,
            group: none,
            version: none,
            resource: none,
            subresource: none,
        }
    }

    /// The same without what there may be many of.
    pub(super) fn coarse(self) -> Sort<'static> {
        Sort { dry_run: self.dry_run, scope: self.scope, ..Sort::of_verb(self.verb) }
    }
}

impl<'a> Sort<'a> {
    /// Its labels as upstream's metrics have them, `dry_run` left out, as not all have it.
    pub(super) fn labels(&self) -> Labels<'a> {
        vec![
            ("component", "apiserver"),
            ("group", self.group),
            ("resource", self.resource),
            ("scope", self.scope),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("version", self.version),
        ]
    }
}

/// A [`Sort`] that is kept.
#[derive(Clone, Debug)]
pub(super) struct OwnedSort {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    words: [Box<str>; 4],
}

impl From<Sort<'_>> for OwnedSort {
    fn from(sort: Sort<'_>) -> Self {
        let Sort { verb, dry_run, scope, .. } = sort;
        let words = [sort.group, sort.version, sort.resource, sort.subresource].map(Box::from);
        Self { verb, dry_run, scope, words }
    }
}

/// Whatever has the words of a sort, borrowed or its own.
pub(super) trait Sorted {
    fn sort(&self) -> Sort<'_>;
}

impl Sorted for Sort<'_> {
    fn sort(&self) -> Sort<'_> {
        *self
    }
}

impl Sorted for OwnedSort {
    fn sort(&self) -> Sort<'_> {
        let Self { verb, dry_run, scope, words: [group, version, resource, subresource] } = self;
        Sort { verb, dry_run, scope, group, version, resource, subresource }
    }
}

impl Hash for dyn Sorted + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sort().hash(state);
    }
}

impl PartialEq for dyn Sorted + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.sort() == other.sort()
    }
}

impl Eq for dyn Sorted + '_ {}

impl Hash for OwnedSort {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sort().hash(state);
    }
}

impl PartialEq for OwnedSort {
    fn eq(&self, other: &Self) -> bool {
        self.sort() == other.sort()
    }
}

impl Eq for OwnedSort {}

impl<'a> Borrow<dyn Sorted + 'a> for OwnedSort {
    fn borrow(&self) -> &(dyn Sorted + 'a) {
        self
    }
}

/// The sort of a request.
pub(super) fn sort_of<'a>(rows: &Rows, asked: &'a Asked) -> Sort<'a> {
    let none = Sort { dry_run: dry_run_of(asked), ..Sort::of_verb(verb_of(asked)) };
    let Some(path) = &asked.info.resource else {
        return Sort { subresource: document(&asked.info.path), ..none };
    };
    if !is_served(rows, path) {
        return none;
    }
    Sort {
        scope: scope_of(asked.info.verb, path),
        group: &path.group,
        version: &path.version,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        ..none
    }
}

fn document(path: &str) -> &'static str {
    let is_below = |known: &&&'static str| {
        let rest = path.strip_prefix(**known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    DOCUMENTS.iter().find(is_below).copied().unwrap_or_default()
}

fn is_served(rows: &Rows, path: &ResourcePath) -> bool {
    if path.group == metrics::GROUP {
        let is_known = |(plural, ..): &(&str, &str, bool)| *plural == path.resource;
        return path.version == metrics::VERSION && metrics::RESOURCES.iter().any(is_known);
    }
    let is_bindings = path.group.is_empty() && path.resource == "bindings";
    let plural = if is_bindings { "pods" } else { &path.resource };
    let Some(kind) = rows.find(&path.group, &path.version, plural) else { return false };
    path.subresource.as_deref().is_none_or(|name| kind.facts.subresource(name).is_some())
}

/// What a request is for: an object, those of a namespace, or of the whole cluster. Follows
/// upstream `registerResourceHandlers` (apiserver pkg/endpoints/installer.go, v1.35).
fn scope_of(verb: Verb, path: &ResourcePath) -> &'static str {
    let is_collection = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    match &path.namespace {
        _ if !is_collection => "resource",
        Some(_) => "namespace",
        None => "cluster",
    }
}

/// Upstream `cleanDryRun`.
fn dry_run_of(asked: &Asked) -> &'static str {
    if asked.query.get("dryRun").is_none() {
        return "";
    }
    if asked.query.all("dryRun").all(|value| value == "All") { "All" } else { "invalid" }
}

/// Upstream `cleanVerb`: methods, but for what is worth telling apart.
fn verb_of(asked: &Asked) -> &'static str {
    let resource = asked.info.resource.as_ref();
    let part = resource.and_then(|path| path.subresource.as_deref());
    if matches!(part, Some("exec" | "attach" | "portforward" | "proxy" | "log")) {
        return "CONNECT";
    }
    let is_apply = |value: &HeaderValue| value.as_bytes().starts_with(b"application/apply-patch");
    match (asked.info.verb, &asked.method) {
        (Verb::Watch, _) => "WATCH",
        (Verb::List, _) => "LIST",
        (_, &(Method::GET | Method::HEAD)) => "GET",
        (_, &Method::POST) => "POST",
        (_, &Method::PUT) => "PUT",
        (_, &Method::PATCH) if asked.headers.get(CONTENT_TYPE).is_some_and(is_apply) => "APPLY",
        (_, &Method::PATCH) => "PATCH",
        (_, &Method::DELETE) => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &str, expected: &str) {
        let (method, target) = request.split_once(' ').unwrap();
        let head = http::Request::builder().method(method).uri(target).body(()).unwrap();
        let asked = Asked::of(head.into_parts().0);
        let rows = Rows::default();
        let Sort { verb, dry_run, scope, group, version, resource, subresource } =
            sort_of(&rows, &asked);
        let words = [verb, dry_run, scope, group, version, resource, subresource];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(words.join(" "), expected, "{request}");
    }

    #[test]
    fn requests_are_told_apart_by_what_is_served() {
        check("GET /api/v1/pods", "LIST cluster v1 pods");
        check("HEAD /api/v1/namespaces/a/pods", "LIST namespace v1 pods");
        check("GET /api/v1/namespaces/a/pods?watch=1", "WATCH namespace v1 pods");
        check("GET /api/v1/watch/pods", "WATCH cluster v1 pods");
        check("GET /api/v1/namespaces/a/pods/b", "GET resource v1 pods");
        check("POST /api/v1/namespaces/a/pods", "POST resource v1 pods");
        check("POST /api/v1/namespaces/a/bindings", "POST resource v1 bindings");
        check("DELETE /api/v1/namespaces/a/pods", "DELETE namespace v1 pods");
        check("GET /api/v1/namespaces/a/pods/b/log", "CONNECT resource v1 pods log");
        check("PUT /apis/apps/v1/namespaces/a/deployments/b/status", {
            "PUT resource apps v1 deployments status"
        });
        check("POST /api/v1/namespaces?dryRun=All", "POST All resource v1 namespaces");
        check("POST /api/v1/namespaces?dryRun=x", "POST invalid resource v1 namespaces");
        check("GET /apis/metrics.k8s.io/v1beta1/nodes", {
            "LIST cluster metrics.k8s.io v1beta1 nodes"
        });
    }

    #[test]
    fn what_strangers_make_up_is_told_as_nothing() {
        check("GET /apis/made.up/v1/things", "LIST");
        check("GET /api/v1/namespaces/a/pods/b/made-up", "GET");
        check("GET /made/up", "GET");
        check("BREW /healthzzz", "other");
        check("GET /healthz", "GET /healthz");
        check("GET /livez/ping", "GET /livez");
        check("GET /apis/apps", "GET /apis");
    }
}
