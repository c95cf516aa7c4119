//! What may be wrong with volumes that put several sources into one directory.
//!
//! Follows upstream `validateProjectionSources` (pkg/apis/core/validation, v1.35).

use super::volumes::validate_item;
use super::{env, paths};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{label_selector, one_of, present, to_value};
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, KeyToPath, PodCertificateProjection,
    ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};
use std::collections::BTreeSet;

/// Fields of the pod that a file can show.
const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

const TOKEN_SECONDS_MIN: i64 = 10 * 60;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const CERTIFICATE_SECONDS_MIN: i32 = 3_600;
const CERTIFICATE_SECONDS_MAX: i32 = 91 * 24 * 3_600;
const KEY_TYPES: &[&str] =
    &["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];

pub(super) fn validate(source: &ProjectedVolumeSource, path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        paths::file_mode(source.default_mode, &path.child("defaultMode")).into_iter().collect();
    let mut files = Files { taken: BTreeSet::new(), path: path.clone() };
    for (index, projection) in source.sources.iter().flatten().enumerate() {
        let path = path.child("sources").index(index);
        errors.extend(validate_projection(projection, &mut files, &path));
    }
    errors
}

/// The files that the sources before have put into the directory.
struct Files {
    taken: BTreeSet<String>,
    /// The volume: upstream reports conflicts there.
    path: FieldPath,
}

impl Files {
    /// The error of a file that is there already; `shown` is what upstream shows of it.
    fn take(&mut self, file: &str, shown: &str) -> Option<FieldError> {
        let is_conflict = !file.is_empty() && !self.taken.insert(file.to_owned());
        let detail = "conflicting duplicate paths";
        is_conflict.then(|| FieldError::invalid(&self.path, shown, detail))
    }
}

fn validate_projection(
    projection: &VolumeProjection,
    files: &mut Files,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(source) = &projection.secret {
        let items = source.items.as_deref().unwrap_or_default();
        errors.extend(validate_object(&source.name, items, files, &path.child("secret")));
    }
    if let Some(source) = &projection.config_map {
        let items = source.items.as_deref().unwrap_or_default();
        errors.extend(validate_object(&source.name, items, files, &path.child("configMap")));
    }
    if let Some(source) = &projection.downward_api {
        for file in source.items.iter().flatten() {
            errors.extend(validate_file(file, &path.child("downwardAPI")));
            errors.extend(files.take(&file.path, &file.path));
        }
    }
    if let Some(token) = &projection.service_account_token {
        errors.extend(validate_token(token, &files.path, &path.child("serviceAccountToken")));
    }
    if let Some(bundle) = &projection.cluster_trust_bundle {
        errors.extend(validate_bundle(bundle, &path.child("clusterTrustBundle")));
        errors.extend(files.take(&bundle.path, &bundle.path));
    }
    if let Some(certificate) = &projection.pod_certificate {
        errors.extend(validate_certificate(certificate, files, &path.child("podCertificate")));
    }
    let sources = [
        projection.secret.is_some(),
        projection.config_map.is_some(),
        projection.downward_api.is_some(),
        projection.service_account_token.is_some(),
        projection.cluster_trust_bundle.is_some(),
        projection.pod_certificate.is_some(),
    ];
    if sources.into_iter().filter(|is_set| *is_set).count() > 1 {
        let detail = "may not specify more than 1 volume type per source";
        errors.push(FieldError::forbidden(path, detail));
    }
    errors
}

fn validate_object(
    name: &str,
    items: &[KeyToPath],
    files: &mut Files,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors: Vec<_> = present(&path.child("name"), Some(name)).into_iter().collect();
    for (index, item) in items.iter().enumerate() {
        errors.extend(validate_item(item, &path.child("items").index(index)));
        errors.extend(files.take(&item.path, name));
    }
    errors
}

/// A file that shows a field of the pod or an amount of a container (upstream
/// `validateDownwardAPIVolumeFile`).
pub(super) fn validate_file(file: &DownwardAPIVolumeFile, path: &FieldPath) -> Vec<FieldError> {
    let file_path = path.child("path");
    let mut errors: Vec<_> = present(&file_path, Some(&file.path)).into_iter().collect();
    errors.extend(paths::not_reserved(&file.path, &file_path));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            errors.extend(env::validate_field(field, FIELDS, &path.child("fieldRef")));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            let path = path.child("resourceFieldRef");
            match present(&path.child("containerName"), resource.container_name.as_deref()) {
                Some(error) => errors.push(error),
                None => errors.extend(env::validate_resource(resource, &path)),
            }
        }
        (None, None) => {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(FieldError::required(path, detail));
        }
    }
    errors.extend(paths::file_mode(file.mode, &path.child("mode")));
    errors
}

/// Upstream reports the path of a token at the volume.
fn validate_token(
    token: &ServiceAccountTokenProjection,
    volume: &FieldPath,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let seconds = token.expiration_seconds.unwrap_or_default();
    let seconds_path = path.child("expirationSeconds");
    if seconds < TOKEN_SECONDS_MIN {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(&seconds_path, seconds, detail));
    }
    if seconds > TOKEN_SECONDS_MAX {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(&seconds_path, seconds, detail));
    }
    let file_path = volume.child("path");
    match present(&file_path, Some(&token.path)) {
        Some(error) => errors.push(error),
        None => errors.extend(paths::not_reserved(&token.path, &file_path)),
    }
    errors
}

