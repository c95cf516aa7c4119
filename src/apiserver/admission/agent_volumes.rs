//! Who makes the local volumes of a node elsewhere makes only those: on that node, for claims whose
//! pods are to run there (in the spirit of [`node_restriction`](super::node_restriction); upstream's
//! provisioners may do everything everywhere).
//!
//! Start at [`judge`]. Without this a machine could offer its own disk to any claim of the cluster, and
//! would have the pods, and what they write, come to it.

use super::super::identity::Identity;
use super::super::verbs::Part;
use super::{Attributes, Facts, Mutation, Operation, Plugin, Want};
use crate::api::ObjectKey;
use crate::api::node::{AGENT_PREFIX, AGENTS};
use crate::api::status::Status;
use crate::api::volume::{LOCAL_PROVISIONERS, claim_of, selected_node, volume_class, volume_name};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "AgentVolumes",
    mutation: Some(Mutation { wants, apply: |attributes, facts| judge(attributes, facts) }),
    judgement: None,
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const WHEN_CONSUMED: &str = "WaitForFirstConsumer";

fn node_name(identity: &Identity) -> Option<&str> {
    let is_agent = identity.groups().iter().any(|group| group == AGENTS);
    identity.user().strip_prefix(AGENT_PREFIX).filter(|_| is_agent)
}

/// The claim and the class that a new volume is for; the volume of a claim that has grown.
fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    if node_name(attributes.identity).is_none() {
        return Vec::new();
    }
    let mut wants = Vec::new();
    if let Some(volume) = attributes.creating::<PersistentVolume>() {
        let claim = claim_of(volume);
        let claim = claim.and_then(|it| Some((it.namespace.as_deref()?, it.name.as_deref()?)));
        wants.extend(claim.map(|(namespace, name)| {
            Want::one("", "persistentvolumeclaims", ObjectKey::namespaced(namespace, name))
        }));
        let class = ObjectKey::cluster(volume_class(volume));
        wants.push(Want::one("storage.k8s.io", "storageclasses", class));
    }
    if let Some((_new, old)) = attributes.updating::<PersistentVolumeClaim>(Part::Status)
        && let Some(volume) = volume_name(old)
    {
        wants.push(Want::one("", "persistentvolumes", ObjectKey::cluster(volume)));
    }
    wants
}

fn judge(attributes: &Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    let Some(node) = node_name(attributes.identity) else { return Ok(()) };
    let verdict = match (&*attributes.kind.facts.group, &*attributes.kind.facts.plural) {
        ("", "persistentvolumes") => judge_operation(&attributes.operation, facts, node),
        ("", "persistentvolumeclaims") => {
            let is_own = facts.all().any(|volume| is_on(volume, node));
            let what = "status of claims of volumes on itself";
            if is_own { Ok(()) } else { Err(only(node, what)) }
        }
        _ => Ok(()),
    };
    verdict.map_err(|why| attributes.forbidden(&why))
}

fn only(node: &str, what: &str) -> String {
    format!("the agent of node {node:?} can only write {what}")
}

fn judge_operation(operation: &Operation<'_>, facts: &Facts<'_>, node: &str) -> Result<(), String> {
    let volume = |object: &dyn std::any::Any| -> PersistentVolume {
        object.downcast_ref::<PersistentVolume>().expect("volumes are volumes").clone()
    };
    match operation {
        Operation::Create(object) => {
            judge_new(&volume(object.as_any()), facts.all().next(), facts.all().next(), node)
        }
        Operation::Update { object, old, .. } => {
            judge_change(&volume(object.as_any()), &volume(old.as_any()), node)
        }
        Operation::Delete(object) => match is_on(&volume(object.as_any()), node) {
            true => Ok(()),
            false => Err(only(node, "local volumes on itself")),
        },
    }
}

fn judge_new(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
    class: Option<&StorageClass>,
    node: &str,
) -> Result<(), String> {
    if !is_on(volume, node) {
        return Err(only(node, "local volumes on itself"));
    }
    let Some(class) = class.filter(|class| LOCAL_PROVISIONERS.contains(&&*class.provisioner))
    else {
        return Err(only(node, "volumes of classes of local provisioners"));
    };
    let uid = claim_of(volume).and_then(|claim| claim.uid.as_ref());
    let is_of =
        |claim: &&PersistentVolumeClaim| uid.is_some() && claim.metadata.uid.as_ref() == uid;
    let Some(claim) = claim.filter(is_of) else {
        return Err(only(node, "volumes for claims that there are"));
    };
    let waits = class.volume_binding_mode.as_deref() == Some(WHEN_CONSUMED);
    match selected_node(claim) {
        Some(selected) if selected == node => Ok(()),
        None if !waits => Ok(()),
        _ => Err(only(node, "volumes for claims that are to be on itself")),
    }
}

fn judge_change(new: &PersistentVolume, old: &PersistentVolume, node: &str) -> Result<(), String> {
    if !is_on(old, node) || !is_on(new, node) {
        return Err(only(node, "local volumes on itself"));
    }
    let whose = |volume: &PersistentVolume| claim_of(volume).map(|claim| claim.uid.clone());
    if whose(new) != whose(old) || volume_class(new) != volume_class(old) {
        return Err(format!("the agent of node {node:?} cannot say whose a volume is"));
    }
    Ok(())
}

