//! Which pod of a StatefulSet a pod is: its name, its number, and what else says so.

use crate::controllers::history::REVISION_LABEL;
use crate::controllers::pod_template::pod_of;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::ops::Range;

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The number of the pod of this name, where it is one of the set's. Upstream `isMemberOf` and
/// `getOrdinal` also take `web-01` for the pod `web-1`, which then is never at rest.
pub(super) fn ordinal(set: &StatefulSet, pod_name: &str) -> Option<i32> {
    let digits = pod_name.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    let is_plain = digits == "0" || !digits.starts_with(['0', '+', '-']);
    digits.parse().ok().filter(|_| is_plain)
}

/// As [`ordinal`], of a pod.
pub(super) fn ordinal_of(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    ordinal(set, pod.metadata.name.as_deref()?)
}

/// The numbers of the pods that are to be there.
pub(super) fn ordinals(spec: &StatefulSetSpec) -> Range<i32> {
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
    start..start.saturating_add(spec.replicas.unwrap_or(1))
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The revision that a pod is of, by name.
pub(super) fn revision(pod: &Pod) -> &str {
    label(&pod.metadata, REVISION_LABEL).unwrap_or_default()
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// The labels that do not depend on the template.
fn put_labels(pod: &mut Pod, ordinal: i32) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.to_owned(), name);
    labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
}

/// Whether the pod says who it is: upstream `identityMatches`.
pub(super) fn is_labelled(pod: &Pod) -> bool {
    label(&pod.metadata, POD_NAME_LABEL) == pod.metadata.name.as_deref()
}

/// The pod with the labels that it lacks: upstream `updateIdentity`.
pub(super) fn labelled(pod: &Pod, ordinal: i32) -> Pod {
    let mut pod = pod.clone();
    put_labels(&mut pod, ordinal);
    pod
}

/// The pod of this number, without its volumes: upstream `newVersionedStatefulSetPod`.
pub(super) fn render_pod(
    set: &StatefulSet,
    (template, revision): (&PodTemplateSpec, &str),
    ordinal: i32,
) -> Pod {
    let mut pod = pod_of(Some(template), set);
    let name = pod_name(set, ordinal);
    pod.metadata.name = Some(name.clone());
    put_labels(&mut pod, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    let service = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    spec.subdomain = service.filter(|name| !name.is_empty());
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_pod_it_is() {
        let mut set = StatefulSet::default();
        set.metadata.name = Some("web".to_owned());
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-2147483647", Some(i32::MAX)),
            ("web-2147483648", None),
            ("web-01", None),
            ("web-+1", None),
            ("web--1", None),
            ("web-", None),
            ("web", None),
            ("web-a-1", None),
            ("other-1", None),
        ] {
            assert_eq!(ordinal(&set, name), expected, "{name}");
        }
    }
}
