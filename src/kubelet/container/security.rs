//! Who the processes of a container are and what they may do: the pod's security context under the
//! container's.
//!
//! Upstream `DetermineEffectiveSecurityContext` (pkg/securitycontext/util.go) and
//! `verifyRunAsNonRoot` (pkg/kubelet/kuberuntime/security_context_others.go), v1.35. Pure.

use super::ConfigError;
use crate::kubelet::pod::BoundPod;
use crate::runtime::{DEFAULT_APPARMOR_PROFILE, SecurityConfig};
use k8s_openapi::api::core::v1::{AppArmorProfile, Container, SeccompProfile, SecurityContext};
use std::path::{Component, Path, PathBuf};

/// How this node confines containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The kernel enforces SELinux.
    pub has_selinux: bool,
    /// The kernel enforces AppArmor.
    pub has_apparmor: bool,
    /// Below it are the seccomp profiles that containers name.
    pub seccomp_dir: PathBuf,
}

/// `image_user` is the image's: `1000:1000`, `nginx`, empty.
///
/// # Errors
/// Where the container would run as root and may not, and for what this kubelet does not have.
pub fn security(
    pod: &BoundPod,
    container: &Container,
    image_user: &str,
    node: &Confinement,
) -> Result<SecurityConfig, ConfigError> {
    let none = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&none);
    let of_pod = pod.spec().security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let run_as_non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    if run_as_non_root {
        verify_not_root(pod, container, run_as_user, image_user)?;
    }
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let mut supplemental_groups: Vec<i64> = of_pod.fs_group.into_iter().collect();
    supplemental_groups.extend(of_pod.supplemental_groups.iter().flatten());
    let seccomp = seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), node)?;
    let apparmor = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref());
    Ok(SecurityConfig {
        run_as_user,
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        run_as_non_root,
        supplemental_groups,
        strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        privileged,
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        capabilities_add: named(capabilities.add),
        capabilities_drop: named(capabilities.drop),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
        seccomp_runtime_default: !privileged && seccomp == Seccomp::RuntimeDefault,
        seccomp_profile: match seccomp {
            Seccomp::Localhost(path) if !privileged => Some(path),
            _ => None,
        },
        apparmor_profile: apparmor.and_then(|profile| apparmor_profile(profile, privileged)),
    })
}

/// A node that enforces SELinux would run the container with other labels than it asks for. One that
/// does not takes no notice of them, as with containerd.
///
/// # Errors
/// Where the container asks for labels.
pub fn verify_labels(pod: &BoundPod, container: &Container) -> Result<(), ConfigError> {
    let own = container.security_context.as_ref().and_then(|it| it.se_linux_options.as_ref());
    let of_pod = pod.spec().security_context.as_ref().and_then(|it| it.se_linux_options.as_ref());
    match own.or(of_pod) {
        Some(_) => Err(ConfigError::Unsupported { what: "seLinuxOptions".to_owned() }),
        None => Ok(()),
    }
}

/// Capabilities are named with and without their prefix; the runtime is told them without.
fn named(capabilities: Option<Vec<String>>) -> Vec<String> {
    let names = capabilities.into_iter().flatten();
    names
        .map(|name| {
            let name = name.to_uppercase();
            name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
        })
        .collect()
}

/// Which system calls a container may make.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seccomp {
    Unconfined,
    RuntimeDefault,
    Localhost(PathBuf),
}

/// Upstream `fieldSeccompProfile` (pkg/kubelet/kuberuntime/helpers.go, v1.35).
fn seccomp(profile: Option<&SeccompProfile>, node: &Confinement) -> Result<Seccomp, ConfigError> {
    let Some(profile) = profile else { return Ok(Seccomp::Unconfined) };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().filter(|name| !name.is_empty());
            let name = name.ok_or(ConfigError::NoSeccompProfile)?;
            let stays = Path::new(name).components().all(|it| matches!(it, Component::Normal(_)));
            let what = || format!("seccomp profile {name:?}, which is not below the node's,");
            if !stays {
                return Err(ConfigError::Unsupported { what: what() });
            }
            Ok(Seccomp::Localhost(node.seccomp_dir.join(name)))
        }
        other => Err(ConfigError::Unsupported { what: format!("seccomp profile {other}") }),
    }
}

/// The name by which the kernel knows the profile; `None` for a container that nothing confines, as
/// the default does not one that is privileged (containerd's `generateApparmorSpecOpts`, v2.1).
fn apparmor_profile(profile: &AppArmorProfile, privileged: bool) -> Option<String> {
    match profile.type_.as_str() {
        "RuntimeDefault" if privileged => None,
        "RuntimeDefault" => Some(DEFAULT_APPARMOR_PROFILE.to_owned()),
        "Localhost" => profile.localhost_profile.clone(),
        _ => None,
    }
}