/// Whether a volume is a directory on this node and can be used nowhere else.
fn is_on(volume: &PersistentVolume, node: &str) -> bool {
    let Some(spec) = &volume.spec else { return false };
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    let terms = required.map(|selector| &*selector.node_selector_terms).unwrap_or_default();
    let names_it = |term: &k8s_openapi::api::core::v1::NodeSelectorTerm| {
        term.match_expressions.iter().flatten().any(|expression| {
            expression.key == HOSTNAME
                && expression.operator == "In"
                && expression.values.as_deref() == Some(&[node.to_owned()])
        })
    };
    // Of several terms one is enough for a node.
    spec.local.is_some() && !terms.is_empty() && terms.iter().all(names_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn volume(changes: &[(&str, Value)]) -> PersistentVolume {
        let hostname = json!({"key": HOSTNAME, "operator": "In", "values": ["two"]});
        let mut volume = json!({"metadata": {"name": "v"}, "spec": {
            "local": {"path": "/var/lib/kinglet/storage/v"},
            "storageClassName": "local-path",
            "claimRef": {"namespace": "a", "name": "c", "uid": "C"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
        }});
        for (path, value) in changes {
            *volume.pointer_mut(path).unwrap() = value.clone();
        }
        from_value(volume).unwrap()
    }

    fn claim(selected: Option<&str>) -> PersistentVolumeClaim {
        let annotations = selected.map(|node| json!({"volume.kubernetes.io/selected-node": node}));
        from_value(json!({"metadata": {"name": "c", "uid": "C", "annotations": annotations}}))
            .unwrap()
    }

    fn class(provisioner: &str, mode: &str) -> StorageClass {
        from_value(json!({"provisioner": provisioner, "volumeBindingMode": mode})).unwrap()
    }

    const TERMS: &str = "/spec/nodeAffinity/required/nodeSelectorTerms";

    #[test]
    fn an_agent_makes_volumes_for_what_is_to_be_on_its_node() {
        let waits = class(LOCAL_PROVISIONERS[0], WHEN_CONSUMED);
        let here = claim(Some("two"));
        let check = |volume: &PersistentVolume,
                     claim: Option<&PersistentVolumeClaim>,
                     class: Option<&StorageClass>,
                     expected: &str| {
            let verdict = judge_new(volume, claim, class, "two").err().unwrap_or_default();
            let rest = verdict.strip_prefix("the agent of node \"two\" can only write ");
            assert_eq!(rest.unwrap_or(&verdict), expected);
        };
        let own = volume(&[]);
        check(&own, Some(&here), Some(&waits), "");
        check(&own, Some(&here), Some(&class(LOCAL_PROVISIONERS[1], "Immediate")), "");
        check(&own, Some(&claim(None)), Some(&class(LOCAL_PROVISIONERS[0], "Immediate")), "");
        let not_here = "volumes for claims that are to be on itself";
        check(&own, Some(&claim(None)), Some(&waits), not_here);
        check(&own, Some(&claim(Some("one"))), Some(&waits), not_here);
        let no_claim = "volumes for claims that there are";
        check(&own, None, Some(&waits), no_claim);
        check(&volume(&[("/spec/claimRef/uid", json!("D"))]), Some(&here), Some(&waits), no_claim);
        check(&volume(&[("/spec/claimRef", json!(null))]), Some(&here), Some(&waits), no_claim);
        let no_class = "volumes of classes of local provisioners";
        check(&own, Some(&here), None, no_class);
        check(&own, Some(&here), Some(&class("ebs.csi.aws.com", WHEN_CONSUMED)), no_class);
    }

    #[test]
    fn volumes_on_other_nodes_are_none_of_its_business() {
        let term = |values: Value| json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": values}]});
        for (change, is_own) in [
            ((TERMS, json!([term(json!(["two"]))])), true),
            ((TERMS, json!([term(json!(["one"]))])), false),
            ((TERMS, json!([term(json!(["two", "one"]))])), false),
            ((TERMS, json!([term(json!(["two"])), term(json!(["one"]))])), false),
            ((TERMS, json!([])), false),
            (("/spec/nodeAffinity", json!(null)), false),
            (("/spec/local", json!(null)), false),
        ] {
            let other = volume(std::slice::from_ref(&change));
            assert_eq!(is_on(&other, "two"), is_own, "{change:?}");
            assert_eq!(judge_change(&volume(&[]), &other, "two").is_ok(), is_own, "{change:?}");
            assert_eq!(judge_change(&other, &volume(&[]), "two").is_ok(), is_own, "{change:?}");
        }
        let larger = volume(&[("/metadata", json!({"name": "v", "finalizers": ["x"]}))]);
        assert_eq!(judge_change(&larger, &volume(&[]), "two"), Ok(()));
        for change in [("/spec/claimRef/uid", json!("D")), ("/spec/storageClassName", json!("x"))] {
            let other = volume(&[change]);
            assert!(judge_change(&other, &volume(&[]), "two").is_err());
        }
    }

    #[test]
    fn agents_are_known_by_name_and_group() {
        let check = |user: &str, groups: &[&str], expected: Option<&str>| {
            assert_eq!(node_name(&Identity::new(user, groups)), expected);
        };
        check("kinglet:agent:two", &[AGENTS], Some("two"));
        check("kinglet:agent:two", &[], None);
        check("system:node:two", &[AGENTS], None);
    }
}
