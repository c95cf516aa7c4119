//! APIServices: who serves which version of which group.
//!
//! Follows upstream pkg/registry/apiservice and `ValidateAPIService` (kube-aggregator, v1.35). What
//! this server serves itself is `Local`. Requests for others are not passed on, and the condition of
//! such an object says so.

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, one_of, present};
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceCondition, APIServiceSpec, ServiceReference,
};
use serde_json::Value;
use std::borrow::Cow;

const HTTPS_PORT: i32 = 443;
const GROUP_PRIORITY_MAX: i32 = 20_000;
const VERSION_PRIORITY_MAX: i32 = 1_000;
const AVAILABLE: &str = "Available";

/// What is asked of the name needs the specification: see [`validate_name`].
const ANY_NAME: names::Rule = |_| Vec::new();

impl Resource for APIService {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "apiservice",
        categories: &[Cow::Borrowed("api-extensions")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::CLUSTER
    });
    const SCHEMA: TypeRef = types::API_SERVICE;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Service", "Who serves it: this server, or a Service."),
        Column::text("Available", "Whether it is served."),
        Column::AGE,
    ];
    const NAME_RULE: names::Rule = ANY_NAME;
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn resets(subresource: &str) -> Resets {
        Resets::of_bare_status(subresource)
    }

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(service) = &mut spec.service {
            service.port.get_or_insert(HTTPS_PORT);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        let born = self.metadata.creation_timestamp.clone();
        tell_availability(self, born);
    }

    fn prepare_update(&mut self, old: &Self) {
        if is_local(self) != is_local(old) {
            tell_availability(self, None);
        }
    }

    fn prepare_status_update(&mut self, old: &Self) {
        let (new, old) = (&mut self.metadata, &old.metadata);
        new.labels.clone_from(&old.labels);
        new.annotations.clone_from(&old.annotations);
        new.finalizers.clone_from(&old.finalizers);
        new.owner_references.clone_from(&old.owner_references);
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let mut errors = validate_name(self, &spec);
        errors.extend(validate_spec(&spec, &FieldPath::new("spec")));
        errors
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("status").child("conditions");
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let each = conditions.enumerate();
        each.filter_map(|(index, condition)| {
            let path = path.index(index).child("status");
            one_of(&path, &condition.status, &["False", "True", "Unknown"])
        })
        .collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let service = self.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let service = service.map(|ServiceReference { namespace, name, .. }| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{}", text(namespace), text(name))
        });
        vec![
            cells::name(&self.metadata),
            service.unwrap_or_else(|| "Local".to_owned()).into(),
            availability(self).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

/// Says whether requests for it are answered, since when it is so.
fn tell_availability(service: &mut APIService, since: Option<Time>) {
    let (status, reason, message) = if is_local(service) {
        ("True", "Local", "Local APIServices are always available")
    } else {
        ("False", "NotAggregated", "requests are not passed on to aggregated API servers")
    };
    let condition = APIServiceCondition {
        type_: AVAILABLE.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since,
    };
    let conditions = &mut service.status.get_or_insert_default().conditions;
    let conditions = conditions.get_or_insert_default();
    conditions.retain(|other| other.type_ != AVAILABLE);
    conditions.push(condition);
}

fn is_local(service: &APIService) -> bool {
    service.spec.as_ref().is_none_or(|spec| spec.service.is_none())
}

fn availability(service: &APIService) -> String {
    let mut conditions =
        service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let Some(condition) = conditions.find(|condition| condition.type_ == AVAILABLE) else {
        return "Unknown".to_owned();
    };
    let status = &condition.status;
    match condition.reason.as_deref().unwrap_or_default() {
        reason if status != "True" && !reason.is_empty() => format!("{status} ({reason})"),
        _ => status.clone(),
    }
}

/// `v1.apps`, of version and group.
fn validate_name(service: &APIService, spec: &APIServiceSpec) -> Vec<FieldError> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let expected = format!("{}.{}", text(&spec.version), text(&spec.group));
    let path = FieldPath::new("metadata").child("name");
    let problems = names::path_segment(name);
    if name.is_empty() || name == expected || !problems.is_empty() {
        return invalid(&path, name, problems);
    }
    let detail = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
    vec![FieldError::invalid(&path, name, detail)]
}

fn validate_spec(spec: &APIServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let (group, version) =
        (spec.group.as_deref().unwrap_or_default(), spec.version.as_deref().unwrap_or_default());
    let group_path = path.child("group");
    let mut errors = Vec::new();
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(&group_path, detail));
    }
    if !group.is_empty() {
        errors.extend(invalid(&group_path, group, names::dns1123_subdomain(group)));
    }
    errors.extend(invalid(&path.child("version"), version, names::dns1035_label(version)));
    for (field, value, max) in [
        ("groupPriorityMinimum", spec.group_priority_minimum, GROUP_PRIORITY_MAX),
        ("versionPriority", spec.version_priority, VERSION_PRIORITY_MAX),
    ] {
        if !(1..=max).contains(&value) {
            let detail = format!("must be positive and less than {max}");
            errors.push(FieldError::invalid(&path.child(field), value, detail));
        }
    }
    let bundle_bytes = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let is_insecure = spec.insecure_skip_tls_verify == Some(true);
    let (bundle_path, insecure_path) =
        (path.child("caBundle"), path.child("insecureSkipTLSVerify"));
    let Some(service) = &spec.service else {
        if bundle_bytes > 0 {
            let (value, detail) =
                (format!("{bundle_bytes} bytes"), "local APIServices may not have a caBundle");
            errors.push(FieldError::invalid(&bundle_path, value, detail));
        }
        if is_insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&insecure_path, true, detail));
        }
        return errors;
    };
    errors.extend(validate_service(service, &path.child("service")));
    if is_insecure && bundle_bytes > 0 {
        let detail = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(&insecure_path, true, detail));
    }
    errors
}

