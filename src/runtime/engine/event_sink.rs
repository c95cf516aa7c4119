//! Where the runtime says what happens: bounded, never waiting for whoever listens.

use super::super::RuntimeEvent;
use std::sync::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// A listener this far behind gets [`RuntimeEvent::Relist`] in place of what came after.
const EVENTS_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct EventSink {
    channel: Mutex<Channel>,
}

#[derive(Debug)]
struct Channel {
    sender: mpsc::Sender<RuntimeEvent>,
    /// A place for `Relist`, kept free for when there is no other. While it is used, `Relist` is in
    /// the channel behind everything else, and so covers what is dropped.
    reserved: Option<mpsc::OwnedPermit<RuntimeEvent>>,
    /// Until somebody asks for it.
    receiver: Option<mpsc::Receiver<RuntimeEvent>>,
}

impl Channel {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let reserved = sender.clone().try_reserve_owned().ok();
        Self { sender, reserved, receiver: Some(receiver) }
    }

    fn send(&mut self, event: RuntimeEvent) {
        if self.reserved.is_none() {
            self.reserved = self.sender.clone().try_reserve_owned().ok();
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(event)
            && let Some(place) = self.reserved.take()
        {
            place.send(RuntimeEvent::Relist);
        }
    }
}

impl EventSink {
    pub(super) fn new() -> Self {
        Self { channel: Mutex::new(Channel::new()) }
    }

    pub(super) fn send(&self, event: RuntimeEvent) {
        self.channel.lock().expect("no panics under this lock").send(event);
    }

    /// The receiver of all events. Another call takes them away from the receiver before.
    pub(super) fn receiver(&self) -> mpsc::Receiver<RuntimeEvent> {
        let mut channel = self.channel.lock().expect("no panics under this lock");
        if channel.receiver.is_none() {
            *channel = Channel::new();
        }
        channel.receiver.take().expect("a new channel has its receiver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ContainerId, PodIdentity};

    fn event(number: usize) -> RuntimeEvent {
        let container = ContainerId(number.to_string());
        RuntimeEvent::ContainerExited { pod: PodIdentity::default(), container }
    }

    fn drain(receiver: &mut mpsc::Receiver<RuntimeEvent>) -> Vec<RuntimeEvent> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn a_slow_listener_is_told_to_list_again() {
        let sink = EventSink::new();
        let mut receiver = sink.receiver();
        for number in 0..EVENTS_MAX + 10 {
            sink.send(event(number));
        }
        let seen = drain(&mut receiver);
        assert_eq!(seen.len(), EVENTS_MAX);
        assert_eq!(seen.last(), Some(&RuntimeEvent::Relist));
        sink.send(event(1));
        assert_eq!(drain(&mut receiver), [event(1)]);
        for number in 0..2 * EVENTS_MAX {
            sink.send(event(number));
        }
        assert_eq!(drain(&mut receiver).last(), Some(&RuntimeEvent::Relist));
    }

    #[test]
    fn the_last_listener_gets_the_events() {
        let sink = EventSink::new();
        sink.send(event(1));
        let mut first = sink.receiver();
        assert_eq!(drain(&mut first), [event(1)]);
        let mut second = sink.receiver();
        sink.send(event(2));
        assert_eq!(drain(&mut second), [event(2)]);
        assert_eq!(drain(&mut first), []);
    }
}
