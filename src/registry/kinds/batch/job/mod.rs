//! Jobs: pods of one template until so many have succeeded.
//!
//! Follows upstream pkg/registry/batch/job and `ValidateJob` (pkg/apis/batch/validation, v1.35).
//! The fields are checked in [`validate`](mod@validate) and [`policy`], the status in [`status`];
//! here is what a Job is made of, and what of it may change.

mod indexes;
mod policy;
mod status;
mod validate;
mod warnings;

pub(super) use self::validate::validate as validate_spec;
pub(super) use self::warnings::warnings as spec_warnings;
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{immutable, label_selector, to_value};
use crate::registry::kinds::apps::{container_cells, validate_match};
use crate::registry::kinds::core::podspec;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{Affinity, PodTemplateSpec};
use serde_json::Value;
use std::collections::BTreeMap;

const INDEXED: &str = "Indexed";
const NON_INDEXED: &str = "NonIndexed";
const FAILED: &str = "Failed";
const TERMINATING_OR_FAILED: &str = "TerminatingOrFailed";
const BACKOFF_LIMIT: i32 = 6;

const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const LEGACY_JOB_NAME: &str = "job-name";
const LEGACY_CONTROLLER_UID: &str = "controller-uid";

impl Resource for Job {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "job",
        categories: ALL,
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::JOB;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const ORPHANS_DEPENDENTS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Status", "How far the job is."),
        Column::text("Completions", "Pods that have succeeded, of those that have to."),
        Column::text("Duration", "Time from the start of the job to its end, or until now."),
        Column::AGE,
        Column::wide("Containers", "Names of the template's containers."),
        Column::wide("Images", "Images of the template's containers."),
        Column::wide("Selector", "Labels of the pods that count."),
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let per_index = spec.backoff_limit_per_index.is_some();
        spec.backoff_limit.get_or_insert(if per_index { i32::MAX } else { BACKOFF_LIMIT });
        spec.completion_mode.get_or_insert_with(|| NON_INDEXED.to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let fails_for_good = spec.pod_failure_policy.is_some();
        let policy = if fails_for_good { FAILED } else { TERMINATING_OR_FAILED };
        spec.pod_replacement_policy.get_or_insert_with(|| policy.to_owned());
        apply_spec_defaults(spec);
        let of_pods = spec.template.metadata.as_ref().and_then(|own| own.labels.as_ref());
        if self.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) && of_pods.is_some() {
            self.metadata.labels = of_pods.cloned();
        }
        self.status.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.manual_selector != Some(true) {
            let name = self.metadata.name.as_deref().unwrap_or_default();
            let uid = self.metadata.uid.as_deref().unwrap_or_default();
            generate_selector(spec, &identity(name, uid));
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors = validate_spec(&spec, &path);
        errors.extend(validate_selector(&spec, &path));
        errors.extend(validate_host_names(self, &spec));
        errors
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate_generated_selector(self, true)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let was = old.spec.clone().unwrap_or_default();
        let had = |label: &str| {
            let own = was.template.metadata.as_ref().and_then(|own| own.labels.as_ref());
            own.is_some_and(|labels| labels.contains_key(label))
        };
        let is_recent = had(JOB_NAME) && had(CONTROLLER_UID);
        let mut errors = validate_generated_selector(self, is_recent);
        errors.extend(validate_changes(self, old));
        errors
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        status::validate_update(self, old)
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let succeeded = self.status.as_ref().and_then(|status| status.succeeded);
        vec![("status.successful", succeeded.unwrap_or_default().to_string())]
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let metadata = (&self.metadata, old.map(|old| &old.metadata));
        warnings::warnings(metadata, spec, &FieldPath::new("spec"))
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = container_cells(Some(&spec.template));
        let duration = status.start_time.as_ref().map(|start| {
            let end = status.completion_time.as_ref().map_or(now, |end| end.0);
            cells::human_duration(end.duration_since(start.0))
        });
        vec![
            cells::name(&self.metadata),
            progress(self, &status).into(),
            completions(&spec, &status).into(),
            duration.unwrap_or_default().into(),
            cells::age(&self.metadata, now),
            names.into(),
            images.into(),
            cells::selector(spec.selector.as_ref()),
        ]
    }
}

