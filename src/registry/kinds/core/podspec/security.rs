//! What may be wrong with the security of a pod and its containers.
//!
//! Follows upstream `ValidateSecurityContext` and `validatePodSpecSecurityContext`
//! (pkg/apis/core/validation, v1.35).

use super::paths;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid_number, one_of, repeated, to_value};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

const SYSCTL_BYTES_MAX: usize = 253;
const SYSCTL_REGEX: &str =
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// The longest path there is.
const PROFILE_BYTES_MAX: usize = 4095;

const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

/// The security of one container. `shares_users`: the pod has the host's users.
pub(super) fn validate_container(
    security: &SecurityContext,
    shares_users: bool,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(validate_id(security.run_as_user, names::user_id, &path.child("runAsUser")));
    errors.extend(validate_id(security.run_as_group, names::group_id, &path.child("runAsGroup")));
    if let Some(mount) = security.proc_mount.as_deref() {
        let path = path.child("procMount");
        errors.extend(one_of(&path, mount, &["Default", "Unmasked"]));
        if shares_users && mount == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&path, mount, detail));
        }
    }
    errors.extend(validate_seccomp(security.seccomp_profile.as_ref(), path));
    errors.extend(validate_escalation(security, path));
    errors.extend(validate_app_armor(security.app_armor_profile.as_ref(), path));
    errors
}

fn validate_id(id: Option<i64>, rule: fn(i64) -> Vec<String>, path: &FieldPath) -> Vec<FieldError> {
    id.map(|id| invalid_number(path, id, rule)).unwrap_or_default()
}

/// What has all rights cannot be kept from getting more.
fn validate_escalation(security: &SecurityContext, path: &FieldPath) -> Vec<FieldError> {
    if security.allow_privilege_escalation != Some(false) {
        return Vec::new();
    }
    let added = security.capabilities.as_ref().and_then(|all| all.add.as_deref());
    let is_admin = added.unwrap_or_default().iter().any(|name| name == "CAP_SYS_ADMIN");
    [
        (
            security.privileged == Some(true),
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            is_admin,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        ),
    ]
    .into_iter()
    .filter(|(is_wrong, _)| *is_wrong)
    .map(|(_, detail)| FieldError::invalid(path, to_value(security), detail))
    .collect()
}

fn validate_seccomp(profile: Option<&SeccompProfile>, path: &FieldPath) -> Vec<FieldError> {
    let Some(profile) = profile else {
        return Vec::new();
    };
    let path = path.child("seccompProfile");
    let mut errors = Vec::new();
    let type_path = path.child("type");
    if profile.type_.is_empty() {
        let detail = "type is required when seccompProfile is set";
        errors.push(FieldError::required(&type_path, detail));
    } else {
        errors.extend(one_of(&type_path, &profile.type_, PROFILE_TYPES));
    }
    let local_path = path.child("localhostProfile");
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => {
            let detail = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(&local_path, detail));
        }
        ("Localhost", Some(profile)) => errors.extend(paths::descending(profile, &local_path)),
        (_, None) => {}
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&local_path, to_value(profile), detail));
        }
    }
    errors
}

fn validate_app_armor(profile: Option<&AppArmorProfile>, path: &FieldPath) -> Vec<FieldError> {
    let Some(profile) = profile else {
        return Vec::new();
    };
    let path = path.child("appArmorProfile");
    let (type_path, local_path) = (path.child("type"), path.child("localhostProfile"));
    let local = profile.localhost_profile.as_deref();
    match (profile.type_.as_str(), local) {
        ("Localhost", None | Some("")) => {
            let detail = "must be set when AppArmor type is Localhost";
            vec![FieldError::required(&local_path, detail)]
        }
        ("Localhost", Some(name)) => {
            let detail = "must not be padded with whitespace";
            let is_padded = name.trim() != name;
            let padded = is_padded.then(|| FieldError::invalid(&local_path, name, detail));
            let is_long = name.len() > PROFILE_BYTES_MAX;
            let long = is_long.then(|| FieldError::too_long(&local_path, PROFILE_BYTES_MAX));
            padded.into_iter().chain(long).collect()
        }
        ("RuntimeDefault" | "Unconfined", None) => Vec::new(),
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            vec![FieldError::invalid(&local_path, name, detail)]
        }
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            vec![FieldError::required(&type_path, detail)]
        }
        (other, _) => vec![FieldError::not_supported(&type_path, other, PROFILE_TYPES)],
    }
}

