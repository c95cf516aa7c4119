//! The paths that are of no kind: what discovery answers, the version, and what there is to know of
//! whoever signs tokens. Pure.
//!
//! Each is in a document of its own in v3, as upstream's routes of these paths make them (apiserver
//! pkg/endpoints/discovery/{legacy,root,group,version}.go, pkg/server/routes/{version,openidmetadata}.go,
//! v1.35); but a group version's discovery is in the document of that version. Of groups that
//! definitions make upstream has none.

use super::operation::{group_words, responses, tag, words};
use super::schemas::{Edition, name_of};
use crate::registry::KINDS;
use crate::registry::schema::{BUILT_IN, TypeRef};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const DISCOVERY: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const JSON: &[&str] = &["application/json"];
const KEYS: &[&str] = &["application/jwk-set+json"];

/// A path, and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// The document of v3 that it is in.
    pub(super) document: String,
    path: String,
    operation: String,
    description: &'static str,
    tag: String,
    /// The group's version and the name of what is answered; text without.
    answer: Option<(&'static str, &'static str)>,
    /// Whether it says that it reads what it does not.
    consumes: bool,
    produces: &'static [&'static str],
}

/// All of them.
pub(super) fn all() -> Vec<Root> {
    let mut roots = vec![
        discovery(
            "api",
            "getCoreAPIVersions",
            "Tells the versions of the core group",
            "APIVersions",
        ),
        discovery("apis", "getAPIVersions", "Tells the groups and their versions", "APIGroupList"),
    ];
    roots[0].tag = "core".to_owned();
    let kinds = KINDS.iter().map(|kind| (&*kind.facts.group, &*kind.facts.version));
    let versions: BTreeSet<_> = kinds.collect();
    let groups: BTreeSet<_> = versions.iter().map(|(group, _)| *group).collect();
    for group in groups.into_iter().filter(|group| !group.is_empty()) {
        let operation = format!("get{}APIGroup", group_words(group));
        let path = format!("apis/{group}");
        let mut root = discovery(&path, &operation, "Tells of a group", "APIGroup");
        root.tag = tag_of_group(group);
        roots.push(root);
    }
    for (group, version) in versions {
        let path = match group {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        };
        let group = group_words(group);
        let operation = format!("get{group}{}APIResources", words(version));
        let mut root = discovery(&path, &operation, "Tells what is served", "APIResourceList");
        root.tag = tag(&group, version);
        roots.push(root);
    }
    roots.extend(others());
    roots
}

fn discovery(path: &str, operation: &str, description: &'static str, of: &'static str) -> Root {
    Root {
        document: path.to_owned(),
        path: format!("/{path}/"),
        operation: operation.to_owned(),
        description,
        tag: path.to_owned(),
        answer: Some(("v1", of)),
        consumes: true,
        produces: DISCOVERY,
    }
}

fn others() -> [Root; 3] {
    let version = Root {
        answer: Some(("", "Info")),
        produces: JSON,
        ..discovery("version", "getCodeVersion", "Tells the version of the server", "Info")
    };
    let keys = Root {
        tag: "openid".to_owned(),
        answer: None,
        consumes: false,
        produces: KEYS,
        ..discovery(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            "Tells by which keys tokens of service accounts are signed",
            "",
        )
    };
    let issuer = Root {
        document: ".well-known/openid-configuration".to_owned(),
        path: "/.well-known/openid-configuration/".to_owned(),
        operation: "getServiceAccountIssuerOpenIDConfiguration".to_owned(),
        description: "Tells who issues tokens of service accounts",
        tag: "WellKnown".to_owned(),
        produces: JSON,
        ..keys.clone()
    };
    [issuer, keys, version]
}

/// `rbacAuthorization`.
fn tag_of_group(group: &str) -> String {
    tag(&group_words(group), "").trim_end_matches('_').to_owned()
}

impl Root {
    /// The type that is answered.
    pub(super) fn answer(&self) -> Option<TypeRef> {
        self.answer.and_then(|(version, name)| BUILT_IN.find("", version, name))
    }

    /// The path, with what can be done there.
    pub(super) fn render(&self, edition: Edition) -> (String, Value) {
        let mut operation = Map::new();
        let mut set = |name: &str, value: Value| operation.insert(name.to_owned(), value);
        set("description", json!(self.description));
        set("operationId", json!(self.operation));
        set("tags", json!([self.tag]));
        if edition == Edition::Second {
            set("schemes", json!(["https"]));
            if self.consumes {
                set("consumes", json!(self.produces));
            }
            set("produces", json!(self.produces));
        }
        let answer = self.answer().map(|of| name_of(BUILT_IN.get(of)));
        set("responses", responses(&[200], answer.as_deref(), self.produces, edition));
        (self.path.clone(), json!({"get": operation}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_for_what_they_tell() {
        let shown = |document: &str| {
            let roots = all();
            let root = roots.iter().find(|root| root.document == document).unwrap();
            let (path, item) = root.render(Edition::Third);
            let schema = &item["get"]["responses"]["200"]["content"][root.produces[0]]["schema"];
            let answer = schema["$ref"].as_str().unwrap_or("text").to_owned();
            let answer = answer.rsplit('.').next().unwrap().to_owned();
            format!("{path} {} {} {answer}", root.operation, root.tag)
        };
        for (document, expected) in [
            ("api", "/api/ getCoreAPIVersions core APIVersions"),
            ("apis", "/apis/ getAPIVersions apis APIGroupList"),
            ("apis/apps", "/apis/apps/ getAppsAPIGroup apps APIGroup"),
            (
                "apis/rbac.authorization.k8s.io/v1",
                "/apis/rbac.authorization.k8s.io/v1/ getRbacAuthorizationV1APIResources \
                 rbacAuthorization_v1 APIResourceList",
            ),
            ("version", "/version/ getCodeVersion version Info"),
            ("openid/v1/jwks", "/openid/v1/jwks/ getServiceAccountIssuerOpenIDKeyset openid text"),
        ] {
            assert_eq!(shown(document), expected);
        }
    }
}