fn validate_service(service: &ServiceReference, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(present(&path.child("namespace"), service.namespace.as_deref()));
    errors.extend(present(&path.child("name"), service.name.as_deref()));
    let port = service.port.unwrap_or_default();
    let problems = names::port_number(i64::from(port));
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    errors
}

/// Where a group is among others, and a version among those of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    pub group: i32,
    pub version: i32,
}

/// The priorities of what is built in (upstream `apiVersionPriorities`, cmd/kube-apiserver/app, and
/// `DefaultGenericAPIServicePriorities`, pkg/controlplane/apiserver, v1.35). Others come last, as
/// upstream's advice for new ones is, and those of custom resources have [`Priority::CUSTOM`].
#[must_use]
pub fn priority(group: &str, version: &str) -> Priority {
    let group_priority = match group {
        "" => 18_000,
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" | "resource.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        _ => return Priority::CUSTOM,
    };
    let version_priority = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("resource.k8s.io" | "flowcontrol.apiserver.k8s.io", "v1") => 21,
        _ => 15,
    };
    Priority { group: group_priority, version: version_priority }
}

impl Priority {
    /// Of groups that are not built in (upstream `crdRegistrationController`).
    pub const CUSTOM: Self = Self { group: 1_000, version: 100 };
}

#[cfg(test)]
mod tests {
    use super::{Priority, priority};
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::{Value, json};

    fn service(spec: Value) -> Case {
        let object = json!({
            "metadata": {"name": "v1.a.io", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "group": "a.io", "version": "v1", "groupPriorityMinimum": 100,
                "versionPriority": 10,
            },
        });
        Case::of("apiservices", object).with(json!({"spec": spec}))
    }

    #[test]
    fn the_name_is_of_version_and_group() {
        check(&service(json!({})), &[]);
        check(
            &service(json!({"version": "v2"})),
            &[
                "metadata.name: Invalid value: \"v1.a.io\": must be `spec.version+\".\"+spec.group`: \"v2.a.io\"",
            ],
        );
        let core = service(json!({"group": null})).with(json!({"metadata": {"name": "v1."}}));
        check(&core, &[]);
        let none = service(json!({"group": "", "version": ""}));
        check(
            &none.with(json!({"metadata": {"name": "a/b"}})),
            &[
                "metadata.name: Invalid value: \"a/b\": may not contain '/'",
                "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
                "spec.version: Invalid value: \"\": a DNS-1035 label",
            ],
        );
    }

    #[test]
    fn who_serves_is_reached_safely() {
        check(
            &service(json!({"groupPriorityMinimum": 20_001, "versionPriority": 0,
                "caBundle": "YWI=", "insecureSkipTLSVerify": true})),
            &[
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
                "spec.caBundle: Invalid value: \"2 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ],
        );
        check(
            &service(json!({"service": {"port": 0}, "caBundle": "YWI=",
                "insecureSkipTLSVerify": true})),
            &[
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ],
        );
    }

    #[test]
    fn what_is_served_here_is_available_and_nothing_else() {
        let row = |case: &Case| case.created().row("2026-01-01T00:00:00Z".parse().unwrap());
        let (local, remote) =
            (service(json!({})), service(json!({"service": {"namespace": "n", "name": "s"}})));
        assert_eq!(row(&local)[1..3], [json!("Local"), json!("True")]);
        assert_eq!(row(&remote)[1..3], [json!("n/s"), json!("False (NotAggregated)")]);
        let object = local.created().to_value();
        let condition = &object["status"]["conditions"][0];
        assert_eq!(condition["reason"], "Local");
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:00Z");
        check_update(&local, &remote, &[]);
        let mut moved = remote.decode();
        moved.prepare_update(&*local.created());
        assert_eq!(moved.to_value()["status"]["conditions"][0]["status"], "False");
        assert_eq!(moved.to_value()["status"]["conditions"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn conditions_are_true_or_not() {
        let old = service(json!({}));
        let status = json!({"conditions": [{"type": "Available", "status": "Yes"}]});
        check_status_update(
            &old,
            &old.with(json!({"status": status})),
            &[
                "status.conditions[0].status: Unsupported value: \"Yes\": supported values: \"False\", \"True\", \"Unknown\"",
            ],
        );
    }

    #[test]
    fn groups_have_their_places() {
        assert_eq!(priority("", "v1"), Priority { group: 18_000, version: 1 });
        assert_eq!(priority("autoscaling", "v2"), Priority { group: 17_500, version: 30 });
        assert_eq!(priority("autoscaling", "v1"), Priority { group: 17_500, version: 15 });
        assert_eq!(priority("example.com", "v1"), Priority::CUSTOM);
    }
}
