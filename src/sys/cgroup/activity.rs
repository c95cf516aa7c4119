//! What the files of a cgroup say about what its processes have done: more than anybody needs to
//! hold them to limits. Pure.

use super::usage::field;
use std::collections::BTreeMap;

/// What version 1 counts processor time in: a hundredth of a second on every architecture with
/// containers (the kernel's `USER_HZ`).
const TICK_NANOSECONDS: u64 = 10_000_000;

/// What the processes of a cgroup have done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    pub user_nanoseconds: u64,
    pub system_nanoseconds: u64,
    /// Periods in which the processes wanted to run, and those in which they had to wait for the
    /// next one.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanoseconds: u64,
    pub cache_bytes: u64,
    pub mapped_bytes: u64,
    pub swap_bytes: u64,
    pub memory_max_bytes: u64,
    pub oom_kills: u64,
    /// By the numbers of the device: `8:0`.
    pub devices: BTreeMap<String, DeviceActivity>,
    /// Where the kernel measures it, which it does for version 2 alone.
    pub stalls: Option<Stalls>,
}

/// How long processes have waited for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    pub cpu: Stall,
    pub memory: Stall,
    pub io: Stall,
}

/// Pressure stall information, psi(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// Some of the processes waited.
    pub some_nanoseconds: u64,
    /// None of them could go on.
    pub full_nanoseconds: u64,
}

/// What has been read from a device and written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceActivity {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LegacyFiles<'a> {
    pub(super) cpuacct_stat: &'a str,
    pub(super) cpu_stat: &'a str,
    pub(super) memory_stat: &'a str,
    pub(super) memory_max_usage: &'a str,
    pub(super) io_service_bytes: &'a str,
    pub(super) io_serviced: &'a str,
}

pub(super) fn legacy(files: LegacyFiles<'_>) -> Activity {
    let ticks =
        |name| field(files.cpuacct_stat, name).unwrap_or(0).saturating_mul(TICK_NANOSECONDS);
    let cpu = |name| field(files.cpu_stat, name).unwrap_or(0);
    let memory = |name| field(files.memory_stat, name).unwrap_or(0);
    let mut devices = BTreeMap::<String, DeviceActivity>::new();
    for (device, way, bytes) in operations(files.io_service_bytes) {
        let device = devices.entry(device.to_owned()).or_default();
        match way {
            "Read" => device.read_bytes = bytes,
            "Write" => device.written_bytes = bytes,
            _ => {}
        }
    }
    for (device, way, count) in operations(files.io_serviced) {
        let device = devices.entry(device.to_owned()).or_default();
        match way {
            "Read" => device.reads = count,
            "Write" => device.writes = count,
            _ => {}
        }
    }
    Activity {
        user_nanoseconds: ticks("user"),
        system_nanoseconds: ticks("system"),
        periods: cpu("nr_periods"),
        throttled_periods: cpu("nr_throttled"),
        throttled_nanoseconds: cpu("throttled_time"),
        cache_bytes: memory("total_cache"),
        mapped_bytes: memory("total_mapped_file"),
        swap_bytes: memory("total_swap"),
        memory_max_bytes: files.memory_max_usage.trim().parse().unwrap_or(0),
        oom_kills: 0,
        devices,
        stalls: None,
    }
}

/// Lines of `device way number`.
fn operations(text: &str) -> impl Iterator<Item = (&str, &str, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?.parse().ok()?))
    })
}

#[derive(Clone, Copy, Debug)]
pub(super) struct UnifiedFiles<'a> {
    pub(super) cpu_stat: &'a str,
    pub(super) memory_stat: &'a str,
    pub(super) memory_peak: &'a str,
    pub(super) swap_current: &'a str,
    pub(super) io_stat: &'a str,
    pub(super) cpu_pressure: &'a str,
    pub(super) memory_pressure: &'a str,
    pub(super) io_pressure: &'a str,
}

