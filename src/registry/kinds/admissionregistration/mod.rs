//! The kinds of the `admissionregistration.k8s.io` group: who besides the server itself has a say in
//! what is written.

mod expressions;
mod matching;
mod mutating_webhook_configuration;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;
mod webhooks;

use std::borrow::Cow;

/// The category of what extends the API.
const EXTENSIONS: &[Cow<'static, str>] = &[Cow::Borrowed("api-extensions")];

/// What becomes of a request when it cannot be judged.
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