/// The security of the pod as a whole.
pub(super) fn validate_pod(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let Some(security) = &spec.security_context else {
        return Vec::new();
    };
    let mut errors = validate_ids(security, path);
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let path = path.child("shareProcessNamespace");
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path, true, detail));
    }
    let sysctls = security.sysctls.as_deref().unwrap_or_default();
    errors.extend(validate_sysctls(sysctls, spec, &path.child("sysctls")));
    let choices: [(&str, Option<&str>, &[&str]); 1] = [(
        "fsGroupChangePolicy",
        security.fs_group_change_policy.as_deref(),
        &["Always", "OnRootMismatch"],
    )];
    errors.extend(validate_choices(&choices, path));
    errors.extend(validate_seccomp(security.seccomp_profile.as_ref(), path));
    errors.extend(validate_app_armor(security.app_armor_profile.as_ref(), path));
    let choices: [(&str, Option<&str>, &[&str]); 2] = [
        (
            "supplementalGroupsPolicy",
            security.supplemental_groups_policy.as_deref(),
            &["Merge", "Strict"],
        ),
        (
            "seLinuxChangePolicy",
            security.se_linux_change_policy.as_deref(),
            &["MountOption", "Recursive"],
        ),
    ];
    errors.extend(validate_choices(&choices, path));
    errors
}

fn validate_choices(
    choices: &[(&str, Option<&str>, &[&str])],
    path: &FieldPath,
) -> Vec<FieldError> {
    let given = choices.iter().filter_map(|(field, value, known)| Some((field, (*value)?, known)));
    given.filter_map(|(field, value, known)| one_of(&path.child(field), value, known)).collect()
}

fn validate_ids(security: &PodSecurityContext, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_id(security.fs_group, names::group_id, &path.child("fsGroup"));
    errors.extend(validate_id(security.run_as_user, names::user_id, &path.child("runAsUser")));
    errors.extend(validate_id(security.run_as_group, names::group_id, &path.child("runAsGroup")));
    let path = path.child("supplementalGroups");
    for (index, group) in security.supplemental_groups.iter().flatten().enumerate() {
        errors.extend(invalid_number(&path.index(index), *group, names::group_id));
    }
    errors
}

fn validate_sysctls(sysctls: &[Sysctl], spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let is_repeated = repeated(sysctls.iter().map(|sysctl| &sysctl.name));
    for (index, sysctl) in sysctls.iter().enumerate() {
        let path = path.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {SYSCTL_BYTES_MAX} characters and match regex {SYSCTL_REGEX}"
            );
            errors.push(FieldError::invalid(&path, name, detail));
        } else if is_repeated[index] {
            errors.push(FieldError::duplicate(&path, name));
        }
        let shared = match namespace_of(name) {
            Some("net") if spec.host_network == Some(true) => Some("hostNetwork"),
            Some("ipc") if spec.host_ipc == Some(true) => Some("hostIPC"),
            _ => None,
        };
        if let Some(field) = shared {
            let detail = format!("may not be specified when '{field}' is true");
            errors.push(FieldError::invalid(&path, name, detail));
        }
    }
    errors
}

