//! Which Secrets the ingress of nodes may read: those that Ingresses of its classes name, one by one.
//!
//! A role cannot say that, and a proxy on every node that could read all Secrets would give them to
//! whoever takes one node over. So it is decided as the Node authorizer decides what kubelets may
//! read, from what the API server follows itself (docs/decisions/0023).

use super::super::follow::{Follower, Seen};
use super::super::rbac::Action;
use super::Ask;
use crate::api::ingress::{class_of, secrets, served_classes};
use crate::api::{ObjectKey, Revision};
use crate::stdx::chain;
use crate::storage::{Entry, Event, Key};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};
use tracing::error;

/// The proxy of a server.
const USER: &str = "system:serviceaccount:kube-system:ingress-controller";

/// The proxies of agents are in it.
const AGENTS: &str = "kinglet:agents";

/// What is followed, and how it is taken over.
const FOLLOWED: &[(&str, Apply)] = &[
    ("/networking.k8s.io/ingresses/", Named::set_ingress),
    ("/networking.k8s.io/ingressclasses/", Named::set_class),
];

/// Takes over what is at a path (`namespace/name`) now.
type Apply = fn(&mut Named, &str, Option<&[u8]>) -> Result<(), serde_json::Error>;

/// See the module.
#[derive(Debug)]
pub(super) struct IngressAuthorizer {
    named: Arc<RwLock<Named>>,
    seen: Vec<Seen>,
}

/// What Ingresses name. Objects are known by `namespace/name`, or `name` alone.
#[derive(Debug, Default)]
struct Named {
    ingresses: HashMap<String, Names>,
    classes: HashMap<String, IngressClass>,
    /// Made of the classes.
    served: BTreeSet<String>,
}

/// What counts of an Ingress with a certificate.
#[derive(Debug)]
struct Names {
    class: String,
    secrets: BTreeSet<ObjectKey>,
}

impl Named {
    fn set_ingress(&mut self, path: &str, json: Option<&[u8]>) -> Result<(), serde_json::Error> {
        self.ingresses.remove(path);
        let Some(ingress) = json.map(serde_json::from_slice::<Ingress>).transpose()? else {
            return Ok(());
        };
        let secrets = secrets(&ingress);
        if let Some(class) = class_of(&ingress).filter(|_| !secrets.is_empty()) {
            self.ingresses.insert(path.to_owned(), Names { class: class.to_owned(), secrets });
        }
        Ok(())
    }

    fn set_class(&mut self, path: &str, json: Option<&[u8]>) -> Result<(), serde_json::Error> {
        self.classes.remove(path);
        let class = json.map(serde_json::from_slice::<IngressClass>).transpose();
        if let Ok(Some(class)) = &class {
            self.classes.insert(path.to_owned(), class.clone());
        }
        self.served = served_classes(self.classes.values());
        class.map(drop)
    }

    fn forget(&mut self, prefix: &str) {
        if prefix == FOLLOWED[0].0 {
            self.ingresses.clear();
        } else {
            self.classes.clear();
            self.served = served_classes([]);
        }
    }

    fn names(&self, secret: &ObjectKey) -> bool {
        let mut served = self.ingresses.values().filter(|it| self.served.contains(&it.class));
        served.any(|ingress| ingress.secrets.contains(secret))
    }
}

impl IngressAuthorizer {
    /// With what keeps it knowing.
    pub(super) fn new() -> (Self, Vec<Follower>) {
        let named: Arc<RwLock<Named>> = Arc::default();
        let followers: Vec<_> =
            FOLLOWED.iter().map(|(prefix, apply)| follower(prefix, *apply, &named)).collect();
        let seen = followers.iter().map(Follower::seen).collect();
        (Self { named, seen }, followers)
    }

    /// Waits until it knows what the store knew at this revision, but not for long.
    pub(super) async fn know(&self, revision: Revision) {
        for seen in &self.seen {
            seen.wait(revision).await;
        }
    }

    /// Whether this is asked by the proxy of a node.
    pub(super) fn concerns(ask: &Ask<'_>) -> bool {
        ask.user == USER || ask.is_in(AGENTS)
    }