fn verify_not_root(
    pod: &BoundPod,
    container: &Container,
    run_as_user: Option<i64>,
    image_user: &str,
) -> Result<(), ConfigError> {
    let (pod, container) = (pod.to_string(), container.name.clone());
    match run_as_user {
        Some(0) => return Err(ConfigError::RunsAsRoot { pod, container }),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(0) => Err(ConfigError::ImageRunsAsRoot { pod, container }),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(ConfigError::ImageRunsAsRoot { pod, container }),
        Err(_) => Err(ConfigError::ImageUserUnknown { user: user.to_owned(), pod, container }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(of_pod: Value, own: Value) -> BoundPod {
        let object = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u1" },
            "spec": {
                "securityContext": of_pod,
                "containers": [{ "name": "a", "securityContext": own }],
            },
        });
        BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap()
    }

    fn made(of_pod: Value, own: Value, image_user: &str) -> Result<SecurityConfig, ConfigError> {
        let pod = pod(of_pod, own);
        let node = Confinement { seccomp_dir: "/s".into(), ..Confinement::default() };
        security(&pod, &pod.containers()[0], image_user, &node)
    }

    #[test]
    fn the_containers_context_goes_before_the_pods() {
        let of_pod = json!({ "runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 5],
            "seccompProfile": { "type": "RuntimeDefault" } });
        let config = made(of_pod.clone(), json!({}), "").unwrap();
        assert!(!config.strict_groups);
        assert_eq!((config.run_as_user, config.run_as_group), (Some(1), Some(2)));
        assert_eq!(config.supplemental_groups, [3, 4, 5]);
        assert!(config.seccomp_runtime_default && !config.no_new_privileges);
        let own = json!({ "runAsUser": 7, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "seccompProfile": { "type": "Unconfined" },
            "capabilities": { "add": ["CAP_NET_ADMIN", "sys_time"], "drop": ["ALL"] } });
        let config = made(of_pod, own, "").unwrap();
        assert_eq!((config.run_as_user, config.run_as_group), (Some(7), Some(2)));
        assert!(config.no_new_privileges && config.read_only_root);
        assert!(!config.seccomp_runtime_default);
        assert_eq!(config.capabilities_add, ["NET_ADMIN", "SYS_TIME"]);
        assert_eq!(config.capabilities_drop, ["ALL"]);
    }

    #[test]
    fn only_those_who_ask_see_all_of_proc() {
        assert!(made(json!({}), json!({ "procMount": "Unmasked" }), "").unwrap().unmasked_proc);
        assert!(!made(json!({}), json!({ "procMount": "Default" }), "").unwrap().unmasked_proc);
        assert!(made(json!({}), json!({ "privileged": true }), "").unwrap().privileged);
    }

    #[test]
    fn nobody_becomes_root_who_may_not() {
        let non_root = || json!({ "runAsNonRoot": true });
        for (of_pod, own, user, expected) in [
            (non_root(), json!({}), "1000:1000", "ok"),
            (non_root(), json!({ "runAsUser": 5 }), "", "ok"),
            (non_root(), json!({ "runAsNonRoot": false }), "", "ok"),
            (
                non_root(),
                json!({ "runAsUser": 0 }),
                "1",
                "container's runAsUser breaks non-root policy (pod: \"web_shop(u1)\", container: a)",
            ),
            (
                non_root(),
                json!({}),
                "",
                "container has runAsNonRoot and image will run as root (pod: \"web_shop(u1)\", container: a)",
            ),
            (
                non_root(),
                json!({}),
                "0:5",
                "container has runAsNonRoot and image will run as root (pod: \"web_shop(u1)\", container: a)",
            ),
            (
                json!({}),
                json!({ "runAsNonRoot": true }),
                "nginx",
                "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root (pod: \"web_shop(u1)\", container: a)",
            ),
        ] {
            let outcome = made(of_pod, own, user);
            let text = outcome.err().map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn labels_are_the_pods_or_the_containers() {
        let labels = json!({ "seLinuxOptions": { "level": "s0" } });
        for (of_pod, own, refused) in [
            (json!({}), json!({}), false),
            (labels.clone(), json!({}), true),
            (json!({}), labels, true),
        ] {
            let pod = pod(of_pod, own);
            assert_eq!(verify_labels(&pod, &pod.containers()[0]).is_err(), refused);
        }
        let strict = json!({ "supplementalGroupsPolicy": "Strict" });
        assert!(made(strict, json!({}), "").unwrap().strict_groups);
    }

    #[test]
    fn profiles_of_the_node_are_named() {
        let seccomp = |name: &str| json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": name } });
        let config = made(seccomp("audit/a.json"), json!({}), "").unwrap();
        assert_eq!(config.seccomp_profile.as_deref(), Some(Path::new("/s/audit/a.json")));
        assert!(!config.seccomp_runtime_default);
        let privileged = json!({ "privileged": true });
        assert_eq!(made(seccomp("a"), privileged, "").unwrap().seccomp_profile, None);
        for (name, expected) in [
            ("", "localhostProfile must be set if seccompProfile type is Localhost."),
            (
                "../a",
                "seccomp profile \"../a\", which is not below the node's, is not supported by \
                      this kubelet",
            ),
        ] {
            assert_eq!(made(seccomp(name), json!({}), "").unwrap_err().to_string(), expected);
        }
        let apparmor = |kind: &str, name: Value| {
            let profile = json!({ "type": kind, "localhostProfile": name });
            made(json!({ "appArmorProfile": profile }), json!({}), "").unwrap().apparmor_profile
        };
        assert_eq!(apparmor("RuntimeDefault", Value::Null).as_deref(), Some("kinglet-default"));
        assert_eq!(apparmor("Localhost", json!("mine")).as_deref(), Some("mine"));
        assert_eq!(apparmor("Unconfined", Value::Null), None);
    }
}
