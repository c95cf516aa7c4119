//! As much of an API server as caches need: lists and watches of what a test puts in.

use futures_util::future::BoxFuture;
use futures_util::stream;
use kinglet::stdx::http::{Body, HttpService, Request, Response, full, streamed};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Api {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    /// By plural, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    /// What has happened, as watches tell it; at index n, what made revision n + 1.
    events: Vec<(String, Value)>,
    asked: Vec<String>,
}

/// Which objects a request is about.
#[derive(Clone, Debug)]
struct Wanted {
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Wanted {
    fn of(path: &str, query: &str) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        let at = parts.iter().position(|part| *part == "namespaces");
        let namespace = at.and_then(|at| parts.get(at + 1)).map(|name| (*name).to_owned());
        let name = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector="));
        let name = name.and_then(|selector| selector.strip_prefix("metadata.name%3D"));
        let plural = (*parts.last().unwrap()).to_owned();
        Self { plural, namespace, name: name.map(str::to_owned) }
    }

    fn matches(&self, plural: &str, object: &Value) -> bool {
        let is = |wanted: &Option<String>, field: &str| {
            wanted.as_ref().is_none_or(|wanted| object["metadata"][field] == **wanted)
        };
        self.plural == plural && is(&self.namespace, "namespace") && is(&self.name, "name")
    }
}

impl Api {
    /// Makes an object of namespace `n`, or changes it.
    pub(crate) fn put(&self, plural: &str, name: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        object["metadata"]["namespace"] = json!("n");
        object["metadata"]["name"] = json!(name);
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let key = (plural.to_owned(), "n".to_owned(), name.to_owned());
        let before = state.objects.insert(key, object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        state.events.push((plural.to_owned(), json!({ "type": kind, "object": object })));
        self.changed.send_replace(state.revision);
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        let key = (plural.to_owned(), "n".to_owned(), name.to_owned());
        let mut object = state.objects.remove(&key).unwrap();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        state.events.push((plural.to_owned(), json!({ "type": "DELETED", "object": object })));
        self.changed.send_replace(state.revision);
    }

    /// The paths that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    fn list(&self, wanted: &Wanted) -> Body {
        let state = self.state.lock().unwrap();
        let found = state.objects.iter().filter(|((plural, ..), it)| wanted.matches(plural, it));
        let items: Vec<_> = found.map(|(_, object)| object.clone()).collect();
        let metadata = json!({ "resourceVersion": state.revision.to_string() });
        full(json!({ "metadata": metadata, "items": items }).to_string())
    }

    fn watch(self: Arc<Self>, wanted: Wanted, after: usize) -> Body {
        let changed = self.changed.subscribe();
        streamed(stream::unfold((self, wanted, after, changed), async |state| {
            let (api, wanted, mut next, mut changed) = state;
            loop {
                let event = api.state.lock().unwrap().events.get(next).cloned();
                match event {
                    Some((plural, event)) => {
                        next += 1;
                        if wanted.matches(&plural, &event["object"]) {
                            let line = format!("{event}\n");
                            return Some((Ok(line.into()), (api, wanted, next, changed)));
                        }
                    }
                    None => changed.changed().await.ok()?,
                }
            }
        }))
    }
}

/// The way to it.
#[derive(Debug)]
pub(crate) struct Line(pub(crate) Arc<Api>);

impl HttpService for Line {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        self.0.state.lock().unwrap().asked.push(request.uri().to_string());
        let wanted = Wanted::of(path, query);
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let body = match (request.method().as_str(), value("watch")) {
            ("GET", None) => self.0.list(&wanted),
            ("GET", Some(_)) => {
                let after = value("resourceVersion").unwrap().parse().unwrap();
                Arc::clone(&self.0).watch(wanted, after)
            }
            _ => full(request.body().clone()),
        };
        Box::pin(async move { Ok(Response::new(body)) })
    }
}