pub(super) fn unified(files: UnifiedFiles<'_>) -> Activity {
    let cpu = |name| field(files.cpu_stat, name).unwrap_or(0);
    let memory = |name| field(files.memory_stat, name).unwrap_or(0);
    let number = |text: &str| text.trim().parse().unwrap_or(0);
    let device = |line: &str| {
        let (name, fields) = line.split_once(' ')?;
        let told = |wanted: &str| {
            let mut fields = fields.split(' ').filter_map(|field| field.split_once('='));
            fields.find(|(name, _)| *name == wanted).map_or(0, |(_, value)| number(value))
        };
        let device = DeviceActivity {
            read_bytes: told("rbytes"),
            written_bytes: told("wbytes"),
            reads: told("rios"),
            writes: told("wios"),
        };
        Some((name.to_owned(), device))
    };
    Activity {
        user_nanoseconds: cpu("user_usec").saturating_mul(1_000),
        system_nanoseconds: cpu("system_usec").saturating_mul(1_000),
        periods: cpu("nr_periods"),
        throttled_periods: cpu("nr_throttled"),
        throttled_nanoseconds: cpu("throttled_usec").saturating_mul(1_000),
        cache_bytes: memory("file"),
        mapped_bytes: memory("file_mapped"),
        swap_bytes: number(files.swap_current),
        memory_max_bytes: number(files.memory_peak),
        oom_kills: 0,
        devices: files.io_stat.lines().filter_map(device).collect(),
        stalls: stalls(files),
    }
}

/// A kernel that measures one measures all three.
fn stalls(files: UnifiedFiles<'_>) -> Option<Stalls> {
    Some(Stalls {
        cpu: stall(files.cpu_pressure)?,
        memory: stall(files.memory_pressure)?,
        io: stall(files.io_pressure)?,
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=12`, in microseconds, and the same for `full`.
fn stall(text: &str) -> Option<Stall> {
    let total = |kind: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.split(' ').next() == Some(kind))?;
        let (_, micros) = line.rsplit_once("total=")?;
        Some(micros.trim().parse::<u64>().ok()?.saturating_mul(1_000))
    };
    // Kernels before 5.13 do not tell of a `full` for processors.
    let full_nanoseconds = total("full").unwrap_or(0);
    Some(Stall { some_nanoseconds: total("some")?, full_nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Activity {
        let device = DeviceActivity { read_bytes: 4_096, written_bytes: 512, reads: 2, writes: 1 };
        Activity {
            user_nanoseconds: 30_000_000,
            system_nanoseconds: 20_000_000,
            periods: 9,
            throttled_periods: 4,
            throttled_nanoseconds: 5_000,
            cache_bytes: 100,
            mapped_bytes: 50,
            swap_bytes: 7,
            memory_max_bytes: 2_000,
            oom_kills: 0,
            devices: BTreeMap::from([("8:0".to_owned(), device)]),
            stalls: None,
        }
    }

    #[test]
    fn version_1_is_understood() {
        let activity = legacy(LegacyFiles {
            cpuacct_stat: "user 3\nsystem 2\n",
            cpu_stat: "nr_periods 9\nnr_throttled 4\nthrottled_time 5000\n",
            memory_stat: "cache 1\ntotal_cache 100\ntotal_mapped_file 50\ntotal_swap 7\n",
            memory_max_usage: "2000\n",
            io_service_bytes: "8:0 Read 4096\n8:0 Write 512\n8:0 Sync 1\nTotal 4608\n",
            io_serviced: "8:0 Read 2\n8:0 Write 1\nTotal 3\n",
        });
        assert_eq!(activity, expected());
    }

    #[test]
    fn version_2_is_understood() {
        let activity = unified(UnifiedFiles {
            cpu_stat: "usage_usec 50000\nuser_usec 30000\nsystem_usec 20000\nnr_periods 9\n\
                       nr_throttled 4\nthrottled_usec 5\n",
            memory_stat: "anon 1\nfile 100\nfile_mapped 50\n",
            memory_peak: "2000\n",
            swap_current: "7\n",
            io_stat: "8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0\n",
            cpu_pressure: "some avg10=0.50 avg60=0.00 avg300=0.00 total=3\n",
            memory_pressure: "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n\
                              full avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
            io_pressure: "some total=0\nfull total=0\n",
        });
        let stalls = Stalls {
            cpu: Stall { some_nanoseconds: 3_000, full_nanoseconds: 0 },
            memory: Stall { some_nanoseconds: 5_000, full_nanoseconds: 4_000 },
            io: Stall::default(),
        };
        assert_eq!(activity, Activity { stalls: Some(stalls), ..expected() });
        let nothing = UnifiedFiles {
            cpu_stat: "",
            memory_stat: "",
            memory_peak: "",
            swap_current: "",
            io_stat: "",
            cpu_pressure: "",
            memory_pressure: "",
            io_pressure: "",
        };
        assert_eq!(unified(nothing), Activity::default());
    }
}