/// What is filled in also where a CronJob holds the spec.
pub(super) fn apply_spec_defaults(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        pattern.status.take_if(|status| status.is_empty());
        pattern.status.get_or_insert_with(|| "True".to_owned());
    }
    podspec::apply_template_defaults(&mut spec.template);
}

/// The labels that no other job's pods have.
fn identity(name: &str, uid: &str) -> [(&'static str, String); 4] {
    [
        (LEGACY_JOB_NAME, name.to_owned()),
        (JOB_NAME, name.to_owned()),
        (LEGACY_CONTROLLER_UID, uid.to_owned()),
        (CONTROLLER_UID, uid.to_owned()),
    ]
}

/// Makes the selector match the pods of this job and no others. What contradicts it is refused
/// later.
fn generate_selector(spec: &mut JobSpec, identity: &[(&'static str, String)]) {
    let template = spec.template.metadata.get_or_insert_default();
    let of_pods = template.labels.get_or_insert_default();
    let selector = spec.selector.get_or_insert_default();
    let selected = selector.match_labels.get_or_insert_default();
    for (label, value) in identity {
        of_pods.entry((*label).to_owned()).or_insert_with(|| value.clone());
        if *label == CONTROLLER_UID {
            selected.entry((*label).to_owned()).or_insert_with(|| value.clone());
        }
    }
}

fn validate_selector(spec: &JobSpec, path: &FieldPath) -> Vec<FieldError> {
    let selector_path = path.child("selector");
    let mut errors = match &spec.selector {
        None => vec![FieldError::required(&selector_path, "")],
        Some(selector) => label_selector(selector, &selector_path),
    };
    if let Ok(selector) = Selector::of_object(spec.selector.as_ref()) {
        errors.extend(validate_match(&selector, &spec.template, &path.child("template")));
    }
    errors
}

/// The last pod of an Indexed Job must have a host name.
fn validate_host_names(job: &Job, spec: &JobSpec) -> Option<FieldError> {
    let completions = spec.completions.filter(|count| *count > 0)?;
    if spec.completion_mode.as_deref() != Some(INDEXED) {
        return None;
    }
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let host = format!("{name}-{}", completions - 1);
    let is_bad = !names::dns1123_label(&host).is_empty();
    let path = FieldPath::new("metadata").child("name");
    let detail = format!("will not able to create pod with invalid DNS label: {host}");
    is_bad.then(|| FieldError::invalid(&path, name, detail))
}

/// Upstream `validateGeneratedSelector`. `is_recent`: whether the labels with a domain must be
/// there too, which older servers did not set.
fn validate_generated_selector(job: &Job, is_recent: bool) -> Vec<FieldError> {
    let spec = job.spec.clone().unwrap_or_default();
    let Some(selector) = spec.selector.as_ref().filter(|_| spec.manual_selector != Some(true))
    else {
        return Vec::new();
    };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if uid.is_empty() {
        errors.push(FieldError::required(&FieldPath::new("metadata").child("uid"), ""));
    }
    let own = spec.template.metadata.unwrap_or_default();
    let labels = own.labels.unwrap_or_default();
    let path = FieldPath::new("spec").child("template").child("metadata").child("labels");
    let mut expected = BTreeMap::new();
    for (label, value) in identity(name, uid) {
        if label.contains('/') && !is_recent {
            continue;
        }
        errors.extend(validate_label(&labels, (label, &value), &path));
        expected.insert(label.to_owned(), value);
    }
    if let Ok(parsed) = Selector::of_object(Some(selector))
        && !parsed.matches(&expected)
    {
        let path = FieldPath::new("spec").child("selector");
        let detail = "`selector` not auto-generated";
        errors.push(FieldError::invalid(&path, to_value(selector), detail));
    }
    errors
}

/// Upstream `ValidateJobSpecUpdate`.
fn validate_changes(job: &Job, old: &Job) -> Vec<FieldError> {
    let (new, was) = (job.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let path = FieldPath::new("spec");
    let mut errors: Vec<_> = validate_completions(&new, &was, &path).into_iter().collect();
    let has_started = old.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let is_movable = was.suspend == Some(true) && !has_started;
    let template = if is_movable { moved(&was.template, &new.template) } else { was.template };
    for (field, new, old) in [
        ("selector", to_value(&new.selector), to_value(&was.selector)),
        ("template", to_value(&new.template), to_value(&template)),
        ("completionMode", to_value(&new.completion_mode), to_value(&was.completion_mode)),
        ("podFailurePolicy", to_value(&new.pod_failure_policy), to_value(&was.pod_failure_policy)),
        (
            "backoffLimitPerIndex",
            to_value(&new.backoff_limit_per_index),
            to_value(&was.backoff_limit_per_index),
        ),
        ("managedBy", to_value(&new.managed_by), to_value(&was.managed_by)),
        ("successPolicy", to_value(&new.success_policy), to_value(&was.success_policy)),
    ] {
        errors.extend(immutable(&path.child(field), new, &old));
    }
    errors
}

/// Upstream `ValidateHasLabel`.
fn validate_label(
    labels: &BTreeMap<String, String>,
    (label, expected): (&str, &str),
    path: &FieldPath,
) -> Option<FieldError> {
    match labels.get(label) {
        None => Some(FieldError::required(&path.key(label), format!("must be '{expected}'"))),
        Some(value) if value != expected => {
            let detail = format!("must be '{expected}'");
            Some(FieldError::invalid(&path.key(label), to_value(labels), detail))
        }
        Some(_) => None,
    }
}

/// An Indexed Job is scaled by both of its numbers at once; others keep theirs.
fn validate_completions(new: &JobSpec, old: &JobSpec, path: &FieldPath) -> Option<FieldError> {
    let completions_path = path.child("completions");
    if new.completion_mode.as_deref() != Some(INDEXED) {
        let (new, old) = (to_value(&new.completions), to_value(&old.completions));
        return immutable(&completions_path, new, &old);
    }
    let completions = new.completions.filter(|_| new.completions != old.completions)?;
    let detail = format!("can only be modified in tandem with {}", path.child("parallelism"));
    (new.completions != new.parallelism)
        .then(|| FieldError::invalid(&completions_path, completions, detail))
}

/// The old template, with what may change before a suspended job starts for the first time: where
/// its pods run.
fn moved(old: &PodTemplateSpec, new: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = old.clone();
    let new_metadata = new.metadata.clone().unwrap_or_default();
    let metadata = template.metadata.get_or_insert_default();
    metadata.annotations = new_metadata.annotations;
    metadata.labels = new_metadata.labels;
    let new_pod = new.spec.clone().unwrap_or_default();
    let pod = template.spec.get_or_insert_default();
    let node_affinity = new_pod.affinity.as_ref().and_then(|own| own.node_affinity.clone());
    match (&new_pod.affinity, &mut pod.affinity) {
        (None, Some(affinity)) => {
            affinity.node_affinity = None;
            pod.affinity.take_if(|affinity| *affinity == Affinity::default());
        }
        (Some(_), affinity) => affinity.get_or_insert_default().node_affinity = node_affinity,
        (None, None) => {}
    }
    pod.node_selector = new_pod.node_selector;
    pod.tolerations = new_pod.tolerations;
    pod.scheduling_gates = new_pod.scheduling_gates;
    template
}

fn progress(job: &Job, status: &JobStatus) -> &'static str {
    let is_true = |kind| status::is_true(status, kind);
    if is_true(status::COMPLETE) {
        "Complete"
    } else if is_true(status::FAILED) {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is_true(status::SUSPENDED) {
        "Suspended"
    } else if is_true(status::FAILURE_TARGET) {
        "FailureTarget"
    } else if is_true(status::SUCCESS_CRITERIA_MET) {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or_default();
    match (spec.completions, spec.parallelism.unwrap_or_default()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

#[cfg(test)]
mod tests;
