//! Whether this node takes a pod: decided once, before anything of the pod is made here.

use super::pod::PodWorker;
use crate::api::pod::is_terminal;
use crate::kubelet::pod::plan::Ending;
use crate::kubelet::pod::{PodFacts, Refusal};
use jiff::Timestamp;

impl PodWorker {
    /// A pod that an earlier process has taken stays taken.
    pub(super) fn admit(&mut self, facts: &PodFacts, now: Timestamp) {
        let is_over = self.memory.ending.is_some() || is_terminal(self.pod.object());
        if self.is_admitted || is_over || self.pod.is_deleted() {
            return;
        }
        let was_here = facts.sandbox().is_some() || !facts.containers().is_empty();
        self.is_admitted = was_here || self.pod.started_at().is_some();
        if self.is_admitted {
            return;
        }
        match self.objection() {
            None => self.is_admitted = true,
            Some(refusal) => {
                self.memory.ending = Some((Ending::rejected(&refusal), now));
                self.warn_once(refusal.reason, refusal.message, "");
            }
        }
    }

    /// Why the node does not take the pod, which is for reasons of its own.
    fn objection(&self) -> Option<Refusal> {
        self.shared.shutdown.is_under_way().then(|| Refusal {
            reason: "NodeShutdown",
            message: "Pod was rejected as the node is shutting down.".to_owned(),
        })
    }
}
