//! The paths of a kind, and what may be done at each of them. Pure.
//!
//! Start at [`of`]. Paths, names of operations and their parameters are those that upstream's
//! installer makes of its storage (apiserver pkg/endpoints/{installer,openapi/openapi}.go, v1.35);
//! client generators make their methods of them.

use super::operation::{Body, Method, Operation, Place, parameter};
use super::schemas::{Edition, find_kind};
use super::sources::path_of;
use crate::registry::{Body as Seen, Kind, Subresource};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Of which schemas the objects of a kind and their lists are.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) object: String,
    pub(super) list: String,
}

const DELETION: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const SELECTION: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const COLLECTION_DELETION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

/// What those who connect say.
fn of_connection(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "proxy" => &["path"],
        _ => &[],
    }
}

/// The paths of a kind.
#[derive(Debug)]
struct Paths<'k> {
    kind: &'k Kind,
    names: &'k Names,
    edition: Edition,
    /// `/apis/apps/v1`.
    root: String,
    items: Map<String, Value>,
}

/// All paths of the kind, each with its operations.
pub(super) fn of(kind: &Kind, names: &Names, edition: Edition) -> Map<String, Value> {
    let root = format!("/{}", path_of(kind));
    let mut paths = Paths { kind, names, edition, root, items: Map::new() };
    paths.collection();
    paths.object();
    for subresource in &*kind.facts.subresources {
        paths.subresource(subresource);
        if subresource.name == "binding" {
            paths.bindings(subresource);
        }
    }
    paths.watches();
    paths.items
}

