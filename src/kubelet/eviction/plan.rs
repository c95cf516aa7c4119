//! When the node is short of something, and who has to go. Pure.
//!
//! Start at [`judge`] and [`rank`]: upstream `synchronize` (pkg/kubelet/eviction/eviction_manager.go)
//! and pkg/kubelet/eviction/helpers.go, v1.35.

use crate::api::Quantity;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// What the node may run short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    /// Memory that pods may use together, without what is reserved for others.
    AllocatableMemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// What the Node object says then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

impl Pressure {
    /// The condition of the node that says so.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// The signals as settings name them.
const SIGNALS: &[(&str, Signal)] = &[
    ("memory.available", Signal::MemoryAvailable),
    ("allocatableMemory.available", Signal::AllocatableMemoryAvailable),
    ("nodefs.available", Signal::NodefsAvailable),
    ("nodefs.inodesFree", Signal::NodefsInodesFree),
    ("imagefs.available", Signal::ImagefsAvailable),
    ("imagefs.inodesFree", Signal::ImagefsInodesFree),
    ("pid.available", Signal::PidAvailable),
];

impl Signal {
    /// As settings name it.
    ///
    /// # Panics
    /// Never: all have names.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = SIGNALS.iter().find(|(_, signal)| *signal == self);
        named.expect("each signal is in the table").0
    }

    fn is_of_memory(self) -> bool {
        matches!(self, Self::MemoryAvailable | Self::AllocatableMemoryAvailable)
    }

    #[must_use]
    pub fn pressure(self) -> Pressure {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemoryAvailable => Pressure::Memory,
            Self::PidAvailable => Pressure::Pid,
            Self::NodefsAvailable
            | Self::NodefsInodesFree
            | Self::ImagefsAvailable
            | Self::ImagefsInodesFree => Pressure::Disk,
        }
    }

    /// As messages name it.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }
}

/// How much of something there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    Amount(u64),
    PercentOfAll(u64),
}

impl Least {
    /// In the units of what there is.
    #[must_use]
    pub fn of(self, room: Room) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            Self::PercentOfAll(percent) => room.capacity / 100 * percent,
        }
    }
}

/// Below this the node is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub signal: Signal,
    pub least: Least,
    /// So long may it be short before pods go; `None`: no time at all, also for the pods.
    pub grace: Option<SignedDuration>,
    /// Once short, it is short until there is so much more.
    pub reclaim: Least,
}

/// `nodefs.available<10%` or `memory.available<100Mi`: pods go at once, until there is a tenth of the
/// disk more than was wanted, or any more of the rest (upstream `ParseThresholdConfig`, v1.35).
impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "a threshold is SIGNAL<AMOUNT or SIGNAL<PERCENT%";
        let (name, least) = text.split_once('<').ok_or(wanted)?;
        let Some((_, signal)) = SIGNALS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = SIGNALS.iter().map(|(known, _)| *known).collect();
            return Err(format!("{wanted}, and {name:?} is none of {}", known.join(", ")));
        };
        let least = match least.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|it| *it <= 100).map(Least::PercentOfAll),
            None => {
                let amount = least.parse::<Quantity>().map_err(|_| wanted)?;
                u64::try_from(amount.units()).ok().map(Least::Amount)
            }
        };
        let reclaim = match signal {
            Signal::NodefsAvailable | Signal::ImagefsAvailable => Least::PercentOfAll(10),
            _ => Least::Amount(0),
        };
        Ok(Self { signal: *signal, least: least.ok_or(wanted)?, grace: None, reclaim })
    }
}

/// When the node is short, and for how long it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub all: Vec<Threshold>,
    /// A node that was short says so for this long after: upstream
    /// `evictionPressureTransitionPeriod`.
    pub transition: SignedDuration,
    /// A pod that goes for a threshold with a grace gets no more than this.
    pub pod_grace_max: SignedDuration,
}

impl Thresholds {
    /// Those that a node has unless it is told others: upstream's for memory and inodes, k3s' for
    /// disks, since small ones are fuller before it hurts.
    pub const USUAL: [&str; 5] = [
        "memory.available<100Mi",
        "nodefs.available<5%",
        "nodefs.inodesFree<5%",
        "imagefs.available<5%",
        "imagefs.inodesFree<5%",
    ];

    /// Pods go at once when one of these is met.
    #[must_use]
    pub fn hard(all: Vec<Threshold>) -> Self {
        Self { all, transition: SignedDuration::from_mins(5), pod_grace_max: SignedDuration::ZERO }
    }

    /// Pods go as well when together they come so close to what they may use: upstream
    /// `addAllocatableThresholds`.
    #[must_use]
    pub fn with_allocatable(mut self) -> Self {
        let hard = self.all.iter().filter(|threshold| threshold.grace.is_none());
        let of_memory = hard.filter(|threshold| threshold.signal == Signal::MemoryAvailable);
        let signal = Signal::AllocatableMemoryAvailable;
        let added: Vec<_> = of_memory.map(|it| Threshold { signal, ..*it }).collect();
        self.all.extend(added);
        self
    }
}