fn validate_bundle(bundle: &ClusterTrustBundleProjection, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (bundle.name.as_deref(), bundle.signer_name.as_deref()) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(path, to_value(bundle), detail));
        }
        (None, None) => {
            let detail = "either name or signerName must be specified";
            errors.push(FieldError::required(path, detail));
        }
        (Some(name), None) => {
            if name.is_empty() {
                let detail = "must be a valid object name";
                errors.push(FieldError::required(&path.child("name"), detail));
            }
            if let Some(selector) = &bundle.label_selector {
                let detail = "labelSelector must be unset if name is specified";
                let path = path.child("labelSelector");
                errors.push(FieldError::invalid(&path, to_value(selector), detail));
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                let detail = "must be a valid signer name";
                errors.push(FieldError::required(&path.child("signerName"), detail));
            }
            if let Some(selector) = &bundle.label_selector {
                errors.extend(label_selector(selector, &path.child("labelSelector")));
            }
        }
    }
    let file_path = path.child("path");
    errors.extend(present(&file_path, Some(&bundle.path)));
    errors.extend(paths::not_reserved(&bundle.path, &file_path));
    errors
}

fn validate_certificate(
    certificate: &PodCertificateProjection,
    files: &mut Files,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(present(&path.child("signerName"), Some(&certificate.signer_name)));
    errors.extend(one_of(&path.child("keyType"), &certificate.key_type, KEY_TYPES));
    if let Some(seconds) = certificate.max_expiration_seconds {
        let path = path.child("maxExpirationSeconds");
        let wrong = match seconds {
            ..CERTIFICATE_SECONDS_MIN => Some(format!(">= {CERTIFICATE_SECONDS_MIN}")),
            CERTIFICATE_SECONDS_MIN..=CERTIFICATE_SECONDS_MAX => None,
            _ => Some(format!("<= {CERTIFICATE_SECONDS_MAX}")),
        };
        if let Some(bound) = wrong {
            let detail = format!("if provided, maxExpirationSeconds must be {bound}");
            errors.push(FieldError::invalid(&path, seconds, detail));
        }
    }
    let mut has_file = false;
    for (field, file) in [
        ("credentialBundlePath", &certificate.credential_bundle_path),
        ("keyPath", &certificate.key_path),
        ("certificateChainPath", &certificate.certificate_chain_path),
    ] {
        if let Some(file) = file.as_deref().filter(|file| !file.is_empty()) {
            has_file = true;
            errors.extend(paths::not_reserved(file, &path.child(field)));
            errors.extend(files.take(file, file));
        }
    }
    if !has_file {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(FieldError::required(path, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(sources: Value, expected: &[&str]) {
        let source = serde_json::from_value(json!({"sources": sources})).unwrap();
        compare(validate(&source, &FieldPath::new("p")), expected);
    }

    #[test]
    fn what_the_kubelet_gives_every_pod() {
        check(
            json!([
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]),
            &[],
        );
    }

    #[test]
    fn files_do_not_meet() {
        let item = json!([{"key": "k", "path": "x"}]);
        check(
            json!([{"secret": {"name": "s", "items": item}}, {"configMap": {"name": "c", "items": item}}]),
            &["p: Invalid value: \"c\": conflicting duplicate paths"],
        );
        check(
            json!([{"secret": {"name": ""}, "configMap": {"name": "c"}}]),
            &[
                "p.sources[0].secret.name: Required value",
                "p.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ],
        );
    }

    #[test]
    fn tokens_and_certificates() {
        check(
            json!([{"serviceAccountToken": {"path": "", "expirationSeconds": 599}}]),
            &[
                "p.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                "p.path: Required value",
            ],
        );
        check(
            json!([{"podCertificate": {"signerName": "", "keyType": "RSA1024", "maxExpirationSeconds": 5}}]),
            &[
                "p.sources[0].podCertificate.signerName: Required value",
                "p.sources[0].podCertificate.keyType: Unsupported value: \"RSA1024\"",
                "p.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 5: if provided, maxExpirationSeconds must be >= 3600",
                "p.sources[0].podCertificate: Required value: specify at least one of",
            ],
        );
        check(
            json!([{"clusterTrustBundle": {"path": "/x"}}]),
            &[
                "p.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
                "p.sources[0].clusterTrustBundle.path: Invalid value: \"/x\": must be a relative path",
            ],
        );
    }

    #[test]
    fn files_of_the_downward_api() {
        check(
            json!([{"downwardAPI": {"items": [
                {"path": "a"},
                {"path": "b", "resourceFieldRef": {"resource": "limits.cpu"}},
                {"path": "c", "fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
            ]}}]),
            &[
                "p.sources[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                "p.sources[0].downwardAPI.resourceFieldRef.containerName: Required value",
                "p.sources[0].downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\"",
            ],
        );
    }
}
