//! Which objects belong to which nodes, because a pod there names them. Pure.
//!
//! Kept change by change: a pod costs as much as it names. A question looks up one object, and for
//! what volumes name, the claims of these. Follows upstream
//! plugin/pkg/auth/authorizer/node/graph.go (v1.35) in what it says, not in how.

use super::references::{References, VolumeReferences, node_of_attachment};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A kind of objects of which nodes may read some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    Secret,
    ConfigMap,
    Claim,
    Account,
    ResourceClaim,
    Pod,
    Volume,
    Attachment,
}

/// The nodes that have pods which name an object, with how many.
type Nodes = HashMap<Arc<str>, u32>;

/// See the module. Objects are known by `namespace/name`, or `name` alone.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Pods on nodes.
    pods: HashMap<String, Pod>,
    /// What pods on nodes name.
    named: HashMap<(Target, String), Nodes>,
    volumes: HashMap<String, VolumeReferences>,
    volumes_of_secret: HashMap<String, BTreeSet<String>>,
    attachments: HashMap<String, String>,
    /// Each name of a node once.
    nodes: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct Pod {
    node: Arc<str>,
    objects: BTreeSet<(Target, String)>,
}

impl Graph {
    /// Whether a node may know of an object.
    pub(super) fn is_related(
        &self,
        node: &str,
        target: Target,
        namespace: &str,
        name: &str,
    ) -> bool {
        let path = match namespace {
            "" => name.to_owned(),
            namespace => format!("{namespace}/{name}"),
        };
        match target {
            Target::Pod => self.pods.get(&path).is_some_and(|pod| *pod.node == *node),
            Target::Attachment => self.attachments.get(&path).is_some_and(|own| own == node),
            Target::Volume => self.has_volume(node, &path),
            Target::Secret => {
                let volumes = self.volumes_of_secret.get(&path).into_iter().flatten();
                let by_volume = volumes.into_iter().any(|volume| self.has_volume(node, volume));
                by_volume || self.is_named(node, target, path)
            }
            _ => self.is_named(node, target, path),
        }
    }

    fn is_named(&self, node: &str, target: Target, path: String) -> bool {
        self.named.get(&(target, path)).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn has_volume(&self, node: &str, volume: &str) -> bool {
        let claim = self.volumes.get(volume).and_then(|volume| volume.claim.clone());
        claim.is_some_and(|claim| self.is_named(node, Target::Claim, claim))
    }

    /// Nothing is known any more of what is below this prefix of the store.
    pub(super) fn forget(&mut self, prefix: &str) {
        match prefix {
            "/core/pods/" => {
                self.pods.clear();
                self.named.clear();
                self.nodes.clear();
            }
            "/core/persistentvolumes/" => {
                self.volumes.clear();
                self.volumes_of_secret.clear();
            }
            _ => self.attachments.clear(),
        }
    }

    pub(super) fn set_pod(
        &mut self,
        path: &str,
        json: Option<&[u8]>,
    ) -> Result<(), serde_json::Error> {
        let references = json.map(References::of_pod).transpose();
        let new = references.as_ref().ok().and_then(Option::as_ref);
        let new = new.filter(|references| !references.node.is_empty());
        if let (Some(old), Some(new)) = (self.pods.get(path), new)
            && *old.node == *new.node
            && old.objects == new.objects
        {
            return Ok(());
        }
        let namespace = path.split('/').next().unwrap_or_default();
        self.remove_pod(path, namespace);
        if let Some(References { node, objects }) = new {
            let node = self.node(node);
            for (target, name) in objects {
                let key = (*target, format!("{namespace}/{name}"));
                let nodes = self.named.entry(key).or_default();
                *nodes.entry(Arc::clone(&node)).or_default() += 1;
            }
            self.pods.insert(path.to_owned(), Pod { node, objects: objects.clone() });
        }
        references.map(drop)
    }

    fn remove_pod(&mut self, path: &str, namespace: &str) {
        let Some(Pod { node, objects }) = self.pods.remove(path) else { return };
        for (target, name) in objects {
            let key = (target, format!("{namespace}/{name}"));
            let Some(nodes) = self.named.get_mut(&key) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.named.remove(&key);
            }
        }
        // The set's own, and the one at hand.
        if Arc::strong_count(&node) == 2 {
            self.nodes.remove(&node);
        }
    }

    fn node(&mut self, name: &str) -> Arc<str> {
        if let Some(node) = self.nodes.get(name) {
            return Arc::clone(node);
        }
        let node: Arc<str> = name.into();
        self.nodes.insert(Arc::clone(&node));
        node
    }