fn is_sysctl(name: &str) -> bool {
    let is_outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes.first().is_some_and(|byte| is_outer(*byte))
            && bytes.last().is_some_and(|byte| is_outer(*byte))
            && bytes.iter().all(|byte| is_outer(*byte) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= SYSCTL_BYTES_MAX && name.split(['.', '/']).all(is_segment)
}

/// Which namespace a kernel setting belongs to (upstream `sysctl.GetNamespace`,
/// component-helpers/node/util/sysctl).
fn namespace_of(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    let is_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p));
    if is_ipc || name == "kernel.sem" {
        return Some("ipc");
    }
    name.starts_with("net.").then_some("net")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(security: Value, expected: &[&str]) {
        let security = serde_json::from_value(security).unwrap();
        compare(validate_container(&security, true, &FieldPath::new("s")), expected);
    }

    #[track_caller]
    fn check_pod(spec: Value, expected: &[&str]) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let spec = serde_json::from_value(spec).unwrap();
        compare(validate_pod(&spec, &FieldPath::new("s")), expected);
    }

    #[test]
    fn ids_and_rights() {
        check(json!({"runAsUser": 0, "privileged": true}), &[]);
        check(
            json!({"runAsUser": -1, "runAsGroup": 4_294_967_296_i64, "procMount": "Unmasked"}),
            &[
                "s.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "s.runAsGroup: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive",
                "s.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
            ],
        );
        check(
            json!({"allowPrivilegeEscalation": false, "privileged": true, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
            &[
                "s: Invalid value: {\"allowPrivilegeEscalation\":false",
                "s: Invalid value: {\"allowPrivilegeEscalation\":false",
            ],
        );
    }

    #[test]
    fn profiles() {
        check(
            json!({"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}),
            &[],
        );
        check(
            json!({"seccompProfile": {"type": ""}, "appArmorProfile": {"type": ""}}),
            &[
                "s.seccompProfile.type: Required value: type is required when seccompProfile is set",
                "s.appArmorProfile.type: Required value: type is required when appArmorProfile is set",
            ],
        );
        check(
            json!({"seccompProfile": {"type": "Localhost"}, "appArmorProfile": {"type": "Localhost", "localhostProfile": " p"}}),
            &[
                "s.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                "s.appArmorProfile.localhostProfile: Invalid value: \" p\": must not be padded with whitespace",
            ],
        );
        check(
            json!({"seccompProfile": {"type": "Other", "localhostProfile": "x"}, "appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}}),
            &[
                "s.seccompProfile.type: Unsupported value: \"Other\"",
                "s.seccompProfile.localhostProfile: Invalid value: {",
                "s.appArmorProfile.localhostProfile: Invalid value: \"x\": can only be set when AppArmor type is Localhost",
            ],
        );
    }

    #[test]
    fn the_pod_as_a_whole() {
        check_pod(
            json!({"securityContext": {"fsGroup": 1, "sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}),
            &[],
        );
        check_pod(
            json!({"hostPID": true, "shareProcessNamespace": true, "securityContext": {
                "supplementalGroups": [1, -1], "fsGroupChangePolicy": "Never", "supplementalGroupsPolicy": "x",
                "seLinuxChangePolicy": "y",
            }}),
            &[
                "s.supplementalGroups[1]: Invalid value: -1",
                "s.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
                "s.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"",
                "s.supplementalGroupsPolicy: Unsupported value: \"x\": supported values: \"Merge\", \"Strict\"",
                "s.seLinuxChangePolicy: Unsupported value: \"y\": supported values: \"MountOption\", \"Recursive\"",
            ],
        );
        check_pod(
            json!({"hostNetwork": true, "hostIPC": true, "securityContext": {"sysctls": [
                {"name": "", "value": ""}, {"name": "A", "value": ""}, {"name": "kernel.sem", "value": ""},
                {"name": "kernel.sem", "value": ""}, {"name": "net/ipv4/ip_forward", "value": ""},
            ]}}),
            &[
                "s.sysctls[0].name: Required value",
                "s.sysctls[1].name: Invalid value: \"A\": must have at most 253 characters and match regex",
                "s.sysctls[2].name: Invalid value: \"kernel.sem\": may not be specified when 'hostIPC' is true",
                "s.sysctls[3].name: Duplicate value: \"kernel.sem\"",
                "s.sysctls[3].name: Invalid value: \"kernel.sem\": may not be specified when 'hostIPC' is true",
                "s.sysctls[4].name: Invalid value: \"net/ipv4/ip_forward\": may not be specified when 'hostNetwork' is true",
            ],
        );
    }
}
