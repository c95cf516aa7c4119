//! What limits mean in the files of cgroup version 1 and version 2. Pure.

use std::fmt::Display;

/// Limits of a cgroup; `None` leaves what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In version 1's terms, from 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period; not above zero: no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Not above zero: no limit.
    pub memory_bytes: Option<i64>,
    /// Not above zero: no limit.
    pub pids: Option<i64>,
    pub hugepages: Vec<HugepageLimit>,
}

/// How much memory may be in huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    pub page_size: String,
    pub bytes: u64,
}

/// A value for a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
}

/// The kernel's period where none is given, in microseconds.
const CPU_PERIOD_DEFAULT: u64 = 100_000;

/// What the kernel takes as shares in version 1.
const CPU_SHARES_MIN: u64 = 2;
const CPU_SHARES_MAX: u64 = 262_144;

fn setting(controller: &'static str, file: impl Into<String>, value: impl Display) -> Setting {
    Setting { controller, file: file.into(), value: value.to_string() }
}

/// The files of version 1.
pub(super) fn legacy(limits: &Limits) -> Vec<Setting> {
    let unlimited = |value: i64| if value > 0 { value } else { -1 };
    let mut settings = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        settings.push(setting("cpu", "cpu.shares", shares.clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)));
    }
    // The kernel checks a quota against the period that is set, so the period goes first.
    if let Some(period) = limits.cpu_period {
        settings.push(setting("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = limits.cpu_quota {
        settings.push(setting("cpu", "cpu.cfs_quota_us", unlimited(quota)));
    }
    if let Some(bytes) = limits.memory_bytes {
        settings.push(setting("memory", "memory.limit_in_bytes", unlimited(bytes)));
    }
    if let Some(pids) = limits.pids {
        settings.push(setting("pids", "pids.max", number_or_max(pids)));
    }
    for limit in &limits.hugepages {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
        settings.push(setting("hugetlb", file, limit.bytes));
    }
    settings
}

/// The files of version 2.
pub(super) fn unified(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        settings.push(setting("cpu", "cpu.weight", weight(shares)));
    }
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = number_or_max(limits.cpu_quota.unwrap_or(0));
        let period = limits.cpu_period.unwrap_or(CPU_PERIOD_DEFAULT);
        settings.push(setting("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if let Some(bytes) = limits.memory_bytes {
        settings.push(setting("memory", "memory.max", number_or_max(bytes)));
    }
    if let Some(pids) = limits.pids {
        settings.push(setting("pids", "pids.max", number_or_max(pids)));
    }
    for limit in &limits.hugepages {
        settings.push(setting("hugetlb", format!("hugetlb.{}.max", limit.page_size), limit.bytes));
    }
    settings
}

fn number_or_max(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

/// Shares from 2 to 262144 as a weight from 1 to 10000: upstream's `getCPUWeight`
/// (pkg/kubelet/cm/cgroup_manager_linux.go, v1.35), which the OCI runtimes of Debian 12 share.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(CPU_SHARES_MIN, CPU_SHARES_MAX);
    1 + (shares - CPU_SHARES_MIN) * 9_999 / (CPU_SHARES_MAX - CPU_SHARES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: &Limits, expected_legacy: &[&str], expected_unified: &[&str]) {
        let lines = |settings: Vec<Setting>| -> Vec<String> {
            settings.iter().map(|each| format!("{}={}", each.file, each.value)).collect()
        };
        assert_eq!(lines(legacy(limits)), expected_legacy);
        assert_eq!(lines(unified(limits)), expected_unified);
    }

    #[test]
    fn nothing_asked_nothing_written() {
        check(&Limits::default(), &[], &[]);
    }

    #[test]
    fn a_pod_with_limits() {
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory_bytes: Some(67_108_864),
            pids: Some(100),
            hugepages: vec![HugepageLimit { page_size: "2MB".to_owned(), bytes: 0 }],
        };
        check(
            &limits,
            &[
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=67108864",
                "pids.max=100",
                "hugetlb.2MB.limit_in_bytes=0",
            ],
            &[
                "cpu.weight=20",
                "cpu.max=50000 100000",
                "memory.max=67108864",
                "pids.max=100",
                "hugetlb.2MB.max=0",
            ],
        );
    }

    #[test]
    fn limits_can_be_lifted() {
        let limits = Limits {
            cpu_quota: Some(-1),
            memory_bytes: Some(-1),
            pids: Some(-1),
            ..Limits::default()
        };
        check(
            &limits,
            &["cpu.cfs_quota_us=-1", "memory.limit_in_bytes=-1", "pids.max=max"],
            &["cpu.max=max 100000", "memory.max=max", "pids.max=max"],
        );
    }

    #[test]
    fn shares_become_weights() {
        let pairs = [(0, 1), (2, 1), (100, 4), (1_024, 39), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, expected) in pairs {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
    }
}
