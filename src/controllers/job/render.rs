//! The pods that a Job makes of its template.

use super::look::{
    COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, Look, TRACKING_FINALIZER,
    annotated_count,
};
use crate::controllers::pod_template::pod_of;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec,
};
use std::collections::BTreeMap;

/// Where the containers of an Indexed Job's pod find their index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Names that the API server completes are at most this long before it does, in bytes: upstream's
/// `MaxGeneratedNameLength`.
const NAME_PREFIX_BYTES_MAX: usize = 58;

/// A pod, of this index where the Job has indexes: upstream `manageJob`
/// (pkg/controller/job/job_controller.go, v1.35).
pub(super) fn render_pod(look: &Look<'_>, index: Option<i32>) -> Pod {
    let mut pod = pod_of(Some(&look.spec.template), look.job);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING_FINALIZER) {
        finalizers.push(TRACKING_FINALIZER.to_owned());
    }
    if let Some(index) = index {
        give_index(&mut pod, look, index);
    }
    pod
}

fn give_index(pod: &mut Pod, look: &Look<'_>, index: i32) {
    let job_name = look.job.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(name_prefix(job_name, index));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(COMPLETION_INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(COMPLETION_INDEX.to_owned(), index.to_string());
    if look.has_limit_per_index() {
        annotate_failures(annotations, look, index);
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job_name}-{index}"));
    give_variable(spec);
}

/// Upstream `podGenerateNameWithIndex`.
fn name_prefix(job_name: &str, index: i32) -> String {
    let end = format!("-{index}-");
    let longest = NAME_PREFIX_BYTES_MAX - end.len();
    // Names of objects are ASCII.
    format!("{}{end}", job_name.get(..longest).unwrap_or(job_name))
}

/// What the pod inherits from the failed one that it replaces: upstream `getNewIndexFailureCounts`.
fn annotate_failures(annotations: &mut BTreeMap<String, String>, look: &Look<'_>, index: i32) {
    let (mut failures, mut ignored) = (0, 0);
    if let Some(failed) = look.awaiting_replacement.get(&index) {
        failures = annotated_count(failed, INDEX_FAILURES);
        ignored = annotated_count(failed, INDEX_IGNORED_FAILURES);
        let one_more =
            if look.failure_action(failed).counts() { &mut failures } else { &mut ignored };
        *one_more = one_more.saturating_add(1);
    }
    annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
    if ignored > 0 {
        annotations.insert(INDEX_IGNORED_FAILURES.to_owned(), ignored.to_string());
    }
}

fn give_variable(spec: &mut PodSpec) {
    let inits = spec.init_containers.iter_mut().flatten();
    inits.chain(&mut spec.containers).for_each(give_container_variable);
}

fn give_container_variable(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector {
        field_path: format!("metadata.labels['{COMPLETION_INDEX}']"),
        ..ObjectFieldSelector::default()
    };
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    });
}
