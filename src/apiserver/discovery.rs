//! What is served: `/api`, `/apis` and their children, in the old form and aggregated.
//!
//! Everything is rendered from the rows that are served, once for as long as these are the same.
//! Clients keep the aggregated document and ask by `ETag` whether it is still the same.

use super::config::Config;
use super::encoding::json_response;
use super::etag::{self, Hash};
use super::metrics;
use crate::api::Maturity;
use crate::registry::{Kind, KindFacts, KindRef, Rows, Subresource, View};
use crate::stdx::http::Response;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// So much of the digest stands for a stored version.
const STORAGE_HASH_BYTES: usize = 8;

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
    config: &Config,
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
            "serverAddressByClientCIDRs": [{
                "clientCIDR": "0.0.0.0/0",
                "serverAddress": SocketAddr::new(config.advertise_address, config.https_port),
            }],
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

/// The paths of all documents.
pub(super) fn paths(rows: &Rows) -> Vec<String> {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for group in groups(rows) {
        let versions = versions(rows, &group);
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
        paths.push(format!("/apis/{group}"));
    }
    paths
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
        resources.push(resource(rows, kind));
        resources.extend(kind.facts.subresources.iter().map(|row| subresource(kind, row)));
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.facts.api_version(),
        "resources": resources,
    });
    // As old clients know it (upstream `NewLegacyRootAPIHandler` and `StripVersionNegotiatedSerializer`).
    if group.is_empty() {
        list["apiVersion"].take();
        list.as_object_mut()?.retain(|_, value| !value.is_null());
    }
    Some(list)
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

/// What tells whether objects of a kind are stored as they were (upstream `StorageVersionHash`,
/// apiserver pkg/endpoints/discovery, v1.35).
fn storage_hash(rows: &Rows, kind: &Kind) -> Option<String> {
    let hash = |kind: &Kind| {
        let KindFacts { group, version, kind, .. } = &kind.facts;
        let text = format!("{group}/{version}/{kind}");
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        STANDARD.encode(&digest.as_ref()[..STORAGE_HASH_BYTES])
    };
    match &kind.view {
        _ if !kind.facts.is_stored() => None,
        None => Some(hash(kind)),
        Some(View { group, plural, .. }) => {
            let is_stored = |other: &KindRef| {
                let facts = &other.facts;
                other.view.is_none() && facts.group == *group && facts.plural == *plural
            };
            rows.iter().find(is_stored).map(|stored| hash(&stored))
        }
    }
}

fn resource(rows: &Rows, kind: &Kind) -> Value {
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
    if let Some(hash) = storage_hash(rows, kind) {
        value["storageVersionHash"] = json!(hash);
    }
    value
}

fn subresource(kind: &Kind, row: &Subresource) -> Value {
    let facts = &kind.facts;
    let (group, version, name) = row.speaks(&kind.facts);
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
            let mut resources: Vec<_> = kinds.iter().map(aggregated_resource).collect();
            if group.is_empty() {
                resources.insert(0, json!({
                    "resource": "bindings", "singularResource": "binding", "scope": "Namespaced",
                    "responseKind": {"group": "", "version": "", "kind": "Binding"},
                    "verbs": ["create"],
                }));
            }
            if group == metrics::GROUP {
                resources.extend(metrics::RESOURCES.iter().map(aggregated_measured));
            }
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    json!({"metadata": {"name": group}, "versions": versions})
}

/// What is of a kind's own group and version is told without them, as upstream tells it of what is
/// built in.
fn aggregated_resource(kind: &KindRef) -> Value {
    let facts = &kind.facts;
    let told = |(group, version, name): (&str, &str, &str)| {
        let is_own = group == facts.group && version == facts.version;
        match kind {
            KindRef::BuiltIn(_) if is_own => json!({"group": "", "version": "", "kind": name}),
            _ => json!({"group": group, "version": version, "kind": name}),
        }
    };
    let scope = if facts.is_namespaced() { "Namespaced" } else { "Cluster" };
    let mut value = json!({
        "resource": facts.plural,
        "singularResource": facts.singular,
        "scope": scope,
        "responseKind": told((&facts.group, &facts.version, &facts.kind)),
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
            json!({
                "subresource": row.name,
                "responseKind": told(row.speaks(&kind.facts)),
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
