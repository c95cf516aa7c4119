//! What is served: `/api`, `/apis` and their children, in the old form and aggregated.
//!
//! Everything is rendered from the rows that are served, once for as long as these are the same.
//! Clients keep the aggregated document and ask by `ETag` whether it is still the same.

use super::encoding::json_response;
use super::etag::{self, Hash};
use super::metrics;
use crate::api::Maturity;
use crate::registry::{Body, Kind, KindRef, Rows, Subresource};
use crate::stdx::http::Response;
use http::header::{ACCEPT, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The aggregated documents, rendered when they are first asked for, and again for other rows.
#[derive(Debug, Default)]
pub(super) struct Documents(Mutex<Option<(Arc<Rows>, Aggregated)>>);

#[derive(Clone, Debug)]
struct Aggregated {
    core: Arc<Document>,
    groups: Arc<Document>,
}

impl Documents {
    fn of(&self, rows: &Arc<Rows>) -> Aggregated {
        let mut rendered = self.0.lock().expect("no panics under this lock");
        match &*rendered {
            Some((of, documents)) if Arc::ptr_eq(of, rows) => documents.clone(),
            _ => {
                let core = Arc::new(aggregate(rows, &[String::new()]));
                let documents =
                    Aggregated { core, groups: Arc::new(aggregate(rows, &groups(rows))) };
                *rendered = Some((Arc::clone(rows), documents.clone()));
                documents
            }
        }
    }
}

#[derive(Debug)]
struct Document {
    items: String,
    hash: Hash,
}

/// Answers if `path` (without a slash at its end) is one of discovery's.
pub(super) fn answer(
    (documents, rows): (&Documents, &Arc<Rows>),
    path: &str,
    headers: &HeaderMap,
) -> Option<Response> {
    if let Some(version) = aggregated_version(headers)
        && matches!(path, "/api" | "/apis")
    {
        let Aggregated { core, groups } = documents.of(rows);
        let document = if path == "/api" { core } else { groups };
        return Some(aggregated_response(&document, version, headers));
    }
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let value = match parts[..] {
        ["api"] => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
        ["api", version] => resource_list(rows, "", version)?,
        ["apis"] => {
            let groups: Vec<_> = groups(rows).iter().map(|name| group(rows, name)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] if groups(rows).iter().any(|group| group == name) => {
            let mut value = group(rows, name);
            value["kind"] = json!("APIGroup");
            value["apiVersion"] = json!("v1");
            value
        }
        ["apis", group, version] => resource_list(rows, group, version)?,
        _ => return None,
    };
    Some(json_response(StatusCode::OK, value.to_string()))
}

/// Every group but the core one, in the order of the table.
fn groups(rows: &Rows) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for kind in rows.iter() {
        let group = &kind.facts.group;
        if !group.is_empty() && !groups.iter().any(|other| other == group) {
            groups.push(group.clone().into_owned());
        }
    }
    // Its objects are not stored and have no rows in the table.
    groups.push(metrics::GROUP.to_owned());
    groups
}

/// The versions of a group: the first is the preferred one. The table's are in its order; others
/// come behind them, the most mature first.
fn versions(rows: &Rows, group: &str) -> Vec<String> {
    let (mut versions, mut custom): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for kind in rows.iter().filter(|kind| kind.facts.group == group) {
        let to = if matches!(kind, KindRef::BuiltIn(_)) { &mut versions } else { &mut custom };
        if !to.iter().any(|other| *other == kind.facts.version) {
            to.push(kind.facts.version.clone().into_owned());
        }
    }
    custom.retain(|version| !versions.contains(version));
    custom.sort_by(|a, b| Maturity::of(b).cmp(&Maturity::of(a)));
    versions.extend(custom);
    if group == metrics::GROUP {
        versions.push(metrics::VERSION.to_owned());
    }
    versions
}

fn group(rows: &Rows, name: &str) -> Value {
    let versions: Vec<_> = versions(rows, name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

/// The kinds of a group's version, sorted by their plural.
fn kinds_of(rows: &Rows, group: &str, version: &str) -> Vec<KindRef> {
    let is_asked = |kind: &KindRef| kind.facts.group == group && kind.facts.version == version;
    let mut kinds: Vec<_> = rows.iter().filter(is_asked).collect();
    kinds.sort_by(|a, b| a.facts.plural.cmp(&b.facts.plural));
    kinds
}

fn resource_list(rows: &Rows, group: &str, version: &str) -> Option<Value> {
    if (group, version) == (metrics::GROUP, metrics::VERSION) {
        return Some(measured_list());
    }
    let kinds = kinds_of(rows, group, version);
    let first = kinds.first()?;
    let mut resources = Vec::new();
    if group.is_empty() {
        resources.push(json!({
            "name": "bindings", "singularName": "binding", "namespaced": true, "kind": "Binding",
            "verbs": ["create"],
        }));
    }
    for kind in &kinds {
        resources.push(resource(kind));
        resources.extend(kind.facts.subresources.iter().map(|row| subresource(kind, row)));
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.facts.api_version(),
        "resources": resources,
    }))
}

fn measured_list() -> Value {
    let resource = |(plural, kind, is_namespaced): &(&str, &str, bool)| {
        json!({
            "name": plural, "singularName": "", "namespaced": is_namespaced, "kind": kind,
            "verbs": metrics::VERBS,
        })
    };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{}/{}", metrics::GROUP, metrics::VERSION),
        "resources": metrics::RESOURCES.iter().map(resource).collect::<Vec<_>>(),
    })
}

