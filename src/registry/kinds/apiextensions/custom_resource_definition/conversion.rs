//! How objects of one version become those of another (upstream `validateCustomResourceConversion`,
//! apiextensions pkg/apis/apiextensions/validation/validation.go, v1.35).

use super::tolerance::Tolerance;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{repeated, to_value};
use crate::registry::kinds::webhook_address::{ServiceAddress, validate_service, validate_url};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, WebhookClientConfig,
};
use x509_parser::pem::Pem;

/// Versions of ConversionReview that are spoken here.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NOT_WEBHOOK: &str = "should not be set when strategy is not set to Webhook";

pub(super) fn validate(
    conversion: &CustomResourceConversion,
    tolerance: &Tolerance,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let strategy = path.child("strategy");
    match conversion.strategy.as_str() {
        "None" | "Webhook" => {}
        "" => errors.push(FieldError::required(&strategy, "")),
        other => errors.push(FieldError::not_supported(&strategy, other, &["None", "Webhook"])),
    }
    let webhook = conversion.webhook.as_ref();
    let client = webhook.and_then(|webhook| webhook.client_config.as_ref());
    let versions = webhook.map(|webhook| webhook.conversion_review_versions.as_slice());
    let versions = versions.unwrap_or_default();
    let (client_path, versions_path) =
        (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if conversion.strategy == "Webhook" {
        match client {
            None => {
                let detail = "required when strategy is set to Webhook";
                errors.push(FieldError::required(&client_path, detail));
            }
            Some(client) => errors.extend(validate_client(client, tolerance, &client_path)),
        }
        errors.extend(validate_versions(versions, tolerance, &versions_path));
    } else {
        if client.is_some() {
            errors.push(FieldError::forbidden(&client_path, NOT_WEBHOOK));
        }
        if !versions.is_empty() {
            errors.push(FieldError::forbidden(&versions_path, NOT_WEBHOOK));
        }
    }
    errors
}

fn validate_client(
    client: &WebhookClientConfig,
    tolerance: &Tolerance,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = match (&client.url, &client.service) {
        (Some(url), None) => validate_url(url, &path.child("url")),
        (None, Some(service)) => {
            let address = ServiceAddress {
                namespace: &service.namespace,
                name: &service.name,
                path: service.path.as_deref(),
                port: service.port.unwrap_or_default(),
            };
            validate_service(address, &path.child("service"))
        }
        _ => vec![FieldError::required(path, "exactly one of url or service is required")],
    };
    let bundle = client.ca_bundle.as_ref().filter(|bundle| !bundle.0.is_empty());
    if let Some(bundle) = bundle.filter(|_| !tolerance.bad_authorities)
        && let Some(problem) = authorities_problem(&bundle.0)
    {
        errors.push(FieldError::invalid(&path.child("caBundle"), to_value(bundle), problem));
    }
    errors
}

/// Why this is no bundle of certificates (upstream `rootCertPool` and `createErrorParsingCAData`,
/// client-go transport/transport.go).
pub(super) fn authorities_problem(bundle: &[u8]) -> Option<String> {
    let blocks: Vec<_> = Pem::iter_from_buffer(bundle).map_while(Result::ok).collect();
    let certificates = || blocks.iter().filter(|block| block.label == "CERTIFICATE");
    if certificates().any(|block| block.parse_x509().is_ok()) {
        return None;
    }
    let why = if certificates().next().is_some() {
        "failed to parse certificate: x509: malformed certificate"
    } else if blocks.is_empty() || !bundle.trim_ascii_end().ends_with(b"-----") {
        "unable to parse bytes as PEM block"
    } else {
        "no valid certificate authority data seen"
    };
    Some(format!("unable to load root certificates: {why}"))
}

/// Upstream `validateConversionReviewVersions`.
fn validate_versions(
    versions: &[String],
    tolerance: &Tolerance,
    path: &FieldPath,
) -> Vec<FieldError> {
    if versions.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    let is_repeated = repeated(versions);
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if is_repeated[index] {
            errors.push(FieldError::invalid(&path, version.as_str(), "duplicate version"));
            continue;
        }
        let problems = names::dns1035_label(version).into_iter();
        errors.extend(problems.map(|it| FieldError::invalid(&path, version.as_str(), it)));
    }
    if !tolerance.unknown_reviews && !is_any_spoken(versions) {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, to_value(&versions), detail));
    }
    errors
}

pub(super) fn is_any_spoken(versions: &[String]) -> bool {
    versions.iter().any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
}