/// How much there is of something, and how much of that can be used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub available: u64,
    pub capacity: u64,
}

/// What there is; what could not be measured is absent.
pub type Rooms = BTreeMap<Signal, Room>;

/// What was seen before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Since when thresholds are met, by their place.
    met: BTreeMap<usize, Timestamp>,
    seen: BTreeMap<Pressure, Timestamp>,
}

/// What a look at the node comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub memory: Memory,
    pub pressure: BTreeSet<Pressure>,
    /// What has to be got back now.
    pub reclaim: Option<Threshold>,
}

/// Decides whether the node is short of something.
#[must_use]
pub fn judge(thresholds: &Thresholds, memory: &Memory, rooms: &Rooms, now: Timestamp) -> Judgement {
    let mut next = Memory { met: BTreeMap::new(), seen: memory.seen.clone() };
    let mut due = Vec::new();
    for (place, threshold) in thresholds.all.iter().enumerate() {
        let Some(room) = rooms.get(&threshold.signal) else { continue };
        let before = memory.met.get(&place);
        let more = if before.is_some() { threshold.reclaim.of(*room) } else { 0 };
        if room.available >= threshold.least.of(*room).saturating_add(more) {
            continue;
        }
        let since = before.copied().unwrap_or(now);
        next.met.insert(place, since);
        next.seen.insert(threshold.signal.pressure(), now);
        if now.duration_since(since) >= threshold.grace.unwrap_or(SignedDuration::ZERO) {
            due.push(*threshold);
        }
    }
    next.seen.retain(|_, seen| now.duration_since(*seen) < thresholds.transition);
    // Memory first, and what leaves no time before what does: upstream `byEvictionPriority`.
    due.sort_by_key(|threshold| (!threshold.signal.is_of_memory(), threshold.grace.is_some()));
    let pressure = next.seen.keys().copied().collect();
    Judgement { memory: next, pressure, reclaim: due.first().copied() }
}

/// What one container, or a pod, uses or asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub inodes: u64,
    pub processes: u64,
}

impl Use {
    fn of(self, signal: Signal) -> u64 {
        match signal {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => self.memory_bytes,
            Signal::NodefsAvailable | Signal::ImagefsAvailable => self.disk_bytes,
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => self.inodes,
            Signal::PidAvailable => self.processes,
        }
    }
}

/// A pod that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    pub uid: String,
    pub priority: i32,
    /// The node needs it: it stays whatever it uses.
    pub critical: bool,
    pub uses: Use,
    pub requests: Use,
    /// By name: what it uses and what it asks for.
    pub containers: Vec<(String, Use, Use)>,
}

/// Who goes first: those that use more than they asked for, then the less important, then those
/// that use the most above what they asked for.
#[must_use]
pub fn rank(candidates: &[Candidate], signal: Signal) -> Vec<&Candidate> {
    let mut ranked: Vec<_> = candidates.iter().filter(|candidate| !candidate.critical).collect();
    let above = |candidate: &Candidate| {
        candidate.uses.of(signal).saturating_sub(candidate.requests.of(signal))
    };
    // Nobody asks for processes.
    let exceeds = |candidate: &Candidate| {
        signal != Signal::PidAvailable && candidate.uses.of(signal) > candidate.requests.of(signal)
    };
    ranked.sort_by_key(|candidate| {
        (!exceeds(candidate), candidate.priority, std::cmp::Reverse(above(candidate)))
    });
    ranked
}

