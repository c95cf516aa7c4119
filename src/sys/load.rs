//! What the machine and its networks use. The parsing is pure.

use std::fs;
use std::io;

/// What `/proc/stat` counts in: a hundredth of a second on every architecture with containers
/// (the kernel's `USER_HZ`).
const TICK_NANOSECONDS: u64 = 10_000_000;

/// What everything on the machine uses together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineLoad {
    /// Processor time since boot.
    pub cpu_nanoseconds: u64,
    pub processors: u64,
    pub memory_bytes: u64,
    /// Memory that the kernel could not easily take back.
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub memory_total_bytes: u64,
    /// Processes and threads that there are, and that there can be.
    pub threads: u64,
    pub threads_max: u64,
}

impl MachineLoad {
    /// Looks at the machine.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn observe() -> io::Result<Self> {
        let number = |path: &str| -> u64 {
            fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let load = parse(&fs::read_to_string("/proc/stat")?, &fs::read_to_string("/proc/meminfo")?);
        let running = fs::read_to_string("/proc/loadavg")?;
        let threads = running.split(' ').nth(3).and_then(|pair| pair.split('/').nth(1));
        Ok(Self {
            threads: threads.and_then(|text| text.parse().ok()).unwrap_or(0),
            threads_max: number("/proc/sys/kernel/pid_max"),
            ..load
        })
    }
}

fn parse(stat: &str, meminfo: &str) -> MachineLoad {
    let cpu = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = cpu.split_whitespace().map(|it| it.parse().unwrap_or(0)).collect();
    let tick = |at: usize| ticks.get(at).copied().unwrap_or(0);
    // proc_stat(5): user, nice, system, (idle, iowait,) irq, softirq, steal. Guests are in user.
    let busy = [0, 1, 2, 5, 6, 7].into_iter().map(tick).sum::<u64>();
    let is_one = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
    };
    let processors = stat.lines().filter(is_one).count();
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or(0) << 10
    };
    let memory_bytes = bytes("MemTotal").saturating_sub(bytes("MemFree"));
    MachineLoad {
        cpu_nanoseconds: busy.saturating_mul(TICK_NANOSECONDS),
        processors: u64::try_from(processors).unwrap_or(u64::MAX),
        memory_bytes,
        memory_working_set_bytes: memory_bytes.saturating_sub(bytes("Inactive(file)")),
        memory_rss_bytes: bytes("AnonPages"),
        memory_total_bytes: bytes("MemTotal"),
        ..MachineLoad::default()
    }
}

/// What has passed through a network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceTraffic {
    pub name: String,
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_errors: u64,
    pub received_dropped: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub sent_errors: u64,
    pub sent_dropped: u64,
}

/// What has passed through the devices of the network that process is in, loopback aside; of this
/// process's own with `None`.
///
/// # Errors
/// Where the process is gone.
pub fn traffic(pid: Option<u32>) -> io::Result<Vec<DeviceTraffic>> {
    let path = match pid {
        Some(pid) => format!("/proc/{pid}/net/dev"),
        None => "/proc/thread-self/net/dev".to_owned(),
    };
    Ok(parse_traffic(&fs::read_to_string(path)?))
}

fn parse_traffic(text: &str) -> Vec<DeviceTraffic> {
    let device = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_whitespace().map(|it| it.parse().unwrap_or(0)).collect();
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
        Some(DeviceTraffic {
            name: name.trim().to_owned(),
            received_bytes: number(0),
            received_packets: number(1),
            received_errors: number(2),
            received_dropped: number(3),
            sent_bytes: number(8),
            sent_packets: number(9),
            sent_errors: number(10),
            sent_dropped: number(11),
        })
    };
    text.lines().filter_map(device).filter(|device| device.name != "lo").collect()
}

/// What a device is called that has these numbers: `8:0` is `/dev/sda`. The numbers, where nobody
/// says.
#[must_use]
pub fn device_name(numbers: &str) -> String {
    let link = fs::read_link(format!("/sys/dev/block/{numbers}"));
    let name = link.ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    name.map_or_else(|| numbers.to_owned(), |name| format!("/dev/{name}"))
}

/// What this process itself uses, and since when it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLoad {
    pub cpu_nanoseconds: u64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_files: u64,
    pub open_files_max: u64,
    /// In seconds since 1970.
    pub started_at: u64,
}

