//! The pods that this node has taken and what they have been granted, all together, so that two that
//! ask for the same at once do not both get it.

use super::pod::{Admission, Denied, Occupant, fits};
use crate::api::pod::{Amounts, is_terminal};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

/// See the module.
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    /// Has a pod looked at, by its uid.
    ring: Arc<dyn Fn(&str) + Send + Sync>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By uid.
    taken: BTreeMap<String, Occupant>,
    /// Pods that need nothing any more, whatever the API says of them yet.
    gone: BTreeSet<String>,
    /// Pods that have to wait until others need less.
    deferred: BTreeSet<String>,
}

impl Entries {
    /// Everybody but that pod who has a place here, or had one before this process started. `known`
    /// are the pods that are bound to this node.
    fn others(&self, uid: &str, known: &[Arc<Pod>]) -> Vec<Occupant> {
        // What the API has removed at once is taken down here still, and has no place any more.
        let uids: BTreeSet<_> =
            known.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let mut others = self.taken.clone();
        others.retain(|uid, _| uids.contains(uid.as_str()));
        for pod in known.iter().filter(|pod| was_taken(pod)) {
            let other = pod.metadata.uid.as_deref().unwrap_or_default();
            if !self.gone.contains(other) && !others.contains_key(other) {
                others.insert(other.to_owned(), Occupant::of(pod));
            }
        }
        others.remove(uid);
        others.into_values().collect()
    }
}

/// The API has a start time of pods that a kubelet has taken.
fn was_taken(pod: &Pod) -> bool {
    let is_started = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    is_started && !is_terminal(pod)
}