/// Why a pod goes, as its status says: upstream `evictionMessage`.
#[must_use]
pub fn message(candidate: &Candidate, threshold: &Threshold, room: Room) -> String {
    let signal = threshold.signal;
    let resource = signal.resource();
    let bytes =
        |amount: u64| Quantity::binary(i64::try_from(amount).unwrap_or(i64::MAX)).to_string();
    let shown = |amount| match resource {
        "memory" | "ephemeral-storage" => bytes(amount),
        _ => amount.to_string(),
    };
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        shown(threshold.least.of(room)),
        shown(room.available)
    );
    for (name, uses, requests) in &candidate.containers {
        if uses.of(signal) > requests.of(signal) {
            message += &format!(
                "Container {name} was using {}, request is {}, has larger consumption of {resource}. ",
                shown(uses.of(signal)),
                shown(requests.of(signal))
            );
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Looks at a row of `second:available` of 1,000 with a hard threshold at 100 and 50 more to
    /// reclaim, and a soft one at 200 with a minute's grace.
    #[track_caller]
    fn check(looks: &str, expected: &str) {
        let threshold = |least, grace: Option<i64>, reclaim| Threshold {
            signal: Signal::NodefsAvailable,
            least: Least::Amount(least),
            grace: grace.map(SignedDuration::from_secs),
            reclaim: Least::PercentOfAll(reclaim),
        };
        let thresholds = Thresholds {
            all: vec![threshold(200, Some(60), 0), threshold(100, None, 5)],
            ..Thresholds::hard(Vec::new())
        };
        let mut memory = Memory::default();
        let results: Vec<_> = looks
            .split(' ')
            .map(|look| {
                let (second, available) = look.split_once(':').unwrap();
                let room = Room { available: available.parse().unwrap(), capacity: 1_000 };
                let rooms = Rooms::from([(Signal::NodefsAvailable, room)]);
                let now = at(second.parse().unwrap());
                let judgement = judge(&thresholds, &memory, &rooms, now);
                memory = judgement.memory;
                let reclaim = match judgement.reclaim {
                    None => "",
                    Some(threshold) if threshold.grace.is_some() => "soft",
                    Some(_) => "hard",
                };
                format!("{}{reclaim}", if judgement.pressure.is_empty() { "-" } else { "!" })
            })
            .collect();
        assert_eq!(results.join(" "), expected, "{looks}");
    }

    #[test]
    fn pressure_comes_at_once_and_goes_slowly() {
        check("0:500", "-");
        check("0:99 10:500 299:500 300:500", "!hard ! ! -");
        check("0:99 10:120 20:150", "!hard !hard !");
        check("0:150 59:150 60:150", "! ! !soft");
        check("0:150 30:250 59:150 61:150", "! ! ! !");
    }

    #[test]
    fn who_uses_more_than_asked_goes_first() {
        let candidate = |name: &str, priority, uses, requests| Candidate {
            uid: name.to_owned(),
            priority,
            critical: name == "critical",
            uses: Use { memory_bytes: uses, processes: uses, ..Use::default() },
            requests: Use { memory_bytes: requests, ..Use::default() },
            containers: vec![],
        };
        let all = [
            candidate("modest", 0, 50, 100),
            candidate("important", 9, 900, 0),
            candidate("greedy", 0, 500, 100),
            candidate("greedier", 0, 600, 100),
            candidate("critical", -1, 999, 0),
        ];
        let order = |signal| {
            let names: Vec<_> = rank(&all, signal).iter().map(|it| it.uid.clone()).collect();
            names.join(" ")
        };
        assert_eq!(order(Signal::MemoryAvailable), "greedier greedy important modest");
        assert_eq!(order(Signal::PidAvailable), "greedier greedy modest important");
    }

    #[test]
    fn thresholds_are_read_or_explained() {
        let read = |text: &str| match text.parse::<Threshold>() {
            Ok(it) => format!("{:?} {:?} {:?}", it.signal, it.least, it.reclaim),
            Err(error) => error,
        };
        assert_eq!(read("memory.available<1Mi"), "MemoryAvailable Amount(1048576) Amount(0)");
        let percent = "NodefsAvailable PercentOfAll(0) PercentOfAll(10)";
        assert_eq!(read("nodefs.available<0%"), percent);
        for text in ["nodefs.available", "nodefs.available<a", "pid.available<101%", "disk<1Gi"] {
            assert!(read(text).starts_with("a threshold is SIGNAL<AMOUNT"), "{text}");
        }
        for usual in Thresholds::USUAL {
            usual.parse::<Threshold>().unwrap();
        }
        for (name, signal) in SIGNALS {
            assert_eq!(signal.name(), *name);
        }
    }

    #[test]
    fn what_memory_has_to_be_left_is_left_of_what_pods_may_use_as_well() {
        let usual = Thresholds::USUAL.map(|text| text.parse().unwrap()).to_vec();
        let soft = Threshold { grace: Some(SignedDuration::from_secs(9)), ..usual[0] };
        let thresholds = Thresholds::hard([usual, vec![soft]].concat()).with_allocatable();
        let added = &thresholds.all[Thresholds::USUAL.len() + 1..];
        assert_eq!(added, ["allocatableMemory.available<100Mi".parse().unwrap()]);

        let rooms = |node: u64, pods: u64| {
            let room = |mebibytes: u64| Room { available: mebibytes << 20, capacity: 1 << 30 };
            Rooms::from([
                (Signal::MemoryAvailable, room(node)),
                (Signal::AllocatableMemoryAvailable, room(pods)),
                (Signal::NodefsAvailable, room(1)),
            ])
        };
        let reclaimed = |rooms: &Rooms| {
            let judgement = judge(&thresholds, &Memory::default(), rooms, at(0));
            judgement.reclaim.map(|threshold| threshold.signal)
        };
        assert_eq!(reclaimed(&rooms(900, 50)), Some(Signal::AllocatableMemoryAvailable));
        assert_eq!(reclaimed(&rooms(50, 50)), Some(Signal::MemoryAvailable));
        assert_eq!(reclaimed(&rooms(900, 900)), Some(Signal::NodefsAvailable));
    }

    #[test]
    fn a_pod_is_told_why() {
        let uses = Use { memory_bytes: 60 << 20, ..Use::default() };
        let candidate = Candidate {
            containers: vec![("a".to_owned(), uses, Use::default())],
            ..Candidate::default()
        };
        let threshold = Thresholds::USUAL[0].parse().unwrap();
        let room = Room { available: 50 << 20, capacity: 1 << 30 };
        assert_eq!(
            message(&candidate, &threshold, room),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container a was using 60Mi, request is 0, has larger consumption of memory. "
        );
    }
}
