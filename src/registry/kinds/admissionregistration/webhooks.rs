//! What webhooks of both kinds have in common.
//!
//! Follows upstream `validateMutatingWebhook`, `validateValidatingWebhook` and
//! `validateAdmissionReviewVersions` (pkg/apis/admissionregistration/validation, v1.35). What
//! these forgive of webhooks that were stored under older rules cannot be here.

use super::{FAILURE_POLICIES, expressions, matching};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, label_selector, one_of, to_value};
use crate::registry::kinds::webhook_address::{ServiceAddress, validate_service, validate_url};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeSet;

const HTTPS_PORT: i32 = 443;
const TIMEOUT_SECONDS: i32 = 10;
const TIMEOUT_SECONDS_MAX: i32 = 30;
/// A name has as many segments, at least.
const NAME_SEGMENTS_MIN: usize = 3;

const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
/// The versions of `AdmissionReview` of which a webhook takes at least one.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];

/// A webhook of either kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Webhook<'a> {
    name: &'a str,
    review_versions: &'a [String],
    client: &'a WebhookClientConfig,
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    /// Only of those that change what they judge.
    reinvocation_policy: Option<&'a str>,
    side_effects: &'a str,
    timeout_seconds: Option<i32>,
    namespaces: Option<&'a LabelSelector>,
    objects: Option<&'a LabelSelector>,
    rules: &'a [RuleWithOperations],
    pub(super) match_conditions: &'a [MatchCondition],
}

impl<'a> From<&'a MutatingWebhook> for Webhook<'a> {
    fn from(hook: &'a MutatingWebhook) -> Self {
        Self {
            name: &hook.name,
            review_versions: &hook.admission_review_versions,
            client: &hook.client_config,
            failure_policy: hook.failure_policy.as_deref(),
            match_policy: hook.match_policy.as_deref(),
            reinvocation_policy: hook.reinvocation_policy.as_deref(),
            side_effects: &hook.side_effects,
            timeout_seconds: hook.timeout_seconds,
            namespaces: hook.namespace_selector.as_ref(),
            objects: hook.object_selector.as_ref(),
            rules: hook.rules.as_deref().unwrap_or_default(),
            match_conditions: hook.match_conditions.as_deref().unwrap_or_default(),
        }
    }
}

impl<'a> From<&'a ValidatingWebhook> for Webhook<'a> {
    fn from(hook: &'a ValidatingWebhook) -> Self {
        Self {
            name: &hook.name,
            review_versions: &hook.admission_review_versions,
            client: &hook.client_config,
            failure_policy: hook.failure_policy.as_deref(),
            match_policy: hook.match_policy.as_deref(),
            reinvocation_policy: None,
            side_effects: &hook.side_effects,
            timeout_seconds: hook.timeout_seconds,
            namespaces: hook.namespace_selector.as_ref(),
            objects: hook.object_selector.as_ref(),
            rules: hook.rules.as_deref().unwrap_or_default(),
            match_conditions: hook.match_conditions.as_deref().unwrap_or_default(),
        }
    }
}

/// The fields of a webhook that have defaults and are of both kinds.
#[derive(Debug)]
pub(super) struct Blanks<'a> {
    pub(super) client: &'a mut WebhookClientConfig,
    pub(super) failure_policy: &'a mut Option<String>,
    pub(super) match_policy: &'a mut Option<String>,
    pub(super) timeout_seconds: &'a mut Option<i32>,
    pub(super) namespaces: &'a mut Option<LabelSelector>,
    pub(super) objects: &'a mut Option<LabelSelector>,
    pub(super) rules: &'a mut Option<Vec<RuleWithOperations>>,
}

impl Blanks<'_> {
    /// Upstream `SetDefaults_MutatingWebhook` and what it has in common with the other.
    pub(super) fn fill(self) {
        self.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        self.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
        self.timeout_seconds.get_or_insert(TIMEOUT_SECONDS);
        self.namespaces.get_or_insert_default();
        self.objects.get_or_insert_default();
        self.rules.iter_mut().flatten().for_each(|rule| matching::default_scope(&mut rule.scope));
        if let Some(service) = &mut self.client.service {
            service.port.get_or_insert(HTTPS_PORT);
        }
    }
}

