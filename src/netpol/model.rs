//! What the kernel is to have for the policies, as plain data.

use super::policy::Direction;
use crate::api::ObjectKey;
use crate::network::Protocol;
use crate::stdx::fnv1a_64;
pub(super) use crate::sys::nft::Family;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How much of a policy's name is in the names of its chains and sets, in bytes. The kernel takes
/// 255 for a whole name, which still has a hash before it and what it is for after it.
const READABLE_BYTES_MAX: usize = 160;

/// The addresses that a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// They come and go one by one.
    Pods(BTreeSet<IpAddr>),
    /// They change with their policy, all at once. They do not overlap.
    Ranges(Vec<IpNet>),
}

impl Members {
    /// Those of one family; `None` where there are none.
    pub(super) fn of_family(&self, family: Family) -> Option<Self> {
        match self {
            Self::Pods(pods) => {
                let pods = pods.iter().copied().filter(|pod| Family::of(*pod) == family);
                let pods: BTreeSet<_> = pods.collect();
                (!pods.is_empty()).then_some(Self::Pods(pods))
            }
            Self::Ranges(ranges) => {
                let ranges = ranges.iter().copied();
                let ranges: Vec<_> =
                    ranges.filter(|range| Family::of(range.addr()) == family).collect();
                (!ranges.is_empty()).then_some(Self::Ranges(ranges))
            }
        }
    }
}

/// A set by its name. All members are of its family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetName {
    pub(super) family: Family,
    pub(super) name: String,
}

/// Connections that a policy allows. What is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) client: Option<SetName>,
    pub(super) server: Option<SetName>,
    pub(super) port: Option<PortMatch>,
}

/// Ports of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortMatch {
    pub(super) protocol: Protocol,
    /// Both ends included; `None`: all.
    pub(super) numbers: Option<(u16, u16)>,
}

/// What becomes of the connections of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No policy is about it.
    Accept,
    /// This chain judges.
    Isolate(String),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    /// What pods of this node get their addresses from: nothing passes that is not in `verdicts`.
    pub(super) ranges: Vec<IpNet>,
    pub(super) sets: BTreeMap<SetName, Members>,
    /// Chains that accept what a policy allows.
    pub(super) policies: BTreeMap<String, Vec<Allowed>>,
    /// Chains that ask policies one after the other, and drop what none of them allows.
    pub(super) isolations: BTreeMap<String, Vec<String>>,
    /// Each pod of this node, in both directions.
    pub(super) verdicts: BTreeMap<(Direction, IpAddr), Verdict>,
}

impl Model {
    /// Nobody on this node is isolated.
    pub(super) fn is_empty(&self) -> bool {
        self.isolations.is_empty()
    }

    /// The pods that a policy is about, in whichever direction.
    pub(super) fn isolated(&self) -> BTreeSet<IpAddr> {
        let isolated = |verdict: &Verdict| *verdict != Verdict::Accept;
        let verdicts = self.verdicts.iter().filter(|(_, verdict)| isolated(verdict));
        verdicts.map(|((_, address), _)| *address).collect()
    }

    /// Has these policies judge, by a chain that all pods with the same policies share.
    pub(super) fn isolate(&mut self, direction: Direction, policies: Vec<String>) -> Verdict {
        let hash = hash(&policies.join("\n"));
        let name = format!("pods-{hash}-{}", direction.as_str());
        self.isolations.insert(name.clone(), policies);
        Verdict::Isolate(name)
    }
}

/// The chain of a policy. Its sets' names begin so too.
pub(super) fn policy_chain(policy: &ObjectKey, direction: Direction) -> String {
    let full = policy.to_string();
    let hash = hash(&full);
    // Names of objects are ASCII.
    let readable = full.get(..READABLE_BYTES_MAX).unwrap_or(&full);
    format!("policy-{hash}-{readable}-{}", direction.as_str())
}

/// Short, and the same wherever it is made.
fn hash(text: &str) -> String {
    format!("{:016x}", fnv1a_64(text.bytes()))
}
