//! Which Ingresses the ingress of this cluster serves, and what they name.

use super::ObjectKey;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressClass, IngressSpec};
use std::collections::BTreeSet;

/// The class that every cluster begins with.
pub const CLASS: &str = "kinglet";

/// Classes with this controller are served by the proxy of every node.
pub const CONTROLLER: &str = "kinglet.dev/ingress";

/// On a class: Ingresses without a class get it when they are made.
pub const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// On an Ingress: its class, in the words of long ago.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The name of the Ingress' class. The annotation goes first, as long as there are Ingresses that
/// have it (k8s.io/api networking/v1 `IngressSpec.IngressClassName`, v1.35).
#[must_use]
pub fn class_of(ingress: &Ingress) -> Option<&str> {
    let annotations = ingress.metadata.annotations.as_ref();
    let annotated = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).map(String::as_str);
    let spec = ingress.spec.as_ref();
    annotated.or_else(|| spec.and_then(|spec| spec.ingress_class_name.as_deref()))
}

/// The classes that are served, by name. An annotation needs no class to be there: of this name it
/// is ours as long as no class of the name says otherwise.
#[must_use]
pub fn served_classes<'a>(classes: impl IntoIterator<Item = &'a IngressClass>) -> BTreeSet<String> {
    let mut served = BTreeSet::from([CLASS.to_owned()]);
    for class in classes {
        let name = class.metadata.name.clone().unwrap_or_default();
        let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
        match controller == Some(CONTROLLER) {
            true => served.insert(name),
            false => served.remove(&name),
        };
    }
    served
}

/// Whether the Ingress is of one of these classes.
#[must_use]
pub fn is_served(ingress: &Ingress, served: &BTreeSet<String>) -> bool {
    class_of(ingress).is_some_and(|class| served.contains(class))
}

/// The Secrets that the Ingress has certificates in.
#[must_use]
pub fn secrets(ingress: &Ingress) -> BTreeSet<ObjectKey> {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    tls.filter_map(|tls| tls.secret_name.as_deref().filter(|name| !name.is_empty()))
        .map(|name| ObjectKey::namespaced(namespace, name))
        .collect()
}

/// The Services that the Ingress sends requests to.
#[must_use]
pub fn services(ingress: &Ingress) -> BTreeSet<ObjectKey> {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let backends = ingress.spec.iter().flat_map(backends);
    backends
        .filter_map(|backend| backend.service.as_ref())
        .map(|service| ObjectKey::namespaced(namespace, &service.name))
        .collect()
}

fn backends(spec: &IngressSpec) -> impl Iterator<Item = &IngressBackend> {
    let rules = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref());
    let of_paths = rules.flat_map(|http| http.paths.iter().map(|path| &path.backend));
    spec.default_backend.iter().chain(of_paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ingress(annotations: Value, spec: Value) -> Ingress {
        let metadata = json!({ "namespace": "web", "name": "i", "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn class(name: &str, controller: &str) -> IngressClass {
        let class = json!({ "metadata": { "name": name }, "spec": { "controller": controller } });
        serde_json::from_value(class).unwrap()
    }

    #[test]
    fn an_ingress_is_served_by_its_class() {
        let classes =
            [class("kinglet", CONTROLLER), class("fast", CONTROLLER), class("n", "a.b/c")];
        let check = |annotations: Value, spec: Value, classes: &[IngressClass], expected: bool| {
            let ingress = ingress(annotations, spec);
            let found = is_served(&ingress, &served_classes(classes));
            assert_eq!(found, expected, "{ingress:?}");
        };
        let named = |name: &str| json!({ "ingressClassName": name });
        check(json!({}), named("kinglet"), &classes, true);
        check(json!({}), named("fast"), &classes, true);
        check(json!({}), named("n"), &classes, false);
        check(json!({}), named("gone"), &classes, false);
        check(json!({}), json!({}), &classes, false);
        check(json!({ CLASS_ANNOTATION: "fast" }), json!({}), &classes, true);
        check(json!({ CLASS_ANNOTATION: "n" }), named("fast"), &classes, false);
        check(json!({ CLASS_ANNOTATION: "kinglet" }), json!({}), &[], true);
        let taken = [class("kinglet", "somebody.else/ingress")];
        check(json!({ CLASS_ANNOTATION: "kinglet" }), json!({}), &taken, false);
    }

    #[test]
    fn an_ingress_names_secrets_and_services() {
        let backend = |name: &str| json!({ "service": { "name": name, "port": { "number": 80 } } });
        let path = |name: &str| json!({ "pathType": "Prefix", "backend": backend(name) });
        let ingress = ingress(
            json!({}),
            json!({
                "defaultBackend": backend("d"),
                "tls": [{ "secretName": "s" }, {}, { "secretName": "" }, { "secretName": "s" }],
                "rules": [{}, { "http": { "paths": [path("a"), path("b"), path("a")] } }],
            }),
        );
        let names = |keys: BTreeSet<ObjectKey>| -> Vec<_> {
            keys.iter().map(ObjectKey::to_string).collect()
        };
        assert_eq!(names(secrets(&ingress)), ["web/s"]);
        assert_eq!(names(services(&ingress)), ["web/a", "web/b", "web/d"]);
    }
}
