//! How an object comes to belong to a controller, and to belong to it no longer: upstream
//! `ControllerRefManager` (pkg/controller/controller_ref_manager.go, v1.35).

use crate::api::ObjectKey;
use crate::api::labels::Selector;
use crate::api::owner::{controller_of, controller_reference};
use crate::client::{ApiObject, Cache, Change, Client, Patch, key_of};
use crate::control::{Plan, Queue, Write};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// After a look at which it could not be found out whether objects may be adopted.
const ADOPTION_RETRY: Duration = Duration::from_secs(1);

/// Objects of a kind, by what they are to an owner.
#[derive(Debug)]
pub(super) struct Claims<'a, K> {
    /// Controlled by the owner, which is to have them.
    pub(super) own: Vec<&'a K>,
    /// Controlled by nobody, and the owner is to have them.
    adoptable: Vec<&'a K>,
    /// Controlled by the owner although it is not to have them any more.
    foreign: Vec<&'a K>,
}

impl<'a, K: ApiObject> Claims<'a, K> {
    /// `is_wanted` says whether the owner is to have an object: for most, whether its selector
    /// matches.
    pub(super) fn sort_out(
        owner_uid: &str,
        is_wanted: impl Fn(&ObjectMeta) -> bool,
        objects: impl Iterator<Item = &'a K>,
    ) -> Self {
        let mut claims = Self { own: Vec::new(), adoptable: Vec::new(), foreign: Vec::new() };
        for object in objects {
            let metadata = object.metadata();
            match controller_of(metadata) {
                Some(controller) if controller.uid != owner_uid => {}
                Some(_) if is_wanted(metadata) => claims.own.push(object),
                Some(_) => claims.foreign.push(object),
                None if metadata.deletion_timestamp.is_none() && is_wanted(metadata) => {
                    claims.adoptable.push(object);
                }
                None => {}
            }
        }
        claims
    }

    /// What comes before everything else: adoptions and releases, where there are any to make. An
    /// owner that is being deleted makes none.
    ///
    /// `may_adopt` says that the API server itself has seen the owner, and seen it stay: objects
    /// may be without a controller because the owner was deleted just now.
    pub(super) fn plan<O: ApiObject>(&self, owner: &O, may_adopt: bool) -> Option<Plan> {
        self.plan_with(owner, may_adopt, None)
    }

    /// As [`plan`](Self::plan), for an owner whose objects have a finalizer of its own: it comes and
    /// goes with the ownership.
    pub(super) fn plan_with<O: ApiObject>(
        &self,
        owner: &O,
        may_adopt: bool,
        finalizer: Option<&str>,
    ) -> Option<Plan> {
        if owner.metadata().deletion_timestamp.is_some() {
            return None;
        }
        let reference = controller_reference(owner);
        let released =
            self.foreign.iter().map(|object| release(*object, &reference.uid, finalizer));
        let adoptable = self.adoptable.iter().filter(|_| may_adopt);
        let adopted = adoptable.map(|object| adopt(*object, &reference, finalizer));
        let claims: Vec<Write> = released.chain(adopted).collect();
        if !claims.is_empty() {
            return Some(Plan::of(claims));
        }
        // Creating others in place of those that may be adopted would be wrong.
        let recheck_after = Some(ADOPTION_RETRY);
        (!self.adoptable.is_empty()).then(|| Plan { recheck_after, ..Plan::default() })
    }
}

pub(super) fn matches(selector: &Selector, metadata: &ObjectMeta) -> bool {
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(metadata.labels.as_ref().unwrap_or(&NO_LABELS))
}

/// Whether `owner` is still there and stays, according to the API server itself: upstream
/// `RecheckDeletionTimestamp`.
pub(super) async fn stays<O: ApiObject>(client: &Client, owner: &O) -> bool {
    let metadata = owner.metadata();
    let fresh = client.get::<O>(&key_of(metadata)).await;
    fresh.is_ok_and(|fresh| {
        let fresh = fresh.metadata();
        fresh.uid == metadata.uid && fresh.deletion_timestamp.is_none()
    })
}

/// The owners to look at when an object changes: those that control or controlled it, or, where
/// nobody does, those that may adopt it because they select it.
pub(super) fn concerned<K: ApiObject, O: ApiObject>(
    change: &Change<K>,
    owners: &Cache<O>,
    selects: impl Fn(&O, &ObjectMeta) -> bool,
) -> Vec<ObjectKey> {
    let versions = [&change.old, &change.new].into_iter().flatten();
    let mut concerned: Vec<ObjectKey> = versions
        .filter_map(|object| controller_of(object.metadata()))
        .filter(|owner| owner.kind == O::KIND)
        .map(|owner| ObjectKey {
            namespace: change.key.namespace.clone(),
            name: owner.name.clone(),
        })
        .collect();
    concerned.dedup();
    if let (Some(object), Some(namespace)) = (&change.new, &change.key.namespace)
        && controller_of(object.metadata()).is_none()
    {
        let adopters = owners.list_where(namespace, |owner| selects(owner, object.metadata()));
        concerned.extend(adopters.iter().map(|owner| key_of(owner.metadata())));
    }
    concerned
}

/// A queue of the objects of a kind, each when it changes.
pub(super) fn queue_of<K: ApiObject>(objects: &Cache<K>) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let changed = queue.clone();
    objects.on_change(move |change| changed.add(&change.key));
    queue
}

/// Queues those who are [`concerned`] when one of these objects changes.
pub(super) fn queue_owners<K: ApiObject, O: ApiObject>(
    queue: &Queue<ObjectKey>,
    owned: &Cache<K>,
    owners: &Arc<Cache<O>>,
    selects: impl Fn(&O, &ObjectMeta) -> bool + Send + Sync + 'static,
) {
    let (changed, owners) = (queue.clone(), Arc::clone(owners));
    owned.on_change(move |change| {
        concerned(change, &owners, &selects).iter().for_each(|key| changed.add(key));
    });
}

/// Makes `owner` the controller of an object that has none. Conflicts where the object has changed
/// since: somebody else may have adopted it.
fn adopt<K: ApiObject>(object: &K, owner: &OwnerReference, finalizer: Option<&str>) -> Write {
    let finalizers = finalizer.map(|finalizer| ("finalizers", json!([finalizer])));
    patch_owners(object, json!([owner]), finalizers)
}

/// Takes the owner with this uid off an object.
fn release<K: ApiObject>(object: &K, owner_uid: &str, finalizer: Option<&str>) -> Write {
    let finalizers =
        finalizer.map(|finalizer| ("$deleteFromPrimitiveList/finalizers", json!([finalizer])));
    patch_owners(object, json!([{"$patch": "delete", "uid": owner_uid}]), finalizers)
}

fn patch_owners<K: ApiObject>(
    object: &K,
    owners: Value,
    finalizers: Option<(&str, Value)>,
) -> Write {
    let metadata = object.metadata();
    let mut patch = json!({
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
        "ownerReferences": owners,
    });
    if let Some((field, finalizers)) = finalizers {
        patch[field] = finalizers;
    }
    Write::patch(object, Patch::Strategic(json!({"metadata": patch})))
}
