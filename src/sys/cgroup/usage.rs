//! What the files of a cgroup say about its use of the machine. Pure.

/// What a cgroup uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the cgroup was made.
    pub cpu_nanoseconds: u64,
    /// Memory with the file cache.
    pub memory_bytes: u64,
    /// Memory that the kernel could not easily take back: what is used without the inactive file
    /// cache, as cAdvisor has it (`setMemoryStats`, container/libcontainer/handler.go, v0.53).
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub processes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LegacyFiles<'a> {
    pub(super) cpuacct_usage: &'a str,
    pub(super) memory_usage: &'a str,
    pub(super) memory_stat: &'a str,
    pub(super) pids_current: &'a str,
}

pub(super) fn legacy(files: LegacyFiles<'_>) -> Usage {
    let memory_bytes = number(files.memory_usage);
    let stat = |name| field(files.memory_stat, name).unwrap_or(0);
    Usage {
        cpu_nanoseconds: number(files.cpuacct_usage),
        memory_bytes,
        memory_working_set_bytes: memory_bytes.saturating_sub(stat("total_inactive_file")),
        memory_rss_bytes: stat("total_rss"),
        processes: number(files.pids_current),
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct UnifiedFiles<'a> {
    pub(super) cpu_stat: &'a str,
    pub(super) memory_current: &'a str,
    pub(super) memory_stat: &'a str,
    pub(super) pids_current: &'a str,
}

pub(super) fn unified(files: UnifiedFiles<'_>) -> Usage {
    let memory_bytes = number(files.memory_current);
    let stat = |name| field(files.memory_stat, name).unwrap_or(0);
    Usage {
        cpu_nanoseconds: field(files.cpu_stat, "usage_usec").unwrap_or(0).saturating_mul(1_000),
        memory_bytes,
        memory_working_set_bytes: memory_bytes.saturating_sub(stat("inactive_file")),
        memory_rss_bytes: stat("anon"),
        processes: number(files.pids_current),
    }
}

/// The number after `name` in a file of one `name number` a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Usage = Usage {
        cpu_nanoseconds: 2_500_000,
        memory_bytes: 1_000,
        memory_working_set_bytes: 900,
        memory_rss_bytes: 700,
        processes: 3,
    };

    #[test]
    fn version_1_is_understood() {
        let usage = legacy(LegacyFiles {
            cpuacct_usage: "2500000\n",
            memory_usage: "1000\n",
            memory_stat: "rss 1\ninactive_file 7\ntotal_rss 700\ntotal_inactive_file 100\n",
            pids_current: "3\n",
        });
        assert_eq!(usage, EXPECTED);
    }

    #[test]
    fn version_2_is_understood() {
        let usage = unified(UnifiedFiles {
            cpu_stat: "usage_usec 2500\nuser_usec 2000\n",
            memory_current: "1000\n",
            memory_stat: "anon 700\nfile 300\ninactive_file 100\n",
            pids_current: "3\n",
        });
        assert_eq!(usage, EXPECTED);
    }

    #[test]
    fn oom_kills_are_counted_in_both_versions() {
        let legacy = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        let unified = "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n";
        for text in [legacy, unified] {
            assert_eq!(field(text, "oom_kill"), Some(2));
        }
        assert_eq!(field("", "oom_kill"), None);
    }
}