impl Paths<'_> {
    fn can(&self, verb: &str) -> bool {
        self.kind.facts.verbs.contains(&verb)
    }

    fn is_namespaced(&self) -> bool {
        self.kind.facts.is_namespaced()
    }

    /// Where objects are made, below the root.
    fn collection_path(&self) -> String {
        let namespace = if self.is_namespaced() { "/namespaces/{namespace}" } else { "" };
        format!("{namespace}/{}", self.kind.facts.plural)
    }

    /// What is done, to what: `NamespacedPod`.
    fn subject(&self) -> String {
        let scope = if self.is_namespaced() { "Namespaced" } else { "" };
        format!("{scope}{}", self.kind.facts.kind)
    }

    fn operation(&self, prefix: &'static str, rest: String, action: &'static str) -> Operation {
        let facts = &self.kind.facts;
        Operation {
            prefix,
            rest,
            action,
            group: facts.group.to_string(),
            version: facts.version.to_string(),
            kind: json!({"group": facts.group, "kind": facts.kind, "version": facts.version}),
            parameters: &[],
            body: Body::None,
            answer: Some(self.names.object.clone()),
            codes: &[200],
            streams: false,
            is_custom: self.kind.custom_version().is_some(),
        }
    }

    /// Adds a path with its operations, if there are any.
    fn add(&mut self, path: &str, own: &[&str], operations: Vec<(Method, Operation)>) {
        if operations.is_empty() {
            return;
        }
        // What all operations have in common is said once, of the path.
        let is_common = |name: &&str| {
            operations.iter().all(|(_, operation)| operation.parameters.contains(name))
        };
        let all = operations.first().into_iter().flat_map(|(_, first)| first.parameters);
        let common: BTreeSet<&str> =
            own.iter().chain(all.filter(|it| is_common(it))).copied().collect();
        let mut item = Map::new();
        for (method, operation) in &operations {
            let names = operation.parameters.iter().filter(|name| !common.contains(*name));
            let names: Vec<&str> = names.copied().collect();
            item.insert(method.name().to_owned(), operation.render(&names, self.edition));
        }
        let in_path = ["name", "namespace", "path"].into_iter();
        let in_path = in_path.filter(|name| path.contains(&format!("{{{name}}}")));
        let mut parameters: Vec<_> = in_path.map(|name| (name, Place::Path)).collect();
        parameters.extend(common.iter().map(|name| (*name, Place::Query)));
        parameters.sort_by_key(|(name, _)| *name);
        let parameters = parameters.into_iter();
        let parameters = parameters.map(|(name, place)| parameter(name, place, self.edition));
        item.insert("parameters".to_owned(), parameters.collect());
        self.items.insert(format!("{}{path}", self.root), Value::Object(item));
    }

    fn collection(&mut self) {
        let (subject, path) = (self.subject(), self.collection_path());
        let mut operations = Vec::new();
        if self.can("deletecollection") {
            let deletion = Operation {
                parameters: COLLECTION_DELETION,
                body: Body::DeleteOptions,
                answer: Some(Operation::STATUS.to_owned()),
                ..self.operation("delete", format!("Collection{subject}"), "deletecollection")
            };
            operations.push((Method::Delete, deletion));
        }
        if self.can("list") {
            operations.push((Method::Get, self.list(subject.clone())));
        }
        if self.can("create") {
            let creation = Operation {
                parameters: WRITE,
                body: Body::Of(self.names.object.clone()),
                codes: &[200, 201, 202],
                ..self.operation("create", subject, "post")
            };
            operations.push((Method::Post, creation));
        }
        self.add(&path, &["pretty"], operations);
        if self.is_namespaced() && self.can("list") {
            let list = self.list(format!("{}ForAllNamespaces", self.kind.facts.kind));
            let path = format!("/{}", self.kind.facts.plural);
            self.add(&path, &["pretty"], vec![(Method::Get, list)]);
        }
    }

    fn list(&self, rest: String) -> Operation {
        Operation {
            parameters: SELECTION,
            answer: Some(self.names.list.clone()),
            streams: true,
            ..self.operation("list", rest, "list")
        }
    }

    fn object(&mut self) {
        let subject = self.subject();
        let mut operations = Vec::new();
        if self.can("delete") {
            let answer = if self.kind.returns_deleted {
                self.names.object.clone()
            } else {
                Operation::STATUS.to_owned()
            };
            let deletion = Operation {
                parameters: DELETION,
                body: Body::DeleteOptions,
                answer: Some(answer),
                codes: &[200, 202],
                ..self.operation("delete", subject.clone(), "delete")
            };
            operations.push((Method::Delete, deletion));
        }
        let verbs = ["get", "patch", "update"].into_iter().filter(|verb| self.can(verb));
        operations.extend(verbs.map(|verb| self.of_object(verb, subject.clone())));
        self.add(&format!("{}/{{name}}", self.collection_path()), &["pretty"], operations);
    }

    /// To read or to write an object, or a part of it.
    fn of_object(&self, verb: &str, rest: String) -> (Method, Operation) {
        match verb {
            "patch" => {
                let patch = self.operation("patch", rest, "patch");
                let (parameters, body, codes) = (PATCH, Body::Patch, &[200, 201][..]);
                (Method::Patch, Operation { parameters, body, codes, ..patch })
            }
            "update" => {
                let put = self.operation("replace", rest, "put");
                let body = Body::Of(self.names.object.clone());
                (Method::Put, Operation { parameters: WRITE, body, codes: &[200, 201], ..put })
            }
            _ => (Method::Get, self.operation("read", rest, "get")),
        }
    }

    fn subresource(&mut self, subresource: &Subresource) {
        let path = format!("{}/{{name}}/{}", self.collection_path(), subresource.name);
        let rest = format!("{}{}", self.subject(), capitalized(subresource.name));
        let (group, version, kind) = subresource.speaks(&self.kind.facts);
        let seen = json!({"group": group, "kind": kind, "version": version});
        if kind.ends_with("Options") {
            self.connection(subresource, &path, &rest, &seen);
            return;
        }
        let name = match subresource.body {
            Seen::Parent => None,
            Seen::Other { .. } => find_kind(group, version, kind).map(|(_, name)| name),
        };
        let name = name.unwrap_or_else(|| self.names.object.clone());
        let mut operations = Vec::new();
        for verb in subresource.verbs {
            let (method, mut operation) = match *verb {
                "create" => {
                    let body = Body::Of(name.clone());
                    let creation = self.operation("create", rest.clone(), "post");
                    (Method::Post, Operation { body, codes: &[200, 201, 202], ..creation })
                }
                verb => self.of_object(verb, rest.clone()),
            };
            operation.answer = Some(name.clone());
            if matches!(operation.body, Body::Of(_)) {
                operation.body = Body::Of(name.clone());
            }
            operation.kind = seen.clone();
            if subresource.name == "log" {
                operation.answer = None;
            }
            operations.push((method, operation));
        }
        let own: Vec<&str> = match subresource.name {
            "log" => LOG.iter().chain(&["pretty"]).copied().collect(),
            // What creates says it for the whole path.
            _ if subresource.verbs == ["create"] => {
                WRITE.iter().chain(&["pretty"]).copied().collect()
            }
            _ => vec!["pretty"],
        };
        self.add(&path, &own, operations);
    }

    /// Bindings can also be made where objects of a kind of their own would be.
    fn bindings(&mut self, subresource: &Subresource) {
        let (group, version, kind) = subresource.speaks(&self.kind.facts);
        let Some((_, name)) = find_kind(group, version, kind) else { return };
        let creation = Operation {
            kind: json!({"group": group, "kind": kind, "version": version}),
            body: Body::Of(name.clone()),
            answer: Some(name),
            codes: &[200, 201, 202],
            ..self.operation("create", format!("Namespaced{kind}"), "post")
        };
        let own: Vec<_> = WRITE.iter().chain(&["pretty"]).copied().collect();
        self.add("/namespaces/{namespace}/bindings", &own, vec![(Method::Post, creation)]);
    }

    /// What is no object but a connection.
    fn connection(&mut self, subresource: &Subresource, path: &str, rest: &str, seen: &Value) {
        let is_proxy = subresource.name == "proxy";
        let methods: &[Method] = if is_proxy { &Method::ALL } else { &[Method::Get, Method::Post] };
        let operations = |paths: &Self, with: &str| -> Vec<(Method, Operation)> {
            let connect = |method: &Method| {
                let rest = format!("{}{rest}{with}", capitalized(method.name()));
                let kind = seen.clone();
                let connect = paths.operation("connect", rest, "connect");
                (*method, Operation { kind, answer: None, ..connect })
            };
            methods.iter().map(connect).collect()
        };
        let own = of_connection(subresource.name);
        self.add(path, own, operations(self, ""));
        if is_proxy {
            self.add(&format!("{path}/{{path}}"), own, operations(self, "WithPath"));
        }
    }

    /// The paths by which watches were asked for before lists had the parameter.
    fn watches(&mut self) {
        if !self.can("watch") {
            return;
        }
        let subject = self.subject();
        let own: Vec<_> = SELECTION.iter().chain(&["pretty"]).copied().collect();
        let watch = |paths: &Self, rest: String, action| {
            let operation = paths.operation("watch", rest, action);
            let answer = Some(Operation::WATCH_EVENT.to_owned());
            vec![(Method::Get, Operation { answer, streams: true, ..operation })]
        };
        let path = format!("/watch{}", self.collection_path());
        self.add(&path, &own, watch(self, format!("{subject}List"), "watchlist"));
        self.add(&format!("{path}/{{name}}"), &own, watch(self, subject, "watch"));
        if self.is_namespaced() {
            let rest = format!("{}ListForAllNamespaces", self.kind.facts.kind);
            let path = format!("/watch/{}", self.kind.facts.plural);
            self.add(&path, &own, watch(self, rest, "watchlist"));
        }
    }
}

/// `Ephemeralcontainers`.
fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect()
    })
}
