//! What users are told about the containers of a pod: the words are upstream's.

use super::pod::PodWorker;
use crate::client::EventType;
use crate::kubelet::announce::{News, container_reference, slot_of};
use crate::kubelet::pod::PodFacts;
use crate::kubelet::pod::plan::{PodPlan, Slot, Waiting};

impl PodWorker {
    pub(super) fn tell_of_container(&self, slot: Slot, reason: &'static str, message: &str) {
        let regarding = container_reference(&self.pod, slot);
        let message = message.to_owned();
        self.announcer.say(News { regarding, kind: EventType::Normal, reason, message });
    }

    /// A container could not be made or started.
    pub(super) fn tell_of_failure(&mut self, slot: Slot, message: &str) {
        let regarding = container_reference(&self.pod, slot);
        let message = format!("Error: {message}");
        let news = News { regarding, kind: EventType::Warning, reason: "Failed", message };
        self.announcer.say_once(news, "");
    }

    /// A container waits for an image that could not be had.
    pub(super) fn tell_of_image(&mut self, slot: Slot, waiting: &Waiting) {
        if waiting.reason == "ImagePullBackOff" {
            let image = slot.of(&self.pod).image.clone().unwrap_or_default();
            self.announcer.say_once(
                News {
                    regarding: container_reference(&self.pod, slot),
                    kind: EventType::Normal,
                    reason: "BackOff",
                    message: format!("Back-off pulling image {image:?}"),
                },
                &waiting.message,
            );
        }
        self.tell_of_failure(slot, waiting.reason);
    }

    /// Containers that crash and have to wait, once for each crash.
    pub(super) fn tell_of_back_off(&mut self, facts: &PodFacts, plan: &PodPlan) {
        for name in plan.backing_off.keys() {
            let Some(slot) = slot_of(&self.pod, name) else { continue };
            let crash = facts.latest(name).map(|latest| latest.status.id.0.clone());
            self.announcer.say_once(
                News {
                    regarding: container_reference(&self.pod, slot),
                    kind: EventType::Warning,
                    reason: "BackOff",
                    message: format!(
                        "Back-off restarting failed container {name} in pod {}",
                        self.pod
                    ),
                },
                &crash.unwrap_or_default(),
            );
        }
    }
}
