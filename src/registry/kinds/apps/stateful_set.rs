//! StatefulSets: numbered pods of one template, each with claims of its own.
//!
//! Follows upstream pkg/registry/apps/statefulset and `ValidateStatefulSet`
//! (pkg/apis/apps/validation, v1.35).

use super::super::core::claim_spec;
use super::share::{number, validate_share, validate_whole};
use super::validate_replica_counts;
use super::{
    container_cells, is_empty, podspec, validate_collisions, validate_match, validate_runs_forever,
};
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, label_selector, not_negative, one_of, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy as RetentionPolicy, StatefulSetSpec,
    StatefulSetStatus, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

const ROLLING_UPDATE: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";
const ORDERED_READY: &str = "OrderedReady";
const PARALLEL: &str = "Parallel";
const DELETE: &str = "Delete";
const RETAIN: &str = "Retain";
const REVISION_HISTORY_LIMIT: i32 = 10;
const FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

impl Resource for StatefulSet {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "statefulset",
        short_names: &[Cow::Borrowed("sts")],
        categories: ALL,
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::STATEFUL_SET;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Ready", "Pods that are ready, of those wanted."),
        Column::AGE,
        Column::wide("Containers", "Names of the template's containers."),
        Column::wide("Images", "Images of the template's containers."),
    ];
    const NAME_RULE: names::Rule = names::dns1123_label;

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_management_policy.take_if(|policy| policy.is_empty());
        spec.pod_management_policy.get_or_insert_with(|| ORDERED_READY.to_owned());
        default_strategy(spec.update_strategy.get_or_insert_default());
        default_retention(spec.persistent_volume_claim_retention_policy.get_or_insert_default());
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(REVISION_HISTORY_LIMIT);
        spec.min_ready_seconds.take_if(|seconds| *seconds == 0);
        spec.service_name.get_or_insert_default();
        spec.volume_claim_templates.iter_mut().flatten().for_each(default_claim);
        podspec::apply_template_defaults(&mut spec.template);
        self.status.get_or_insert_default().available_replicas.get_or_insert(0);
    }

    fn prepare_create(&mut self) {
        let available_replicas = Some(0);
        self.status = Some(StatefulSetStatus { available_replicas, ..Default::default() });
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors = validate_policies(&spec, &path);
        errors.extend(not_negative(&path.child("replicas"), spec.replicas));
        errors.extend(not_negative(&path.child("minReadySeconds"), spec.min_ready_seconds));
        let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
        errors.extend(not_negative(&path.child("ordinals").child("start"), start));
        errors.extend(validate_selector(&spec, &path.child("selector")));
        errors.extend(validate_template(&spec, &path.child("template")));
        errors
    }

    /// What stays as it is may have been made when the rules were others.
    fn validate_create(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors = Vec::new();
        for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
            let path = path.child("volumeClaimTemplates").index(index).child("spec");
            errors.extend(claim_spec::validate(&claim.spec.clone().unwrap_or_default(), &path));
        }
        let service = spec.service_name.as_deref().filter(|name| !name.is_empty());
        errors.extend(service.into_iter().flat_map(|name| {
            invalid(&path.child("serviceName"), name, names::dns1123_label(name))
        }));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let (fixed, before) = (fixed_part(self), fixed_part(old));
        let path = FieldPath::new("spec");
        (fixed != before).then(|| FieldError::forbidden(&path, FIXED)).into_iter().collect()
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = self.status.as_ref().map(validate_status).unwrap_or_default();
        let collisions = |set: &Self| set.status.as_ref().and_then(|status| status.collision_count);
        errors.extend(validate_collisions(collisions(self), collisions(old)));
        errors
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let path = FieldPath::new("spec");
        let Some(spec) = &self.spec else { return Vec::new() };
        let metadata = (&self.metadata, old.map(|old| &old.metadata));
        let template = Some(&spec.template);
        let mut warnings = podspec::workload_warnings(metadata, template, &path.child("template"));
        for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
            let path = path.child("volumeClaimTemplates").index(index);
            warnings.extend(claim.spec.iter().flat_map(|spec| claim_spec::warnings(spec, &path)));
        }
        if spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            warnings.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a \
                 value >= 0 is recommended"
                    .to_owned(),
            );
        }
        warnings
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let ready = self.status.as_ref().and_then(|status| status.ready_replicas);
        let (names, images) = container_cells(Some(&spec.template));
        vec![
            cells::name(&self.metadata),
            format!("{}/{}", ready.unwrap_or_default(), spec.replicas.unwrap_or_default()).into(),
            cells::age(&self.metadata, now),
            names.into(),
            images.into(),
        ]
    }
}

/// How pods are replaced. Settings of a rolling update are filled in only where there are some, or
/// where nothing at all was said.
fn default_strategy(strategy: &mut StatefulSetUpdateStrategy) {
    strategy.type_.take_if(|kind| kind.is_empty());
    if strategy.type_.is_none() {
        strategy.type_ = Some(ROLLING_UPDATE.to_owned());
        strategy.rolling_update.get_or_insert_default();
    }
    if strategy.type_.as_deref() == Some(ROLLING_UPDATE)
        && let Some(rolling) = &mut strategy.rolling_update
    {
        rolling.partition.get_or_insert(0);
        rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
    }
}

