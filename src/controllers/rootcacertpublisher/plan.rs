//! The decision what a namespace's certificate is to be.

use super::ROOT_CA_CONFIG_MAP;
use crate::control::{Plan, Write};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tells users what the ConfigMap is; they may say it in words of their own.
const DESCRIPTION_ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when \
    using internal endpoints such as the internal service IP or kubernetes.default.svc. No other \
    usage is guaranteed across distributions of Kubernetes clusters.";

/// Where the certificate is in the ConfigMap.
const CERTIFICATE_KEY: &str = "ca.crt";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub namespace: Arc<Namespace>,
    /// What the namespace has.
    pub published: Option<Arc<ConfigMap>>,
    /// What it should have, as PEM.
    pub authority: Arc<str>,
}

/// A namespace that is on its way out gets nothing any more.
pub fn plan(observed: &Observed) -> Plan {
    let namespace = &observed.namespace.metadata;
    let data = BTreeMap::from([(CERTIFICATE_KEY.to_owned(), (*observed.authority).to_owned())]);
    let Some(published) = &observed.published else {
        if namespace.deletion_timestamp.is_some() {
            return Plan::default();
        }
        let metadata = ObjectMeta {
            name: Some(ROOT_CA_CONFIG_MAP.to_owned()),
            namespace: namespace.name.clone(),
            annotations: Some(BTreeMap::from([description()])),
            ..ObjectMeta::default()
        };
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        return Plan::of([Write::create(&map)]);
    };
    let annotations = published.metadata.annotations.as_ref();
    let is_described = annotations
        .and_then(|annotations| annotations.get(DESCRIPTION_ANNOTATION))
        .is_some_and(|text| !text.is_empty());
    if published.metadata.deletion_timestamp.is_some()
        || (is_described && published.data.as_ref() == Some(&data))
    {
        return Plan::default();
    }
    let mut mended = (**published).clone();
    mended.data = Some(data);
    mended.metadata.annotations.get_or_insert_default().extend([description()]);
    Plan::of([Write::update(&mended)])
}

fn description() -> (String, String) {
    (DESCRIPTION_ANNOTATION.to_owned(), DESCRIPTION.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn observed(published: Option<Value>) -> Observed {
        let published = published.map(|map| Arc::new(serde_json::from_value(map).unwrap()));
        let namespace = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        Observed { namespace: Arc::new(namespace), published, authority: Arc::from("PEM") }
    }

    fn check(published: Option<Value>, expected: &str) {
        let plan = plan(&observed(published));
        let writes: Vec<String> = plan
            .writes()
            .map(|write| {
                let body = write.body();
                let is_described =
                    body["metadata"]["annotations"][DESCRIPTION_ANNOTATION].is_string();
                format!("{:?} {} {is_described}", write.verb(), body["data"])
            })
            .collect();
        assert_eq!(writes.join(";"), expected);
    }

    fn map(data: &Value, description: &str) -> Option<Value> {
        let annotations = json!({DESCRIPTION_ANNOTATION: description});
        let metadata = json!({"name": "kube-root-ca.crt", "annotations": annotations});
        Some(json!({"metadata": metadata, "data": data}))
    }

    #[test]
    fn certificates_are_published_and_repaired() {
        check(None, r#"Create {"ca.crt":"PEM"} true"#);
        check(map(&json!({"ca.crt": "PEM"}), "my own words"), "");
        check(map(&json!({"ca.crt": "PEM"}), ""), r#"Update {"ca.crt":"PEM"} true"#);
        check(map(&json!({"ca.crt": "old"}), "x"), r#"Update {"ca.crt":"PEM"} true"#);
        check(map(&json!({"ca.crt": "PEM", "a": "b"}), "x"), r#"Update {"ca.crt":"PEM"} true"#);
    }

    #[test]
    fn what_is_going_is_left_alone() {
        let mut going = observed(None);
        let namespace = Arc::make_mut(&mut going.namespace);
        namespace.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(plan(&going).writes().count(), 0);
    }
}
