//! Everybody acts in turn, and nobody lags: how soon all come to rest.

use super::*;

impl World {
    /// Users change several things at once.
    pub(crate) fn upset(&mut self, changes: usize) {
        for _ in 0..changes {
            self.user();
        }
        self.stop_faults();
    }

    /// Acts until nobody has anything to do; says how many rounds that took, unless there are more
    /// than `rounds_max`.
    pub(crate) fn settle(&mut self, rounds_max: usize) -> Option<usize> {
        (0..rounds_max).find(|_| !self.round())
    }

    /// Says whether anything has happened.
    fn round(&mut self) -> bool {
        let before = self.store.revision();
        self.deliver_all();
        for which in Controller::ALL {
            let keys: Vec<_> = self.loops[&which].waiting.iter().cloned().collect();
            for key in keys {
                self.look(which, key.clone());
                while self.loops[&which].running.contains_key(&key) {
                    self.write(which, &key);
                }
                self.deliver_all();
            }
        }
        let pods = self.store.list(Kind::Pod).filter(|pod| life::can_move(&self.store, pod));
        let pods: Vec<_> = pods.map(name).collect();
        pods.iter().for_each(|pod| self.kubelet(pod));
        for (kind, name) in self.store.garbage() {
            self.store.delete(kind, &name);
        }
        let is_waiting = self.loops.values().any(|state| !state.waiting.is_empty());
        self.store.revision() != before || is_waiting || self.jump_to_what_is_due()
    }

    fn deliver_all(&mut self) {
        while let Some(kind) = self.seen.lagging(&self.store).first() {
            self.deliver(*kind);
        }
    }
}
