//! When a volume of this node goes, with its directory. Pure.
//!
//! Upstream sigs.k8s.io/sig-storage-lib-external-provisioner `shouldDelete` and
//! `deleteVolumeOperation`.

use super::LOCAL_PROVISIONERS;
use super::claim::{FINALIZER, HOSTNAME, PROVISIONED_BY, hostname};
use crate::client::object_reference;
use crate::control::{Detail, Plan, Planned, Report, Write};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything the decision about a volume may depend on.
#[derive(Clone, Debug)]
pub struct VolumeView {
    pub volume: Arc<PersistentVolume>,
    /// This one; `None` before it has registered.
    pub node: Option<Arc<Node>>,
    /// Where directories are.
    pub root: PathBuf,
}

/// A released volume is deleted; one that is being deleted is let go of, which is when its directory
/// goes.
pub fn plan(view: &VolumeView) -> Plan {
    let volume = &*view.volume;
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_free = matches!(phase, Some("Released" | "Failed" | "Available"));
    let deletes = policy(volume) == "Delete";
    let is_going = volume.metadata.deletion_timestamp.is_some();
    let mut plan = Plan { regarding: object_reference(volume), ..Plan::default() };
    if !is_of_node(volume, view.node.as_ref()) || directory(volume, &view.root).is_none() {
        return plan;
    }
    let failed = Report::warning("VolumeFailedDelete", "").with(Detail::Error);
    let planned = |write| Planned { write, succeeded: None, failed: Some(failed) };
    if !is_going && deletes && phase == Some("Released") {
        plan.then([planned(if has_finalizer(volume) {
            Write::delete(volume)
        } else {
            // One that somebody has taken the finalizer off gets it back: it stands for the
            // directory.
            let mut kept = volume.clone();
            kept.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            Write::update(&kept)
        })]);
    } else if is_going && has_finalizer(volume) && (is_free || !deletes) {
        let mut gone = volume.clone();
        gone.metadata.finalizers.get_or_insert_default().retain(|name| name != FINALIZER);
        plan.then([planned(Write::update(&gone))]);
    }
    plan
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|it| it.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

fn has_finalizer(volume: &PersistentVolume) -> bool {
    volume.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

/// Whether the volume was made by this node's part: it can be used nowhere else.
pub(super) fn is_of_node(volume: &PersistentVolume, node: Option<&Arc<Node>>) -> bool {
    let by = volume.metadata.annotations.as_ref().and_then(|all| all.get(PROVISIONED_BY));
    let required = || volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref();
    let mut names = required().into_iter().flat_map(|selector| {
        let terms = selector.node_selector_terms.iter();
        let expressions = terms.flat_map(|term| term.match_expressions.iter().flatten());
        let hostnames = expressions.filter(|expression| expression.key == HOSTNAME);
        hostnames.flat_map(|expression| expression.values.iter().flatten())
    });
    let own = node.map(|node| hostname(node));
    by.is_some_and(|by| LOCAL_PROVISIONERS.contains(&by.as_str()))
        && own.is_some()
        && names.next().map(String::as_str) == own
}

/// The name below the root of the volume's directory; `None` where it is elsewhere.
pub(super) fn directory(volume: &PersistentVolume, root: &Path) -> Option<String> {
    let path = &volume.spec.as_ref()?.local.as_ref()?.path;
    let name = Path::new(path).strip_prefix(root).ok()?.to_str()?;
    let is_one_name = !name.is_empty() && !name.contains('/') && ![".", ".."].contains(&name);
    is_one_name.then(|| name.to_owned())
}

/// What has to be done on disk before a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Make(String),
    Remove(String),
}

/// A directory is there before its volume is, and goes before its volume is let go of.
pub(super) fn before(write: &Write, root: &Path) -> Before {
    let (Write::Create { resource, body, .. } | Write::Update { resource, body, .. }) = write
    else {
        return Before::Nothing;
    };
    if resource.kind != "PersistentVolume" {
        return Before::Nothing;
    }
    let volume: PersistentVolume =
        serde_json::from_slice(body).expect("bodies are made from objects");
    let Some(name) = directory(&volume, root) else { return Before::Nothing };
    match write {
        Write::Create { .. } => Before::Make(name),
        _ if volume.metadata.deletion_timestamp.is_some()
            && !has_finalizer(&volume)
            && policy(&volume) == "Delete" =>
        {
            Before::Remove(name)
        }
        _ => Before::Nothing,
    }
}
