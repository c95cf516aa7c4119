//! Which claims of a pod are not there yet. Pure.

use crate::api::ObjectKey;
use crate::api::owner::{controller_reference, is_controlled_by};
use crate::api::volume::claim_used;
use crate::client::{key_of, object_reference};
use crate::control::{Plan, Report, Write};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub pod: Arc<Pod>,
    /// Those that have the names of the pod's.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// The pod's volumes that come from templates, with the keys of their claims.
pub(super) fn claims(pod: &Pod) -> impl Iterator<Item = (&Volume, ObjectKey)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let templated = volumes.filter(|volume| volume.ephemeral.is_some());
    templated.filter_map(|volume| Some((volume, claim_used(pod, volume)?.0)))
}

/// See the module.
pub fn plan(observed: &Observed) -> Plan {
    let pod = &*observed.pod;
    let mut plan = Plan { regarding: object_reference(pod), ..Plan::default() };
    if pod.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut writes = Vec::new();
    for (volume, key) in claims(pod) {
        let known = observed.claims.iter().find(|claim| key_of(&claim.metadata) == key);
        match known {
            None => writes.extend(claim(pod, volume, key).map(|claim| Write::create(&claim))),
            Some(claim) if is_for(pod, claim) => {}
            Some(_) => plan.reports.push(Report::warning(
                "FailedBinding",
                format!(
                    "ephemeral volume {}: PVC {key} was not created for pod {} (pod is not owner)",
                    volume.name,
                    key_of(&pod.metadata)
                ),
            )),
        }
    }
    plan.then(writes);
    plan
}

fn is_for(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    is_controlled_by(&claim.metadata, pod.metadata.uid.as_deref().unwrap_or_default())
}

fn claim(pod: &Pod, volume: &Volume, key: ObjectKey) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let given = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(key.name),
            namespace: key.namespace,
            labels: given.labels,
            annotations: given.annotations,
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(is_going: bool, owner: Option<&str>, expected: &str) {
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u1",
                "deletionTimestamp": is_going.then_some("2026-11-21T00:00:00Z") },
            "spec": { "containers": [], "volumes": [
                { "name": "plain", "emptyDir": {} },
                { "name": "data", "ephemeral": { "volumeClaimTemplate": {
                    "metadata": { "labels": { "a": "b" } },
                    "spec": { "accessModes": ["ReadWriteOnce"] },
                } } },
            ] },
        });
        let claim = |uid: &str| {
            let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid, "controller": true });
            let claim = json!({ "metadata": {
                "name": "web-data", "namespace": "shop", "ownerReferences": [owner],
            } });
            Arc::new(serde_json::from_value(claim).unwrap())
        };
        let plan = plan(&Observed {
            pod: Arc::new(serde_json::from_value(pod).unwrap()),
            claims: owner.map(claim).into_iter().collect(),
        });
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let writes = plan.writes().map(|write| {
            let body = write.body();
            let metadata = &body["metadata"];
            let owner = &metadata["ownerReferences"][0];
            assert_eq!(owner["blockOwnerDeletion"], true);
            format!("{} {} {}", text(&metadata["name"]), text(&owner["uid"]), metadata["labels"])
        });
        let reports = plan.reports.iter().map(|report| report.message.clone());
        let rendered: Vec<_> = writes.chain(reports).collect();
        assert_eq!(rendered.join("; "), expected);
    }

    #[test]
    fn each_template_becomes_a_claim_of_the_pods() {
        check(false, None, "web-data u1 {\"a\":\"b\"}");
        check(false, Some("u1"), "");
        check(
            false,
            Some("u2"),
            "ephemeral volume data: PVC shop/web-data was not created for pod shop/web (pod is not owner)",
        );
        check(true, None, "");
    }
}