    /// Whether the proxy may; roles may give it more.
    pub(super) fn allows(&self, ask: &Ask<'_>) -> bool {
        let Action::Resource { verb, group: "", resource: "secrets", subresource: "", .. } =
            ask.action
        else {
            return false;
        };
        let Action::Resource { name, namespace: Some(namespace), .. } = ask.action else {
            return false;
        };
        let named = self.named.read().expect("no panics under this lock");
        ["get", "list", "watch"].contains(&verb)
            && !name.is_empty()
            && named.names(&ObjectKey::namespaced(namespace, name))
    }
}

fn follower(prefix: &'static str, apply: Apply, named: &Arc<RwLock<Named>>) -> Follower {
    let (on_list, on_event) = (Arc::clone(named), Arc::clone(named));
    Follower::of_objects(
        prefix,
        move |entries: Vec<Entry>| {
            let mut named = on_list.write().expect("no panics under this lock");
            named.forget(prefix);
            for entry in entries {
                take(&mut named, apply, prefix, (&entry.key, Some(&entry.value)));
            }
        },
        move |event: &Event| {
            let mut named = on_event.write().expect("no panics under this lock");
            take(&mut named, apply, prefix, (&event.key, event.value.as_deref()));
        },
    )
}

fn take(named: &mut Named, apply: Apply, prefix: &str, (key, value): (&Key, Option<&[u8]>)) {
    let path = key.as_str().strip_prefix(prefix).unwrap_or_default();
    if let Err(error) = apply(named, path, value) {
        // What cannot be read names nothing.
        error!(error = chain(&error), ?key, "an object is unreadable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ingress::CONTROLLER;
    use serde_json::json;

    fn authorizer() -> IngressAuthorizer {
        let (authorizer, _followers) = IngressAuthorizer::new();
        {
            let mut named = authorizer.named.write().unwrap();
            for (name, controller) in [("kinglet", CONTROLLER), ("nginx", "k8s.io/ingress-nginx")] {
                let class =
                    json!({ "metadata": { "name": name }, "spec": { "controller": controller } });
                named.set_class(name, Some(class.to_string().as_bytes())).unwrap();
            }
            for (name, class) in [("i", "kinglet"), ("j", "nginx")] {
                let spec = json!({ "ingressClassName": class, "tls": [{ "secretName": class }] });
                let metadata = json!({ "namespace": "n", "name": name });
                let ingress = json!({ "metadata": metadata, "spec": spec }).to_string();
                named.set_ingress(&format!("n/{name}"), Some(ingress.as_bytes())).unwrap();
            }
        }
        authorizer
    }

    fn allows(authorizer: &IngressAuthorizer, verb: &str, namespace: &str, name: &str) -> bool {
        let action = Action::Resource {
            verb,
            group: "",
            resource: "secrets",
            subresource: "",
            name,
            namespace: Some(namespace),
        };
        authorizer.allows(&Ask { user: USER, groups: &[], action, selected_node: None })
    }

    #[test]
    fn only_secrets_that_a_served_ingress_names_are_read() {
        let authorizer = authorizer();
        for verb in ["get", "list", "watch"] {
            assert!(allows(&authorizer, verb, "n", "kinglet"));
        }
        for (verb, namespace, name) in [
            ("update", "n", "kinglet"),
            ("get", "n", "nginx"),
            ("get", "other", "kinglet"),
            ("list", "n", ""),
            ("get", "n", "unnamed"),
        ] {
            assert!(!allows(&authorizer, verb, namespace, name), "{verb} {namespace}/{name}");
        }
    }

    #[test]
    fn what_is_named_no_more_is_not_read_any_more() {
        let authorizer = authorizer();
        authorizer.named.write().unwrap().set_ingress("n/i", None).unwrap();
        assert!(!allows(&authorizer, "get", "n", "kinglet"));
    }

    #[test]
    fn a_class_of_somebody_else_names_nothing() {
        let authorizer = authorizer();
        let class =
            json!({ "metadata": { "name": "nginx" }, "spec": { "controller": CONTROLLER } });
        let set = |json: Option<&str>| {
            let mut named = authorizer.named.write().unwrap();
            named.set_class("nginx", json.map(str::as_bytes)).unwrap();
        };
        set(Some(&class.to_string()));
        assert!(allows(&authorizer, "get", "n", "nginx"));
        set(None);
        assert!(!allows(&authorizer, "get", "n", "nginx"));
    }
}
