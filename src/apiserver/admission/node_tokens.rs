//! The agent of a node asks for tokens of its own pods only, and only for audiences that these pods
//! have to do with (upstream `admitServiceAccount`, plugin/pkg/admission/noderestriction, v1.35).
//!
//! Start at [`check_token`]. An audience belongs to a pod by a projected volume, by the driver of one
//! of its volumes, or because a role lets the node ask for it. Volumes of drivers that are no longer
//! part of Kubernetes are not taken for those of the drivers that came after them.

use super::super::authz::{Ask, Decision};
use super::super::rbac::Action;
use super::super::verbs::Call;
use super::node_restriction::{node_name, node_of_pod};
use crate::api::ObjectKey;
use crate::api::status::{Status, Subject, aggregate};
use crate::api::volume::claim_used;
use crate::registry;
use k8s_openapi::api::authentication::v1::BoundObjectReference;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::storage::v1::CSIDriver;

/// The verb by which a role lets a node ask for tokens of any audience; the audience takes the place
/// of the resource, and the account that of its name.
const VERB: &str = "request-serviceaccounts-token-audience";

/// `pod` is the one that the token is to be bound to.
///
/// # Errors
/// Forbidden, where it is not for the node.
pub(in super::super) async fn check_token(
    call: &Call<'_>,
    bound: Option<&BoundObjectReference>,
    audiences: &[String],
    pod: Option<&Pod>,
) -> Result<(), Status> {
    let Some(node) = node_name(call.identity) else { return Ok(()) };
    let account = call.name.unwrap_or_default();
    let forbidden = |why: String| {
        let subject = Subject { group: "", resource: "serviceaccounts", name: account };
        Status::forbidden(subject, &why)
    };
    let wanted = judge(node, bound, audiences, pod).map_err(forbidden)?;
    let Wanted::Audience { audience, pod } = wanted else { return Ok(()) };
    if is_of_driver(call, pod, audience).await?.map_err(forbidden)? {
        return Ok(());
    }
    let action = Action::Resource {
        verb: VERB,
        group: "",
        resource: audience,
        subresource: "",
        name: account,
        namespace: call.namespace,
    };
    let ask = Ask::of(call.identity, action);
    match call.server.authorizer.judge(&ask, || call.server.store.revision()).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(_) => Err(forbidden(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request \
             tokens for this audience",
            call.identity.user()
        ))),
    }
}

/// What the pod itself says of a token.
#[derive(Debug)]
enum Wanted<'a> {
    /// One of its volumes holds such a token.
    Projected,
    /// None of its own does.
    Audience { audience: &'a str, pod: &'a Pod },
}