fn default_retention(policy: &mut RetentionPolicy) {
    for field in [&mut policy.when_deleted, &mut policy.when_scaled] {
        field.take_if(|value| value.is_empty());
        field.get_or_insert_with(|| RETAIN.to_owned());
    }
}

/// Upstream fills in a template as if it were a claim that nothing is bound to yet.
fn default_claim(claim: &mut PersistentVolumeClaim) {
    let phase = &mut claim.status.get_or_insert_default().phase;
    phase.take_if(|phase| phase.is_empty());
    phase.get_or_insert_with(|| "Pending".to_owned());
    claim_spec::apply_defaults(claim.spec.get_or_insert_default());
}

fn validate_policies(spec: &StatefulSetSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let management = spec.pod_management_policy.as_deref().unwrap_or_default();
    if ![ORDERED_READY, PARALLEL].contains(&management) {
        let path = path.child("podManagementPolicy");
        let detail = format!("must be '{ORDERED_READY}' or '{PARALLEL}'");
        errors.push(FieldError::invalid(&path, management, detail));
    }
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    errors.extend(validate_strategy(&strategy, &path.child("updateStrategy")));
    let retention = spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
    let path = path.child("persistentVolumeClaimRetentionPolicy");
    for (field, policy) in
        [("whenDeleted", &retention.when_deleted), ("whenScaled", &retention.when_scaled)]
    {
        let policy = policy.as_deref().unwrap_or_default();
        errors.extend(one_of(&path.child(field), policy, &[DELETE, RETAIN]));
    }
    errors
}

fn validate_strategy(strategy: &StatefulSetUpdateStrategy, path: &FieldPath) -> Vec<FieldError> {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        (ON_DELETE | ROLLING_UPDATE, None) => Vec::new(),
        (ON_DELETE, Some(rolling)) => {
            let detail = format!("only allowed for updateStrategy '{ROLLING_UPDATE}'");
            vec![FieldError::invalid(&rolling_path, to_value(rolling), detail)]
        }
        (ROLLING_UPDATE, Some(rolling)) => validate_rolling_update(rolling, &rolling_path),
        _ => {
            let detail = format!("must be '{ROLLING_UPDATE}' or '{ON_DELETE}'");
            vec![FieldError::invalid(path, to_value(strategy), detail)]
        }
    }
}

fn validate_rolling_update(
    rolling: &RollingUpdateStatefulSetStrategy,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        not_negative(&path.child("partition"), rolling.partition).into_iter().collect();
    let Some(unavailable) = &rolling.max_unavailable else {
        return errors;
    };
    let path = path.child("maxUnavailable");
    errors.extend(validate_share(unavailable, &path));
    if number(unavailable) == 0 {
        errors.push(FieldError::invalid(&path, to_value(unavailable), "cannot be 0"));
    }
    errors.extend(validate_whole(unavailable, &path));
    errors
}

fn validate_selector(spec: &StatefulSetSpec, path: &FieldPath) -> Vec<FieldError> {
    let selector = &spec.selector;
    let mut errors = label_selector(selector, path);
    if is_empty(selector) {
        let detail = "empty selector is invalid for statefulset";
        errors.push(FieldError::invalid(path, to_value(selector), detail));
    }
    errors
}

/// Checks the template as its pods will be: the controller gives them their names, and adds the
/// volumes of their claims in place of those of the same name.
fn validate_template(spec: &StatefulSetSpec, path: &FieldPath) -> Vec<FieldError> {
    let Ok(selector) = Selector::of_object(Some(&spec.selector)) else {
        // What is wrong with it has been said.
        return Vec::new();
    };
    let template = as_run(spec);
    let mut errors: Vec<_> = validate_match(&selector, &template, path).into_iter().collect();
    errors.extend(podspec::validate_template(&template, path));
    errors.extend(validate_runs_forever("StatefulSet", &template, &path.child("spec")));
    errors
}

fn as_run(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let pod = template.spec.get_or_insert_default();
    pod.subdomain = None;
    pod.hostname = None;
    let claims: Vec<_> = spec
        .volume_claim_templates
        .iter()
        .flatten()
        .map(|claim| claim.metadata.name.clone().unwrap_or_default())
        .collect();
    if claims.is_empty() {
        return template;
    }
    let own = pod.volumes.take().unwrap_or_default();
    let mut seen = BTreeSet::new();
    let first = claims.iter().filter(|name| seen.insert(*name));
    let mut volumes: Vec<_> = first.map(|name| volume_of_claim(name)).collect();
    volumes.extend(own.into_iter().filter(|volume| !seen.contains(&volume.name)));
    pod.volumes = Some(volumes);
    template
}