/// # Errors
/// Where `/proc` cannot be read.
pub fn own() -> io::Result<OwnLoad> {
    let open_files = fs::read_dir("/proc/self/fd")?.count();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Ok(OwnLoad {
        open_files: u64::try_from(open_files).unwrap_or(u64::MAX),
        open_files_max: limit.unwrap_or(u64::MAX),
        ..parse_own(
            &fs::read_to_string("/proc/self/stat")?,
            &fs::read_to_string("/proc/self/status")?,
            &fs::read_to_string("/proc/stat")?,
        )
    })
}

fn parse_own(stat: &str, status: &str, machine: &str) -> OwnLoad {
    // proc_pid_stat(5): what follows the name, which may have spaces and brackets in it.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = fields.split(' ').map(|it| it.trim().parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let after = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let ticks_per_second = 1_000_000_000 / TICK_NANOSECONDS;
    OwnLoad {
        cpu_nanoseconds: (field(14) + field(15)).saturating_mul(TICK_NANOSECONDS),
        resident_bytes: after(status, "VmRSS:") << 10,
        virtual_bytes: field(23),
        threads: field(20),
        started_at: after(machine, "btime ") + field(22) / ticks_per_second,
        ..OwnLoad::default()
    }
}

/// How full the file system at a path is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLoad {
    pub capacity_bytes: u64,
    /// What everybody may still use.
    pub available_bytes: u64,
    pub used_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// # Errors
/// Where there is nothing at the path.
pub fn disk(path: &std::path::Path) -> io::Result<DiskLoad> {
    let facts = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    Ok(DiskLoad {
        capacity_bytes: bytes(facts.f_blocks),
        available_bytes: bytes(facts.f_bavail),
        used_bytes: bytes(facts.f_blocks.saturating_sub(facts.f_bfree)),
        inodes: facts.f_files,
        inodes_free: facts.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_as_the_kernel_writes_it() {
        let stat = "cpu  100 1 50 9999 77 2 3 4 5 6\ncpu0 1 1 1 1\nintr 5\n";
        let meminfo = "MemTotal:  1000 kB\nMemFree:  200 kB\nInactive(file):  300 kB\n\
                       Inactive(anon): 9 kB\nAnonPages: 70 kB\n";
        let load = parse(stat, meminfo);
        assert_eq!((load.cpu_nanoseconds, load.processors), (160 * 10_000_000, 1));
        assert_eq!(load.memory_bytes, 800 << 10);
        assert_eq!(load.memory_working_set_bytes, 500 << 10);
        assert_eq!((load.memory_rss_bytes, load.memory_total_bytes), (70 << 10, 1_000 << 10));
        assert_eq!(parse("", ""), MachineLoad::default());
    }

    #[test]
    fn devices_are_read_without_loopback() {
        let text = "Inter-|   Receive         |  Transmit\n face |bytes    packets errs\n\
                    \x20   lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n\
                    \x20 eth0:1000 10 2 1 0 0 0 0 2000 20 3 4 0 0 0 0\n";
        let expected = DeviceTraffic {
            name: "eth0".to_owned(),
            received_bytes: 1_000,
            received_packets: 10,
            received_errors: 2,
            received_dropped: 1,
            sent_bytes: 2_000,
            sent_packets: 20,
            sent_errors: 3,
            sent_dropped: 4,
        };
        assert_eq!(parse_traffic(text), [expected]);
    }

    #[test]
    fn this_process_is_read_as_the_kernel_writes_it() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 12 0 500 4096 9 18446744073709551615 0";
        let load = parse_own(stat, "VmPeak: 9 kB\nVmRSS:\t 20 kB\n", "cpu 1\nbtime 1000\n");
        let expected = OwnLoad {
            cpu_nanoseconds: 2_000_000_000,
            resident_bytes: 20 << 10,
            virtual_bytes: 4_096,
            threads: 12,
            started_at: 1_005,
            ..OwnLoad::default()
        };
        assert_eq!(load, expected);
        let own = own().unwrap();
        assert!(own.resident_bytes > 0 && own.open_files > 2 && own.started_at > 1_600_000_000);
    }

    #[test]
    fn this_machine_uses_something() {
        let load = MachineLoad::observe().unwrap();
        assert!(load.cpu_nanoseconds > 0 && load.memory_working_set_bytes > 0 && load.threads > 0);
        assert!(disk(std::path::Path::new("/")).unwrap().capacity_bytes > 0);
    }
}