fn judge<'a>(
    node: &str,
    bound: Option<&BoundObjectReference>,
    audiences: &'a [String],
    pod: Option<&'a Pod>,
) -> Result<Wanted<'a>, String> {
    let has = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
    let bound = bound.filter(|bound| {
        bound.api_version.as_deref() == Some("v1")
            && bound.kind.as_deref() == Some("Pod")
            && has(&bound.name)
    });
    let (Some(bound), Some(pod)) = (bound, pod) else {
        return Err("node requested token not bound to a pod".to_owned());
    };
    if !has(&bound.uid) {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    if node_of_pod(pod) != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    let audience = match audiences {
        [] => "",
        [one] => one.as_str(),
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let sources = volumes(pod).flat_map(|volume| &volume.projected);
    let sources = sources.flat_map(|projected| projected.sources.iter().flatten());
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    Ok(match tokens.any(|token| token.audience.as_deref().unwrap_or_default() == audience) {
        true => Wanted::Projected,
        false => Wanted::Audience { audience, pod },
    })
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// Whether the driver of one of the pod's volumes wants tokens for this audience. What keeps it from
/// being known is told where no other driver does.
async fn is_of_driver(
    call: &Call<'_>,
    pod: &Pod,
    audience: &str,
) -> Result<Result<bool, String>, Status> {
    let mut problems = Vec::new();
    for volume in volumes(pod) {
        let driver = match driver_of(call, pod, volume).await? {
            Ok(Some(name)) => find::<CSIDriver>(call, DRIVERS, ObjectKey::cluster(name)).await?,
            Ok(None) => continue,
            Err(missing) => Err(missing),
        };
        match driver {
            Ok(driver) => {
                let mut requests = driver.spec.token_requests.iter().flatten();
                if requests.any(|request| request.audience == audience) {
                    return Ok(Ok(true));
                }
            }
            Err(missing) => problems.push(missing),
        }
    }
    Ok(match problems.as_slice() {
        [] => Ok(false),
        some => Err(format!("error validating audience {audience:?}: {}", aggregate(some))),
    })
}

/// The driver of a volume: the pod says it, or the volume behind its claim. `None`: it has none.
async fn driver_of(
    call: &Call<'_>,
    pod: &Pod,
    volume: &Volume,
) -> Result<Result<Option<String>, String>, Status> {
    if let Some(source) = &volume.csi {
        return Ok(Ok(Some(source.driver.clone())));
    }
    let Some((key, _)) = claim_used(pod, volume) else { return Ok(Ok(None)) };
    let claim = match find::<PersistentVolumeClaim>(call, CLAIMS, key).await? {
        Ok(claim) => claim,
        Err(missing) => return Ok(Err(missing)),
    };
    let name = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
    let found = find::<PersistentVolume>(call, VOLUMES, ObjectKey::cluster(name)).await?;
    Ok(found.map(|volume| Some(volume.spec?.csi?.driver)))
}

/// Where a kind is, and what upstream's listers call one of it that is missing.
#[derive(Clone, Copy)]
struct Place {
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
}

const CLAIMS: Place =
    Place { group: "", plural: "persistentvolumeclaims", singular: "persistentvolumeclaim" };
const VOLUMES: Place =
    Place { group: "", plural: "persistentvolumes", singular: "persistentvolume" };
const DRIVERS: Place =
    Place { group: "storage.k8s.io", plural: "csidrivers", singular: "csidriver" };

/// The object, or how upstream says that there is none.
async fn find<T: Clone + 'static>(
    call: &Call<'_>,
    place: Place,
    key: ObjectKey,
) -> Result<Result<T, String>, Status> {
    let Place { group, plural, singular } = place;
    let kind = registry::find(group, "v1", plural).expect("a built-in kind");
    let Some(entry) = call.server.find(kind, &key).await? else {
        let subject = Subject { group, resource: singular, name: &key.name };
        return Ok(Err(Status::not_found(subject).message));
    };
    let object = kind.decode_stored(&entry.value).map_err(Status::internal)?;
    let object = object.as_any().downcast_ref::<T>().expect("the kind's own type");
    Ok(Ok(object.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    /// What is wrong with the request, or the audience that only others could allow.
    #[track_caller]
    fn check(bound: Value, audiences: &[&str], node: &str, expected: &str) {
        let pod: Pod = from_value(json!({"spec": {"nodeName": node, "containers": [], "volumes": [
            {"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "a"}},
                {"serviceAccountToken": {"path": "b", "audience": "vault"}},
            ]}},
        ]}}))
        .unwrap();
        let bound: Option<BoundObjectReference> = from_value(bound).unwrap();
        let audiences: Vec<_> = audiences.iter().map(|it| (*it).to_owned()).collect();
        let told = match judge("n", bound.as_ref(), &audiences, Some(&pod)) {
            Ok(Wanted::Projected) => String::new(),
            Ok(Wanted::Audience { audience, .. }) => format!("not of the pod: {audience}"),
            Err(why) => why,
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn tokens_are_for_pods_of_the_node_and_their_audiences() {
        let good = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"});
        check(good.clone(), &[], "n", "");
        check(good.clone(), &["vault"], "n", "");
        check(good.clone(), &["other"], "n", "not of the pod: other");
        check(good.clone(), &["a", "b"], "n", "node may only request 0 or 1 audiences");
        check(good, &[], "m", "node requested token bound to a pod scheduled on a different node");
        check(Value::Null, &[], "n", "node requested token not bound to a pod");
        check(
            json!({"apiVersion": "v1", "kind": "Secret", "name": "p", "uid": "1"}),
            &[],
            "n",
            "node requested token not bound to a pod",
        );
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "name": "p"}),
            &[],
            "n",
            "node requested token with a pod binding without a uid",
        );
    }
}
