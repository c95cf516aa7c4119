//! What the agent of a node may do: read what its own pods name, and report about itself and them.
//!
//! Start at [`NodeAuthorizer::decide`]. [`graph`] knows which objects belong to which nodes. What may
//! be written is judged further by the admission plugin NodeRestriction, which sees the objects.
//! Follows upstream plugin/pkg/auth/authorizer/node/node_authorizer.go (v1.35).

mod graph;
mod references;

use self::graph::{Graph, Target};
pub(in super::super) use self::references::References;
use super::super::follow::{Follower, Seen};
use super::super::rbac::{Action, allows, defaults};
use super::Ask;
use crate::api::Revision;
use crate::stdx::chain;
use crate::storage::{Entry, Event, Key};
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::sync::{Arc, RwLock};
use tracing::error;

const LEASES: &str = "kube-node-lease";

/// What is followed, and how the graph takes it over.
const FOLLOWED: &[(&str, Apply)] = &[
    ("/core/pods/", Graph::set_pod),
    ("/core/persistentvolumes/", Graph::set_volume),
    ("/storage.k8s.io/volumeattachments/", Graph::set_attachment),
];

/// Takes over what is at a path (`namespace/name`) now.
type Apply = fn(&mut Graph, &str, Option<&[u8]>) -> Result<(), serde_json::Error>;

/// See the module.
#[derive(Debug)]
pub(super) struct NodeAuthorizer {
    graph: Arc<RwLock<Graph>>,
    seen: Vec<Seen>,
    /// What every node may do, besides what is decided here.
    rules: Vec<PolicyRule>,
}

/// A resource, apart from what is done with it.
#[derive(Clone, Copy)]
struct Object<'a> {
    verb: &'a str,
    subresource: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
}

/// Why not; empty where there is nothing to say.
type Refusal = String;

impl NodeAuthorizer {
    /// With what keeps it knowing.
    pub(super) fn new() -> (Self, Vec<Follower>) {
        let graph: Arc<RwLock<Graph>> = Arc::default();
        let followers: Vec<_> =
            FOLLOWED.iter().map(|(prefix, apply)| follower(prefix, *apply, &graph)).collect();
        let seen = followers.iter().map(Follower::seen).collect();
        let all = defaults().cluster_roles.into_iter();
        let own = all.filter(|role| role.metadata.name.as_deref() == Some("system:node"));
        let rules = own.flat_map(|role| role.rules.unwrap_or_default()).collect();
        (Self { graph, seen, rules }, followers)
    }

    /// Waits until it knows what the store knew at this revision, but not for long.
    pub(super) async fn know(&self, revision: Revision) {
        for seen in &self.seen {
            seen.wait(revision).await;
        }
    }