fn volume_of_claim(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: name.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

/// The spec without what may change.
fn fixed_part(set: &StatefulSet) -> StatefulSetSpec {
    StatefulSetSpec {
        replicas: None,
        ordinals: None,
        template: PodTemplateSpec::default(),
        update_strategy: None,
        revision_history_limit: None,
        persistent_volume_claim_retention_policy: None,
        min_ready_seconds: None,
        ..set.spec.clone().unwrap_or_default()
    }
}

fn validate_status(status: &StatefulSetStatus) -> Vec<FieldError> {
    validate_replica_counts(
        &[
            ("replicas", Some(status.replicas.into())),
            ("readyReplicas", status.ready_replicas.map(i64::from)),
            ("currentReplicas", status.current_replicas.map(i64::from)),
            ("updatedReplicas", status.updated_replicas.map(i64::from)),
            ("availableReplicas", status.available_replicas.map(i64::from)),
            ("observedGeneration", status.observed_generation),
            ("collisionCount", status.collision_count.map(i64::from)),
        ],
        &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        "cannot be greater than status.readyReplicas",
    )
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::{Value, json};

    fn stateful_set() -> Case {
        Case::of(
            "statefulsets",
            json!({
                "metadata": {"name": "db", "namespace": "default"},
                "spec": {
                    "serviceName": "db",
                    "selector": {"matchLabels": {"app": "db"}},
                    "template": {
                        "metadata": {"labels": {"app": "db"}},
                        "spec": {"containers": [{
                            "name": "c", "image": "i",
                            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        }]},
                    },
                    "volumeClaimTemplates": [{
                        "metadata": {"name": "data"},
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                        },
                    }],
                },
            }),
        )
    }

    fn with_spec(spec: Value) -> Case {
        stateful_set().with(json!({"spec": spec}))
    }

    #[test]
    fn defaults_are_upstreams() {
        let spec = stateful_set().created().to_value()["spec"].clone();
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "partition": 0}})
        );
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        let claim = &spec["volumeClaimTemplates"][0];
        assert_eq!(claim["kind"], "PersistentVolumeClaim");
        assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
        assert_eq!(claim["status"]["phase"], "Pending");
        let strategy = json!({"updateStrategy": {"type": "RollingUpdate"}});
        let spec = with_spec(strategy).created().to_value()["spec"].clone();
        assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate"}));
    }

    #[test]
    fn claims_are_volumes_of_the_template() {
        check(&stateful_set(), &[]);
        check(
            &with_spec(json!({"volumeClaimTemplates": null})),
            &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
        );
        check(
            &with_spec(
                json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}),
            ),
            &[
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
                "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
            ],
        );
    }

    #[test]
    fn policies() {
        check(
            &with_spec(json!({
                "podManagementPolicy": "Random",
                "updateStrategy": {"type": "Recreate"},
                "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"},
                "serviceName": "A.b",
                "ordinals": {"start": -1},
                "replicas": -1,
            })),
            &[
                "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
                "spec.updateStrategy: Invalid value: {\"type\":\"Recreate\"}: must be 'RollingUpdate' or 'OnDelete'",
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
                "spec.replicas: Invalid value: -1",
                "spec.ordinals.start: Invalid value: -1",
                "spec.serviceName: Invalid value: \"A.b\": a lowercase RFC 1123 label",
            ],
        );
        let rolling = json!({"partition": -1, "maxUnavailable": "0%"});
        check(
            &with_spec(json!({"updateStrategy": {"rollingUpdate": rolling}})),
            &[
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1",
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": cannot be 0",
            ],
        );
        check(
            &with_spec(
                json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
            ),
            &[
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
            ],
        );
    }

    #[test]
    fn names_become_those_of_pods() {
        let case = stateful_set().with(json!({"metadata": {"name": "a.b"}}));
        check(&case, &["metadata.name: Invalid value: \"a.b\": must not contain dots"]);
    }

    #[test]
    fn the_selector_matches_the_template() {
        check(
            &with_spec(json!({"selector": {"matchLabels": null}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
        );
        check(
            &with_spec(json!({"template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1},
            }})),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
            ],
        );
    }

    #[test]
    fn little_of_the_spec_may_change() {
        let may = json!({
            "replicas": 3, "ordinals": {"start": 1}, "minReadySeconds": 1,
            "revisionHistoryLimit": 2, "updateStrategy": {"type": "OnDelete"},
            "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"},
            "template": {"spec": {"terminationGracePeriodSeconds": 5}},
        });
        check_update(&stateful_set(), &with_spec(may), &[]);
        for spec in [
            json!({"serviceName": "other"}),
            json!({"podManagementPolicy": "Parallel"}),
            json!({"volumeClaimTemplates": [
                {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteMany"]}},
            ]}),
        ] {
            let expected = "spec: Forbidden: updates to statefulset spec for fields other than";
            check_update(&stateful_set(), &with_spec(spec), &[expected]);
        }
    }

    #[test]
    fn counts_in_the_status_agree() {
        let old = stateful_set().with(json!({"status": {"replicas": 1, "collisionCount": 1}}));
        check_status_update(
            &old,
            &old.with(json!({"status": {
                "collisionCount": 0, "readyReplicas": 2, "currentReplicas": 2,
                "updatedReplicas": 2, "availableReplicas": 3,
            }})),
            &[
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ],
        );
    }
}
