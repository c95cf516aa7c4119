//! Who controls an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The owner that controls the object, of which there is at most one.
#[must_use]
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object with this `uid` controls the object.
#[must_use]
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller_of(metadata).is_some_and(|owner| owner.uid == uid)
}

/// What an object that `owner` controls says of it: it goes with its owner, and a foreground
/// delete of the owner waits for it (upstream `metav1.NewControllerRef`).
#[must_use]
pub fn controller_reference<T>(owner: &T) -> OwnerReference
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let metadata = owner.metadata();
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;

    #[test]
    fn the_controller_is_the_one_that_says_so() {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some("web".to_owned());
        set.metadata.uid = Some("1".to_owned());
        let other = OwnerReference { uid: "2".to_owned(), ..OwnerReference::default() };
        let pod = ObjectMeta {
            owner_references: Some(vec![other, controller_reference(&set)]),
            ..ObjectMeta::default()
        };
        let owner = controller_of(&pod).unwrap();
        assert_eq!((owner.api_version.as_str(), owner.kind.as_str()), ("apps/v1", "ReplicaSet"));
        assert!(is_controlled_by(&pod, "1"));
        assert!(!is_controlled_by(&pod, "2"));
        assert!(controller_of(&ObjectMeta::default()).is_none());
    }
}
