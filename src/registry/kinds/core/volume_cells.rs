//! What the tables of volumes and of claims have in common.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Named a class before there was a field for it.
pub(super) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Short names of the access modes, in the order in which they are shown (upstream
/// `GetAccessModesAsString`).
const MODES: &[(&str, &str)] = &[
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

pub(super) fn modes(modes: Option<&[String]>) -> String {
    let modes = modes.unwrap_or_default();
    let has = |name: &str| modes.iter().any(|mode| mode == name);
    let shown = MODES.iter().filter(|(name, _)| has(name)).map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",")
}

pub(super) fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> String {
    let storage = amounts.and_then(|amounts| amounts.get("storage"));
    storage.map_or_else(|| "0".to_owned(), |amount| amount.0.clone())
}

pub(super) fn phase(metadata: &ObjectMeta, phase: Option<&str>) -> String {
    match metadata.deletion_timestamp {
        Some(_) => "Terminating".to_owned(),
        None => phase.unwrap_or_default().to_owned(),
    }
}

/// The name of the class, by the old annotation first (upstream `GetPersistentVolumeClass`).
pub(super) fn class(metadata: &ObjectMeta, class: Option<&str>) -> String {
    let annotation =
        metadata.annotations.iter().flatten().find(|(key, _)| *key == CLASS_ANNOTATION);
    let annotation = annotation.map(|(_, class)| class.as_str());
    annotation.or(class).unwrap_or_default().to_owned()
}

pub(super) fn or_unset(text: Option<&str>) -> String {
    text.unwrap_or("<unset>").to_owned()
}
