//! What all kinds share: the metadata that the server fills in and protects.
//!
//! Follows upstream `FillObjectMetaSystemFields` and `BeforeUpdate` (apiserver pkg/registry/rest,
//! v1.35). Who manages the fields is not in the metadata while an object is worked on: see
//! `verbs::ownership`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use std::collections::HashSet;

/// The longest name that is generated; the given part is cut so that the random one fits (upstream
/// `maxNameLength`).
const GENERATED_NAME_BYTES_MAX: usize = 63;
const RANDOM_PART_BYTES: usize = 5;
/// Letters and digits that spell no words (upstream `rand.SafeEncodeString`).
const RANDOM_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What a new object is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) now: Timestamp,
    pub(super) uid: &'a str,
    /// What a generated name is made from.
    pub(super) entropy: u128,
}

/// Takes away what clients do not say about a new object (upstream `WipeObjectMetaSystemFields`).
pub(super) fn wipe(metadata: &mut ObjectMeta) {
    metadata.creation_timestamp = None;
    metadata.uid = None;
    metadata.deletion_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.self_link = None;
}

/// Drops owners that are named twice, in all the same words, and tells their uids (upstream
/// `dedupOwnerReferences`, apiserver pkg/endpoints/handlers/rest.go, v1.35).
pub(super) fn drop_repeated_owners(metadata: &mut ObjectMeta) -> Vec<String> {
    let Some(owners) = metadata.owner_references.as_mut().filter(|owners| owners.len() > 1) else {
        return Vec::new();
    };
    let mut seen = HashSet::new();
    let mut repeated = Vec::new();
    owners.retain(|owner| {
        let OwnerReference { api_version, kind, name, uid, controller, block_owner_deletion } =
            owner.clone();
        let is_new = seen.insert((api_version, kind, name, uid, controller, block_owner_deletion));
        if !is_new {
            repeated.push(owner.uid.clone());
        }
        is_new
    });
    repeated
}

/// Fills in what only the server may say about a new object.
pub(super) fn prepare_create(metadata: &mut ObjectMeta, birth: &Birth<'_>) {
    wipe(metadata);
    metadata.namespace = birth.namespace.map(str::to_owned);
    metadata.creation_timestamp = Some(Time(whole_second(birth.now)));
    metadata.uid = Some(birth.uid.to_owned());
    metadata.resource_version = None;
    metadata.generation = None;
    let base = metadata.generate_name.as_deref().filter(|base| !base.is_empty());
    if metadata.name.as_ref().is_none_or(String::is_empty)
        && let Some(base) = base
    {
        metadata.name = Some(generated_name(base, birth.entropy));
    }
}

/// `base` and five random letters.
pub(super) fn generated_name(base: &str, entropy: u128) -> String {
    let mut cut = base.len().min(GENERATED_NAME_BYTES_MAX - RANDOM_PART_BYTES);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_owned();
    let mut rest = entropy;
    for _ in 0..RANDOM_PART_BYTES {
        let index = usize::try_from(rest % RANDOM_ALPHABET.len() as u128).expect("below 27");
        name.push(char::from(RANDOM_ALPHABET[index]));
        rest /= RANDOM_ALPHABET.len() as u128;
    }
    name
}

/// Puts back what an update may not change, and takes away what clients do not write.
pub(super) fn prepare_update(metadata: &mut ObjectMeta, old: &ObjectMeta) {
    metadata.generation = old.generation;
    if metadata.uid.as_ref().is_none_or(String::is_empty) {
        metadata.uid.clone_from(&old.uid);
    }
    if old.creation_timestamp.is_some() {
        metadata.creation_timestamp.clone_from(&old.creation_timestamp);
    }
    // A client can neither begin nor end a deletion by writing its marks: others are refused.
    if metadata.deletion_timestamp.is_none() {
        metadata.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if metadata.deletion_grace_period_seconds.is_none() {
        metadata.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
    metadata.self_link = None;
    metadata.managed_fields = None;
    metadata.resource_version = None;
}

/// Kubernetes' times have whole seconds.
pub(super) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a timestamp's own second is in range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_is_named_twice_is_kept_once() {
        let owner = |name: &str, uid: &str| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        // Those that differ in anything are kept.
        let owners = vec![owner("a", "1"), owner("b", "1"), owner("a", "1"), owner("a", "2")];
        let mut metadata = ObjectMeta { owner_references: Some(owners), ..ObjectMeta::default() };
        assert_eq!(drop_repeated_owners(&mut metadata), ["1"]);
        let kept = metadata.owner_references.unwrap();
        assert_eq!(kept, [owner("a", "1"), owner("b", "1"), owner("a", "2")]);
    }

    #[test]
    fn names_are_generated_within_limits() {
        let name = generated_name(&"x".repeat(80), u128::MAX);
        assert_eq!(name.len(), 63);
        assert_ne!(generated_name("a-", 1), generated_name("a-", 2));
    }
}