    pub(super) fn set_volume(
        &mut self,
        path: &str,
        json: Option<&[u8]>,
    ) -> Result<(), serde_json::Error> {
        if let Some(old) = self.volumes.remove(path) {
            for secret in old.secrets {
                if let Some(volumes) = self.volumes_of_secret.get_mut(&secret) {
                    volumes.remove(path);
                    if volumes.is_empty() {
                        self.volumes_of_secret.remove(&secret);
                    }
                }
            }
        }
        if let Some(new) = json.map(VolumeReferences::of_volume).transpose()? {
            for secret in &new.secrets {
                let volumes = self.volumes_of_secret.entry(secret.clone()).or_default();
                volumes.insert(path.to_owned());
            }
            self.volumes.insert(path.to_owned(), new);
        }
        Ok(())
    }

    pub(super) fn set_attachment(
        &mut self,
        path: &str,
        json: Option<&[u8]>,
    ) -> Result<(), serde_json::Error> {
        self.attachments.remove(path);
        if let Some(node) = json.map(node_of_attachment).transpose()? {
            self.attachments.insert(path.to_owned(), node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(node: &str, secret: &str) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {
            "nodeName": node, "serviceAccountName": "bot",
            "volumes": [
                {"name": "a", "secret": {"secretName": secret}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
            ],
        }})
    }

    fn set(graph: &mut Graph, path: &str, object: Option<Value>) {
        let json = object.map(|object| object.to_string());
        let json = json.as_ref().map(String::as_bytes);
        match path.split('/').count() {
            2 => graph.set_pod(path, json).unwrap(),
            _ => graph.set_volume(path, json).unwrap(),
        }
    }

    #[track_caller]
    fn check(graph: &Graph, node: &str, expected: &[(Target, &str, &str, bool)]) {
        for (target, namespace, name, related) in expected {
            let found = graph.is_related(node, *target, namespace, name);
            assert_eq!(found, *related, "{node} {target:?} {namespace}/{name}");
        }
    }

    #[test]
    fn a_node_knows_what_its_pods_name() {
        let mut graph = Graph::default();
        set(&mut graph, "a/p", Some(pod("one", "s")));
        set(&mut graph, "a/q", Some(pod("two", "t")));
        let of_one = [
            (Target::Pod, "a", "p", true),
            (Target::Pod, "a", "q", false),
            (Target::Secret, "a", "s", true),
            (Target::Secret, "a", "t", false),
            (Target::Secret, "b", "s", false),
            (Target::ConfigMap, "a", "s", false),
            (Target::Claim, "a", "c", true),
            (Target::Account, "a", "bot", true),
            (Target::Account, "a", "default", false),
        ];
        check(&graph, "one", &of_one);
        check(&graph, "three", &[(Target::Secret, "a", "s", false)]);
        // Nobody has a pod that is nowhere.
        set(&mut graph, "a/r", Some(pod("", "u")));
        check(&graph, "", &[(Target::Secret, "a", "u", false)]);
    }

    #[test]
    fn a_volume_belongs_to_its_claim() {
        let mut graph = Graph::default();
        let volume = json!({"spec": {
            "claimRef": {"namespace": "a", "name": "c"},
            "csi": {"nodePublishSecretRef": {"namespace": "x", "name": "key"}},
        }});
        set(&mut graph, "v", Some(volume));
        let expected =
            |related| [(Target::Volume, "", "v", related), (Target::Secret, "x", "key", related)];
        check(&graph, "one", &expected(false));
        set(&mut graph, "a/p", Some(pod("one", "s")));
        check(&graph, "one", &expected(true));
        check(&graph, "two", &expected(false));
        set(&mut graph, "v", Some(json!({"spec": {}})));
        check(&graph, "one", &expected(false));
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut graph = Graph::default();
        set(&mut graph, "a/p", Some(pod("one", "s")));
        set(&mut graph, "a/q", Some(pod("one", "s")));
        set(&mut graph, "a/p", None);
        check(&graph, "one", &[(Target::Secret, "a", "s", true)]);
        set(&mut graph, "a/q", Some(pod("two", "s")));
        check(&graph, "one", &[(Target::Secret, "a", "s", false)]);
        set(&mut graph, "a/q", None);
        assert!(graph.pods.is_empty() && graph.named.is_empty() && graph.nodes.is_empty());
    }

    #[test]
    fn an_attachment_belongs_to_its_node() {
        let mut graph = Graph::default();
        let attachment = json!({"spec": {"nodeName": "one"}}).to_string();
        graph.set_attachment("x", Some(attachment.as_bytes())).unwrap();
        check(&graph, "one", &[(Target::Attachment, "", "x", true)]);
        check(&graph, "two", &[(Target::Attachment, "", "x", false)]);
    }
}
