//! Whether this node takes a pod: decided once, before anything of the pod is made here.

use super::pod::PodWorker;
use crate::api::pod::is_terminal;
use crate::client::EventType;
use crate::kubelet::announce::pod_reference;
use crate::kubelet::eviction::Eviction;
use crate::kubelet::pod::plan::Ending;
use crate::kubelet::pod::{
    Admission, Occupant, PREEMPTED_CONDITION, PREEMPTED_MESSAGE, PREEMPTING, PodFacts, Refusal,
    Surroundings, admit,
};
use crate::kubelet::tally::Happening;
use crate::stdx::chain;
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

/// How far a pod's admission is.
#[derive(Clone, Debug, Default)]
pub(super) enum Progress {
    #[default]
    Undecided,
    /// It has its place as soon as these, by their uids, have gone.
    Waits(Vec<String>),
    Done,
}

impl Progress {
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

impl PodWorker {
    /// Whether the pod has its place, or ends. A pod that an earlier process has taken stays taken.
    pub(super) async fn admit(&mut self, facts: &PodFacts, now: Timestamp) -> bool {
        let is_over = self.memory.ending.is_some() || is_terminal(self.pod.object());
        if self.admission.is_done() || is_over || self.pod.is_deleted() {
            return true;
        }
        if let Progress::Waits(others) = &self.admission {
            if self.shared.ledger.waits_for(self.pod.uid(), others) {
                return false;
            }
            return self.settle();
        }
        let was_here = facts.sandbox().is_some() || !facts.containers().is_empty();
        if was_here || self.pod.started_at().is_some() {
            self.shared.ledger.note(Occupant::of(self.pod.object()));
            return self.settle();
        }
        match self.decide().await {
            Admission::Taken => self.settle(),
            Admission::TakenAfter(others) => {
                self.preempt(&others);
                let waits = self.shared.ledger.waits_for(self.pod.uid(), &others);
                self.admission = Progress::Waits(others);
                !waits && self.settle()
            }
            Admission::Refused(refusal) => {
                self.memory.ending = Some((Ending::rejected(&refusal), now));
                let (regarding, Refusal { reason, message }) = (pod_reference(&self.pod), refusal);
                self.shared.tally.note_happening(Happening::Rejected(reason.to_string()));
                self.shared.events.record(regarding, EventType::Warning, &reason, message);
                true
            }
        }
    }

    async fn decide(&self) -> Admission {
        let node = match self.shared.keeper.node_anyway().await {
            Ok(node) => node,
            Err(error) => {
                warn!(pod = %self.pod, error = chain(&*error), "the node cannot be looked at");
                let message = "Kubelet cannot get node info.".to_owned();
                return Admission::Refused(Refusal { reason: "InvalidNodeInfo".into(), message });
            }
        };
        let pressure = self.shared.keeper.pressure();
        let is_going_down = self.shared.shutdown.is_under_way();
        let has_apparmor = self.shared.confinement.has_apparmor;
        let occupant = Occupant::of(self.pod.object());
        self.shared.ledger.admit(occupant, &self.shared.all_pods(), |others| {
            let (node, pressure) = (&*node, &pressure);
            let around = Surroundings { node, others, pressure, is_going_down, has_apparmor };
            admit(&self.pod, &around)
        })
    }

    /// The pod has its place: what it asks for beyond that has been asked for since.
    fn settle(&mut self) -> bool {
        self.admission = Progress::Done;
        self.refresh();
        true
    }

    /// Has pods go that matter less than this one.
    fn preempt(&self, others: &[String]) {
        for uid in others {
            let eviction = Eviction {
                reason: PREEMPTING,
                message: PREEMPTED_MESSAGE.to_owned(),
                grace: SignedDuration::MAX,
                disruption: Some(PREEMPTED_CONDITION.to_owned()),
            };
            if self.shared.evictions.order(uid, eviction) {
                info!(pod = %self.pod, pod_uid = uid, "a pod has to go for a critical one");
            }
            self.shared.bell.ring(uid);
        }
    }
}
