//! What a definition is where it does not say (upstream `SetDefaults_CustomResourceDefinition*`,
//! apiextensions pkg/apis/apiextensions/v1/defaults.go, v1.35).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition,
};

const HTTPS_PORT: i32 = 443;

pub(super) fn apply(definition: &mut CustomResourceDefinition) {
    let spec = &mut definition.spec;
    let names = &mut spec.names;
    let kind = &names.kind;
    let singular = names.singular.get_or_insert_default();
    if singular.is_empty() {
        *singular = kind.to_lowercase();
    }
    let list_kind = names.list_kind.get_or_insert_default();
    if list_kind.is_empty() && !kind.is_empty() {
        *list_kind = format!("{kind}List");
    }
    let conversion = spec.conversion.get_or_insert_with(|| CustomResourceConversion {
        strategy: "None".to_owned(),
        webhook: None,
    });
    let webhook = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
    if let Some(service) = webhook.and_then(|client| client.service.as_mut()) {
        service.port.get_or_insert(HTTPS_PORT);
    }
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.as_ref());
    if stored.is_none_or(Vec::is_empty) {
        note_stored_version(definition);
    }
}

/// Objects may be stored in each version that has been the one to store.
pub(super) fn note_stored_version(definition: &mut CustomResourceDefinition) {
    let stored = definition.spec.versions.iter().find(|version| version.storage);
    let Some(name) = stored.map(|version| version.name.clone()) else { return };
    let status = definition.status.get_or_insert_default();
    let versions = status.stored_versions.get_or_insert_default();
    if !versions.contains(&name) {
        versions.push(name);
    }
}
