//! What users are told about pods: Events, each said once as long as it stays the same.

use super::pod::BoundPod;
use super::pod::plan::Slot;
use crate::client::{EventRecorder, EventType, object_reference};
use k8s_openapi::api::core::v1::ObjectReference;
use std::collections::BTreeMap;

/// The pod, as an event refers to it.
#[must_use]
pub(super) fn pod_reference(pod: &BoundPod) -> ObjectReference {
    object_reference(&**pod.object())
}

/// One container of the pod: `spec.containers{web}`.
#[must_use]
pub(super) fn container_reference(pod: &BoundPod, slot: Slot) -> ObjectReference {
    let list = match slot {
        Slot::Init(_) => "initContainers",
        Slot::App(_) => "containers",
        Slot::Ephemeral(_) => "ephemeralContainers",
    };
    let field_path = Some(format!("spec.{list}{{{}}}", slot.of(pod).name));
    ObjectReference { field_path, ..pod_reference(pod) }
}

/// The place of a name in the spec, where it has one.
#[must_use]
pub(super) fn slot_of(pod: &BoundPod, name: &str) -> Option<Slot> {
    let init = pod.init_containers().iter().position(|container| container.name == name);
    let app = pod.containers().iter().position(|container| container.name == name);
    let ephemeral = pod.ephemeral_containers().iter().position(|it| it.name == name);
    init.map(Slot::Init).or(app.map(Slot::App)).or(ephemeral.map(Slot::Ephemeral))
}

/// Tells of one pod.
#[derive(Debug)]
pub(super) struct Announcer {
    recorder: EventRecorder,
    /// What was said last about each subject.
    said: BTreeMap<(String, &'static str), String>,
}

/// Something to be told.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) regarding: ObjectReference,
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Announcer {
    pub(super) fn new(recorder: EventRecorder) -> Self {
        Self { recorder, said: BTreeMap::new() }
    }

    /// Tells it, whatever was told before.
    pub(super) fn say(&self, news: News) {
        self.recorder.record(news.regarding, news.kind, news.reason, news.message);
    }

    /// Tells it unless it is what was told last under that reason. `occasion` tells apart what is
    /// worded the same and happened again.
    pub(super) fn say_once(&mut self, news: News, occasion: &str) {
        let subject = news.regarding.field_path.clone().unwrap_or_default();
        let text = format!("{occasion}\n{}", news.message);
        let said = self.said.insert((subject, news.reason), text.clone());
        if said.as_ref() != Some(&text) {
            self.say(news);
        }
    }
}
