//! Objects of each kind: the manifests of `golden/kinds/`, so that there can be several of each.

use kinglet::registry::{KINDS, Kind, KindFacts};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// All objects have this label, and no others.
pub(super) const MARK: &str = "labelSelector=every%3Dkind";

/// A kind, with objects of it.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) kind: &'static Kind,
    manifest: Value,
}

impl Sample {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|kind| Self { kind, manifest: manifest(kind) })
    }

    pub(super) fn facts(&self) -> &'static KindFacts {
        &self.kind.facts
    }

    /// `apps/v1 Deployment`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.facts().api_version(), self.facts().kind)
    }

    pub(super) fn takes(&self, verb: &str) -> bool {
        self.facts().verbs.contains(&verb)
    }

    /// The path of all objects of the namespace.
    pub(super) fn collection(&self) -> String {
        let facts = self.facts();
        let root = if facts.group.is_empty() { "/api" } else { "/apis" };
        let namespace = if facts.is_namespaced() { "/namespaces/default" } else { "" };
        format!("{root}/{}{namespace}/{}", facts.api_version(), facts.plural)
    }

    /// The path of all objects that are marked.
    pub(super) fn marked(&self) -> String {
        format!("{}?{MARK}", self.collection())
    }

    pub(super) fn path(&self, number: usize) -> String {
        format!("{}/{}", self.collection(), self.name(number))
    }

    pub(super) fn name(&self, number: usize) -> String {
        let name = self.manifest["metadata"]["name"].as_str().unwrap();
        match &*self.facts().kind {
            "APIService" => format!("v1beta1.{}", domain(number)),
            "CustomResourceDefinition" => {
                let plural = self.manifest["spec"]["names"]["plural"].as_str().unwrap();
                format!("{plural}.{}", domain(number))
            }
            "IPAddress" => format!("10.43.7.{number}"),
            _ => format!("{name}-{number}"),
        }
    }

    /// What a client sends.
    pub(super) fn object(&self, number: usize) -> Value {
        let mut object = self.manifest.clone();
        let annotations = &self.manifest["metadata"]["annotations"];
        let mut metadata = json!({"name": self.name(number), "labels": {"every": "kind"}});
        metadata["annotations"] =
            if annotations.is_null() { json!({"number": ""}) } else { annotations.clone() };
        object["metadata"] = metadata;
        let Some(spec) = object.get_mut("spec") else { return object };
        match &*self.facts().kind {
            "APIService" | "CustomResourceDefinition" => spec["group"] = json!(domain(number)),
            "Pod" => {
                // One that no node has to end first, of an account that there is.
                let spec = spec.as_object_mut().unwrap();
                spec.remove("nodeName");
                spec.remove("serviceAccountName");
            }
            // What admission adds to is nobody's who applies.
            "Node" => drop(spec.as_object_mut().unwrap().remove("taints")),
            // Of what is embedded, messages do not say what it is.
            "StatefulSet" => {
                let container = &mut spec["template"]["spec"]["containers"][0];
                container.as_object_mut().unwrap().remove("volumeMounts");
                spec.as_object_mut().unwrap().remove("volumeClaimTemplates");
            }
            "Job" => {
                // What the server says of its pods.
                spec["template"]["metadata"] = json!({});
                spec.as_object_mut().unwrap().remove("selector");
            }
            "Service" => {
                spec.as_object_mut().unwrap().remove("clusterIP");
                for port in spec["ports"].as_array_mut().unwrap() {
                    port.as_object_mut().unwrap().remove("nodePort");
                }
            }
            _ => {}
        }
        object
    }

    /// A status as somebody has reported it, where the manifest has one.
    pub(super) fn status(&self) -> Value {
        let mut status = self.manifest["status"].clone();
        if &*self.facts().kind == "CertificateSigningRequest" {
            // Who approves has a path of his own.
            status.as_object_mut().unwrap().remove("conditions");
        }
        status
    }
}

fn domain(number: usize) -> String {
    format!("n{number}.example.com")
}

fn manifest(kind: &Kind) -> Value {
    let facts = &kind.facts;
    let name = match kind.view {
        None => facts.kind.to_string(),
        Some(_) => format!("{}.{}", facts.kind, facts.api_version().replace('/', ".")),
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kinds");
    let text = fs::read_to_string(directory.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}