fn aggregated_measured((plural, kind, is_namespaced): &(&str, &str, bool)) -> Value {
    json!({
        "resource": plural, "singularResource": "",
        "scope": if *is_namespaced { "Namespaced" } else { "Cluster" },
        "responseKind": {"group": metrics::GROUP, "version": metrics::VERSION, "kind": kind},
        "verbs": metrics::VERBS,
    })
}

fn resource(kind: &Kind) -> Value {
    let facts = &kind.facts;
    let mut value = json!({
        "name": facts.plural,
        "singularName": facts.singular,
        "namespaced": facts.is_namespaced(),
        "kind": facts.kind,
        "verbs": facts.verbs,
    });
    if !facts.short_names.is_empty() {
        value["shortNames"] = json!(facts.short_names);
    }
    if !facts.categories.is_empty() {
        value["categories"] = json!(facts.categories);
    }
    value
}

fn subresource(kind: &Kind, row: &Subresource) -> Value {
    let facts = &kind.facts;
    let (group, version, name) = speaks(kind, row);
    let mut value = json!({
        "name": format!("{}/{}", facts.plural, row.name),
        "singularName": "",
        "namespaced": facts.is_namespaced(),
        "kind": name,
        "verbs": row.verbs,
    });
    if group != facts.group {
        value["group"] = json!(group);
        value["version"] = json!(version);
    }
    value
}

fn speaks<'a>(kind: &'a Kind, row: &Subresource) -> (&'a str, &'a str, &'a str) {
    let facts = &kind.facts;
    match row.body {
        Body::Parent => (&facts.group, &facts.version, &facts.kind),
        Body::Other { group: "", version: "", kind } => (&facts.group, &facts.version, kind),
        Body::Other { group, version, kind } => (group, version, kind),
    }
}

/// The version of aggregated discovery that the client takes, where it takes one.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for clause in values.flat_map(|value| value.split(',')) {
        let parts: Vec<_> = clause.split(';').map(str::trim).collect();
        let is_json = matches!(parts.first(), Some(&("application/json" | "*/*")));
        if is_json
            && parts.contains(&"g=apidiscovery.k8s.io")
            && parts.contains(&"as=APIGroupDiscoveryList")
        {
            let served = ["v2", "v2beta1"];
            let wanted =
                served.into_iter().find(|version| parts.contains(&&*format!("v={version}")));
            if wanted.is_some() {
                return wanted;
            }
        }
    }
    None
}

fn aggregate(rows: &Rows, groups: &[String]) -> Document {
    let items: Vec<_> = groups.iter().map(|group| aggregated_group(rows, group)).collect();
    // What remains of the document depends on the version asked for.
    let items = json!(items).to_string();
    Document { hash: Hash::of(items.as_bytes()), items }
}

fn aggregated_group(rows: &Rows, group: &str) -> Value {
    let versions: Vec<_> = versions(rows, group)
        .into_iter()
        .map(|version| {
            let kinds = kinds_of(rows, group, &version);
            let mut resources: Vec<_> =
                kinds.iter().map(|kind| aggregated_resource(kind)).collect();
            if group.is_empty() {
                resources.insert(0, json!({
                    "resource": "bindings", "singularResource": "binding", "scope": "Namespaced",
                    "responseKind": {"group": "", "version": "v1", "kind": "Binding"},
                    "verbs": ["create"],
                }));
            }
            if group == metrics::GROUP {
                resources.extend(metrics::RESOURCES.iter().map(aggregated_measured));
            }
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let facts = &kind.facts;
    let scope = if facts.is_namespaced() { "Namespaced" } else { "Cluster" };
    let mut value = json!({
        "resource": facts.plural,
        "singularResource": facts.singular,
        "scope": scope,
        "responseKind": {"group": facts.group, "version": facts.version, "kind": facts.kind},
        "verbs": facts.verbs,
    });
    if !facts.short_names.is_empty() {
        value["shortNames"] = json!(facts.short_names);
    }
    if !facts.categories.is_empty() {
        value["categories"] = json!(facts.categories);
    }
    let subresources: Vec<_> = facts
        .subresources
        .iter()
        .map(|row| {
            let (group, version, name) = speaks(kind, row);
            json!({
                "subresource": row.name,
                "responseKind": {"group": group, "version": version, "kind": name},
                "verbs": row.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        value["subresources"] = json!(subresources);
    }
    value
}

fn aggregated_response(document: &Document, version: &str, headers: &HeaderMap) -> Response {
    let media_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let media_type = HeaderValue::from_str(&media_type).expect("plain characters");
    let mut response = etag::respond(&document.hash, media_type, headers, || {
        let items = &document.items;
        let body = format!(
            "{{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/{version}\",\
             \"metadata\":{{}},\"items\":{items}}}"
        );
        body.into_bytes()
    });
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}