impl fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ledger").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(ring: Arc<dyn Fn(&str) + Send + Sync>) -> Self {
        Self { entries: Mutex::default(), ring }
    }

    /// Notes a pod that has a place here already.
    pub(super) fn note(&self, occupant: Occupant) {
        let mut entries = self.entries.lock().expect("no panics under this lock");
        entries.taken.insert(occupant.uid.clone(), occupant);
    }

    /// Gives a pod a place, if `decide` says so of those who have one. Nobody else is given one
    /// meanwhile.
    pub(super) fn admit(
        &self,
        occupant: Occupant,
        known: &[Arc<Pod>],
        decide: impl FnOnce(&[Occupant]) -> Admission,
    ) -> Admission {
        let mut entries = self.entries.lock().expect("no panics under this lock");
        let decision = decide(&entries.others(&occupant.uid, known));
        if !matches!(decision, Admission::Refused(_)) {
            entries.taken.insert(occupant.uid.clone(), occupant);
        }
        decision
    }

    /// Whether one of `others` still has its place. The pod is looked at again when one has not.
    pub(super) fn waits_for(&self, uid: &str, others: &[String]) -> bool {
        let mut entries = self.entries.lock().expect("no panics under this lock");
        let waits = others.iter().any(|other| entries.taken.contains_key(other));
        if waits {
            entries.deferred.insert(uid.to_owned());
        }
        waits
    }

    /// Grants a pod what it asks for in the place of what it has, where there is room beside those
    /// who have a place.
    pub(super) fn ask(
        &self,
        uid: &str,
        requests: Amounts,
        known: &[Arc<Pod>],
        allocatable: &Amounts,
    ) -> Result<(), Denied> {
        let freed = {
            let mut entries = self.entries.lock().expect("no panics under this lock");
            let mut others = Amounts::new();
            for other in entries.others(uid, known) {
                for (name, amount) in other.requests {
                    *others.entry(name).or_default() += amount;
                }
            }
            if let Err(denied) = fits(&requests, &others, allocatable) {
                if denied.reason == "Deferred" {
                    entries.deferred.insert(uid.to_owned());
                }
                return Err(denied);
            }
            if let Some(own) = entries.taken.get_mut(uid) {
                own.requests = requests;
            }
            entries.deferred.remove(uid);
            std::mem::take(&mut entries.deferred)
        };
        self.ring_all(&freed);
        Ok(())
    }

    /// The pod needs nothing any more.
    pub(super) fn release(&self, uid: &str) {
        let freed = {
            let mut entries = self.entries.lock().expect("no panics under this lock");
            entries.deferred.remove(uid);
            // One that an earlier process took, and that this one has only seen end, was counted too.
            let was_here = entries.gone.insert(uid.to_owned());
            if entries.taken.remove(uid).is_none() && !was_here {
                return;
            }
            std::mem::take(&mut entries.deferred)
        };
        self.ring_all(&freed);
    }

    /// Nobody will ask for the pod again.
    pub(super) fn forget(&self, uid: &str) {
        let mut entries = self.entries.lock().expect("no panics under this lock");
        entries.gone.remove(uid);
    }

    fn ring_all(&self, uids: &BTreeSet<String>) {
        uids.iter().for_each(|uid| (self.ring)(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pod::requests;
    use serde_json::json;

    const TAKEN: &str = "2025-01-01T00:00:00Z";

    fn pod(uid: &str, cpu: &str, start_time: Option<&str>) -> Arc<Pod> {
        let resources = json!({ "requests": { "cpu": cpu } });
        let pod = json!({
            "metadata": { "name": uid, "uid": uid },
            "spec": { "containers": [{ "name": "c", "resources": resources }] },
            "status": { "startTime": start_time },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn amounts(cpu: &str) -> Amounts {
        requests(pod("any", cpu, None).spec.as_ref().unwrap())
    }

    /// What "own" is told that has one of four processors and asks for three, where `noted` have
    /// been taken and the API has `known`.
    #[track_caller]
    fn check(noted: &[Arc<Pod>], known: &[Arc<Pod>], expected: Option<&str>) {
        let ledger = Ledger::new(Arc::new(|_| {}));
        let own = pod("own", "1", Some(TAKEN));
        noted.iter().chain([&own]).for_each(|pod| ledger.note(Occupant::of(pod)));
        let known: Vec<_> = known.iter().chain([&own]).cloned().collect();
        let told = ledger.ask("own", amounts("3"), &known, &amounts("4"));
        assert_eq!(told.err().map(|denied| denied.reason), expected);
    }

    #[test]
    fn those_whom_the_api_has_no_more_do_not_stand_in_the_way_of_a_resize() {
        let other = || [pod("other", "2", Some(TAKEN))];
        check(&[], &[], None);
        check(&other(), &other(), Some("Deferred"));
        check(&other(), &[], None);
        // Taken by an earlier process, and not looked at since.
        check(&[], &other(), Some("Deferred"));
        // Bound, and not taken yet.
        check(&[], &[pod("other", "2", None)], None);
    }

    #[test]
    fn who_waits_hears_of_an_end_that_an_earlier_process_began() {
        let (rung, heard) = std::sync::mpsc::channel();
        let ledger = Ledger::new(Arc::new(move |uid| rung.send(uid.to_owned()).unwrap()));
        let known = [pod("own", "1", Some(TAKEN)), pod("other", "2", Some(TAKEN))];
        ledger.note(Occupant::of(&known[0]));
        let asked = || ledger.ask("own", amounts("3"), &known, &amounts("4"));
        assert_eq!(asked().unwrap_err().reason, "Deferred");
        ledger.release("other");
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["own"]);
        assert_eq!(asked(), Ok(()));
        ledger.release("other");
        assert_eq!(heard.try_iter().count(), 0);
    }

    #[test]
    fn what_a_pod_was_granted_counts_and_not_what_it_asks_for() {
        let ledger = Ledger::new(Arc::new(|_| {}));
        ledger.note(Occupant::of(&pod("other", "1", Some(TAKEN))));
        let known = [pod("other", "4", Some(TAKEN))];
        assert_eq!(ledger.ask("own", amounts("3"), &known, &amounts("4")), Ok(()));
    }
}