    /// # Errors
    /// Why the node may not, as far as is known here: roles may give it more.
    pub(super) fn decide(&self, node: &str, ask: &Ask<'_>) -> Result<(), Refusal> {
        if node.is_empty() {
            return Err(format!("unknown node for user {:?}", ask.user));
        }
        let Action::Resource { verb, group, resource, subresource, name, namespace } = ask.action
        else {
            return self.by_rules(ask);
        };
        let object = Object { verb, subresource, namespace, name };
        match (group, resource) {
            ("", "secrets") => self.read(node, object, Target::Secret),
            ("", "configmaps") => self.read(node, object, Target::ConfigMap),
            ("", "persistentvolumeclaims") if subresource == "status" => match verb {
                "update" | "patch" => self.related(node, object, Target::Claim),
                _ => refuse("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => self.get(node, object, Target::Claim),
            ("", "persistentvolumes") => self.get(node, object, Target::Volume),
            ("resource.k8s.io", "resourceclaims") => self.get(node, object, Target::ResourceClaim),
            ("storage.k8s.io", "volumeattachments") => self.get(node, object, Target::Attachment),
            ("", "serviceaccounts") => self.account(node, object),
            ("coordination.k8s.io", "leases") => lease(node, object),
            ("storage.k8s.io", "csinodes") => csi_node(node, object),
            ("", "nodes") => own_node(node, object),
            ("", "pods") => self.pod(node, object, ask.selected_node.as_deref()),
            _ => self.by_rules(ask),
        }
    }

    fn by_rules(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let allowed = self.rules.iter().any(|rule| allows(rule, &ask.action));
        if allowed { Ok(()) } else { refuse("") }
    }

    fn get(&self, node: &str, object: Object<'_>, target: Target) -> Result<(), Refusal> {
        if object.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !object.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related(node, object, target)
    }

    fn read(&self, node: &str, object: Object<'_>, target: Target) -> Result<(), Refusal> {
        if !["get", "list", "watch"].contains(&object.verb) {
            return refuse("can only read resources of this type");
        }
        if !object.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if object.namespace.is_none() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(node, object, target)
    }

    fn account(&self, node: &str, object: Object<'_>) -> Result<(), Refusal> {
        if object.verb == "get" && object.subresource.is_empty() {
            return self.read(node, object, Target::Account);
        }
        if object.verb != "create" || object.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if object.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related(node, object, Target::Account)
    }

    fn pod(
        &self,
        node: &str,
        object: Object<'_>,
        selected_node: Option<&str>,
    ) -> Result<(), Refusal> {
        match (object.subresource, object.verb) {
            ("", "get") => self.get(node, object, Target::Pod),
            ("", "list" | "watch") if selected_node == Some(node) => Ok(()),
            ("", "list" | "watch") if !object.name.is_empty() => {
                self.related(node, object, Target::Pod)
            }
            ("", "list" | "watch") => {
                refuse("can only list/watch pods with spec.nodeName field selector")
            }
            // Which ones, NodeRestriction says.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => refuse(""),
        }
    }

    fn related(&self, node: &str, object: Object<'_>, target: Target) -> Result<(), Refusal> {
        if object.name.is_empty() {
            return refuse("No Object name found");
        }
        let graph = self.graph.read().expect("no panics under this lock");
        let namespace = object.namespace.unwrap_or_default();
        if graph.is_related(node, target, namespace, object.name) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }
}

fn refuse(why: &str) -> Result<(), Refusal> {
    Err(why.to_owned())
}

fn lease(node: &str, object: Object<'_>) -> Result<(), Refusal> {
    if !["get", "create", "update", "patch", "delete"].contains(&object.verb) {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    if object.namespace != Some(LEASES) {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    // The name of a new one is in its body, which NodeRestriction sees.
    if object.verb != "create" && object.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, object: Object<'_>) -> Result<(), Refusal> {
    if !["get", "create", "update", "patch", "delete"].contains(&object.verb) {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if !object.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if object.verb != "create" && object.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn own_node(node: &str, object: Object<'_>) -> Result<(), Refusal> {
    match (object.subresource, object.verb) {
        // Which ones, NodeRestriction says.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match object.name {
            name if name == node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => Err(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => refuse(""),
    }
}

fn follower(prefix: &'static str, apply: Apply, graph: &Arc<RwLock<Graph>>) -> Follower {
    let (on_list, on_event) = (Arc::clone(graph), Arc::clone(graph));
    Follower::of_objects(
        prefix,
        move |entries: Vec<Entry>| {
            let mut graph = on_list.write().expect("no panics under this lock");
            graph.forget(prefix);
            for entry in entries {
                take(&mut graph, apply, prefix, (&entry.key, Some(&entry.value)));
            }
        },
        move |event: &Event| {
            let mut graph = on_event.write().expect("no panics under this lock");
            take(&mut graph, apply, prefix, (&event.key, event.value.as_deref()));
        },
    )
}

fn take(graph: &mut Graph, apply: Apply, prefix: &str, (key, value): (&Key, Option<&[u8]>)) {
    let path = key.as_str().strip_prefix(prefix).unwrap_or_default();
    if let Err(error) = apply(graph, path, value) {
        // What cannot be read gives no node anything.
        error!(error = chain(&error), ?key, "an object is unreadable");
    }
}