/// What is wrong with a list of webhooks, which was `old` before. Conditions that stay are not
/// judged anew: what was an expression once is one.
pub(super) fn validate(hooks: &[Webhook<'_>], old: Option<&[Webhook<'_>]>) -> Vec<FieldError> {
    let are_conditions_kept = old.is_some_and(|old| {
        let pairs = || hooks.iter().zip(old);
        hooks.len() == old.len()
            && pairs().all(|(hook, old)| hook.match_conditions == old.match_conditions)
    });
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, hook) in hooks.iter().enumerate() {
        let path = FieldPath::new("webhooks").index(index);
        errors.extend(validate_one(hook, &path));
        if !are_conditions_kept {
            let path = path.child("matchConditions");
            let conditions = hook.match_conditions;
            errors.extend(expressions::validate_match_conditions(conditions, false, &path));
        }
        let versions_path = path.child("admissionReviewVersions");
        errors.extend(validate_review_versions(hook.review_versions, &versions_path));
        if !hook.name.is_empty() && !seen.insert(hook.name) {
            errors.push(FieldError::duplicate(&path.child("name"), hook.name));
        }
    }
    errors
}

fn validate_one(hook: &Webhook<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(validate_name(hook.name, &path.child("name")));
    for (index, rule) in hook.rules.iter().enumerate() {
        errors.extend(matching::validate_rule(rule, &path.child("rules").index(index)));
    }
    let chosen = |field: &str, value: Option<&str>, allowed: &[&str]| {
        value.and_then(|value| one_of(&path.child(field), value, allowed))
    };
    errors.extend(chosen("failurePolicy", hook.failure_policy, FAILURE_POLICIES));
    errors.extend(chosen("matchPolicy", hook.match_policy, matching::MATCH_POLICIES));
    errors.extend(match hook.side_effects {
        "" => {
            let detail = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
            Some(FieldError::required(&path.child("sideEffects"), detail))
        }
        effects => chosen("sideEffects", Some(effects), SIDE_EFFECTS),
    });
    let timeout = hook.timeout_seconds;
    if let Some(seconds) = timeout.filter(|it| !(1..=TIMEOUT_SECONDS_MAX).contains(it)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    for (field, selector) in
        [("namespaceSelector", hook.namespaces), ("objectSelector", hook.objects)]
    {
        errors.extend(selector.iter().flat_map(|it| label_selector(it, &path.child(field))));
    }
    errors.extend(chosen("reinvocationPolicy", hook.reinvocation_policy, REINVOCATION_POLICIES));
    errors.extend(validate_client(hook.client, &path.child("clientConfig")));
    errors
}

/// Upstream `IsFullyQualifiedName`.
fn validate_name(name: &str, path: &FieldPath) -> Option<FieldError> {
    if name.is_empty() {
        return Some(FieldError::required(path, ""));
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        return Some(FieldError::invalid(path, name, problems.join(",")));
    }
    let detail = "should be a domain with at least three segments separated by dots";
    let is_short = name.split('.').count() < NAME_SEGMENTS_MIN;
    is_short.then(|| FieldError::invalid(path, name, detail))
}

fn validate_client(client: &WebhookClientConfig, path: &FieldPath) -> Vec<FieldError> {
    match (&client.url, &client.service) {
        (Some(url), None) => validate_url(url, &path.child("url")),
        (None, Some(service)) => {
            let address = ServiceAddress {
                namespace: &service.namespace,
                name: &service.name,
                path: service.path.as_deref(),
                port: service.port.unwrap_or(HTTPS_PORT),
            };
            validate_service(address, &path.child("service"))
        }
        _ => vec![FieldError::required(path, "exactly one of url or service is required")],
    }
}

fn validate_review_versions(versions: &[String], path: &FieldPath) -> Vec<FieldError> {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return vec![FieldError::required(path, format!("must specify one of {known}"))];
    }
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if !seen.insert(version.as_str()) {
            errors.push(FieldError::invalid(&path, version.as_str(), "duplicate version"));
            continue;
        }
        errors.extend(invalid(&path, version, names::dns1035_label(version)));
    }
    if !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        let detail = format!("must include at least one of {known}");
        errors.push(FieldError::invalid(path, to_value(&versions), detail));
    }
    errors
}
