//! Which capabilities a container's first process has.

use super::super::{RuntimeError, SecurityConfig};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// All capabilities by their number in the kernel (capabilities(7)).
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What containers have unless their pod says otherwise.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// A pod's word for every capability.
const ALL: &str = "ALL";

/// The capabilities of a bit mask as the kernel has it.
pub(in super::super) fn held(mask: u64) -> Vec<Capability> {
    let held = BY_NUMBER.iter().enumerate().filter(|(number, _)| mask >> number & 1 == 1);
    held.map(|(_, capability)| *capability).collect()
}

/// `held` is what this process may hand on.
pub(super) fn render(
    security: &SecurityConfig,
    held: &[Capability],
) -> Result<LinuxCapabilities, RuntimeError> {
    let all = || held.iter().copied().collect::<Capabilities>();
    let names_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(ALL));
    // `ALL` among the added comes before `ALL` among the dropped, and both before single names:
    // containerd's WithCapabilities (internal/cri/server/container_create.go, v2.1).
    let mut capabilities: Capabilities = if security.privileged {
        all()
    } else if names_all(&security.capabilities_drop) {
        Capabilities::new()
    } else if names_all(&security.capabilities_add) {
        all()
    } else {
        DEFAULT.into_iter().collect()
    };
    if !security.privileged {
        for capability in parse_all(&security.capabilities_add)? {
            capabilities.insert(capability);
        }
        for capability in parse_all(&security.capabilities_drop)? {
            capabilities.remove(&capability);
        }
    }
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()));
    sets.set_effective(Some(capabilities.clone()));
    sets.set_permitted(Some(capabilities));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    Ok(sets)
}

/// The single capabilities among the names.
fn parse_all(names: &[String]) -> Result<Vec<Capability>, RuntimeError> {
    let single = names.iter().filter(|name| !name.eq_ignore_ascii_case(ALL));
    single.map(|name| parse(name)).collect()
}

fn parse(name: &str) -> Result<Capability, RuntimeError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let known = BY_NUMBER.iter().find(|capability| capability.to_string() == bare);
    known.copied().ok_or_else(|| RuntimeError::Invalid(format!("there is no capability `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: &str) {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = SecurityConfig {
            capabilities_add: names(add),
            capabilities_drop: names(drop),
            ..SecurityConfig::default()
        };
        let held = [Capability::Kill, Capability::NetAdmin];
        let line = match render(&security, &held) {
            Err(error) => error.to_string(),
            Ok(sets) => {
                let set = sets.effective().clone().unwrap_or_default();
                let default: Capabilities = DEFAULT.into_iter().collect();
                let list = |set: Vec<&Capability>| {
                    let mut names: Vec<_> = set.iter().map(ToString::to_string).collect();
                    names.sort_unstable();
                    names.join(",")
                };
                if set.len() + 2 < DEFAULT.len() {
                    list(set.iter().collect())
                } else {
                    let more = list(set.difference(&default).collect());
                    format!("+{more} -{}", list(default.difference(&set).collect()))
                }
            }
        };
        assert_eq!(line, expected, "add {add:?} drop {drop:?}");
    }

    #[test]
    fn adding_and_dropping() {
        check(&[], &[], "+ -");
        check(&["NET_ADMIN", "cap_sys_time"], &["KILL"], "+NET_ADMIN,SYS_TIME -KILL");
        check(&[], &["ALL"], "");
        check(&["NET_BIND_SERVICE"], &["all"], "NET_BIND_SERVICE");
        check(&["ALL"], &[], "KILL,NET_ADMIN");
        check(&["ALL"], &["KILL"], "NET_ADMIN");
        check(&["ALL"], &["ALL"], "");
        check(&["FLY"], &[], "there is no capability `FLY`");
    }

    #[test]
    fn a_mask_becomes_capabilities() {
        assert_eq!(held(1 << 5 | 1), [Capability::Chown, Capability::Kill]);
        assert_eq!(held(u64::MAX).len(), BY_NUMBER.len());
    }
}
