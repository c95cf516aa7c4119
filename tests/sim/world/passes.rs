//! What the controllers hear and write.

use super::view::Delivered;
use super::*;

impl World {
    /// As the controllers' own listeners do, if with less of an eye for what concerns whom.
    pub(super) fn deliver(&mut self, kind: Kind) {
        let Delivered { versions, has_ended } = self.seen.advance(kind, &self.store);
        for metadata in &versions {
            for which in Controller::ALL {
                if which.kind() == kind {
                    self.queue(which, &key(metadata));
                }
            }
            match controller_of(metadata) {
                Some(owner) => {
                    let which = match &*owner.kind {
                        "Deployment" => Controller::Deployment,
                        "ReplicaSet" => Controller::Set,
                        "ReplicationController" => Controller::Replication,
                        "StatefulSet" => Controller::Stateful,
                        "DaemonSet" => Controller::Daemon,
                        "Pod" => continue,
                        other => panic!("{other}"),
                    };
                    self.queue(which, &owner.name.clone());
                }
                None => {
                    self.queue_all(|which| which != Controller::Deployment || kind == Kind::Set)
                }
            }
        }
        if has_ended {
            self.queue_all(|which| which == Controller::Deployment);
        }
        if matches!(kind, Kind::Claim) {
            self.queue_all(|which| which == Controller::Stateful);
        }
        self.end_rests();
    }

    fn queue_all(&mut self, is_wanted: impl Fn(Controller) -> bool) {
        for which in Controller::ALL.into_iter().filter(|which| is_wanted(*which)) {
            let names = self.seen.names(which.kind());
            self.loops.get_mut(&which).unwrap().waiting.extend(names);
        }
    }

    pub(super) fn end_rests(&mut self) {
        let seen = self.seen.seen(&self.store);
        for (which, state) in &mut self.loops {
            let is_over = |written: &BTreeMap<Kind, u64>| {
                written
                    .iter()
                    .all(|(kind, revision)| !which.watches(*kind) || seen[kind] >= *revision)
            };
            let over: Vec<_> = state
                .resting
                .iter()
                .filter(|(_, it)| is_over(it))
                .map(|(key, _)| key.clone())
                .collect();
            for key in over {
                state.resting.remove(&key);
                state.waiting.insert(key);
            }
        }
    }

    pub(super) fn begin(&mut self, which: Controller, key: String, plan: Plan, size: usize) {
        let writes =
            |step: Vec<_>| step.into_iter().map(|planned: kinglet::control::Planned| planned.write);
        let steps = plan.steps.into_iter().map(|step| writes(step).collect()).collect();
        let pass =
            Pass { steps, written: BTreeMap::new(), size, recheck_after: plan.recheck_after };
        self.loops.get_mut(&which).unwrap().running.insert(key.clone(), pass);
        self.end_if_done(which, &key);
    }

    /// Makes one write of the pass, whichever of its step.
    pub(super) fn write(&mut self, which: Controller, key: &str) {
        let pass = self.loops.get_mut(&which).unwrap().running.get_mut(key).unwrap();
        let step = pass.steps.front_mut().unwrap();
        let write = step.remove(self.random.below(step.len()));
        if step.is_empty() {
            pass.steps.pop_front();
        }
        let size = pass.size;
        self.story.push(format!("  {}", brief(&write)));
        if self.has_faults && self.scenario.failing_writes && self.random.one_in(10) {
            self.story.push("  which fails".to_owned());
            let failure = Failure {
                resource: write.resource().clone(),
                verb: write.verb(),
                message: "no".to_owned(),
            };
            let state = self.loops.get_mut(&which).unwrap();
            state.failures.insert(key.to_owned(), failure);
            self.end(which, key);
            return;
        }
        let now = self.now().to_string();
        match self.store.execute(&write, &now) {
            Ok(revision) => {
                let pass = self.loops.get_mut(&which).unwrap().running.get_mut(key).unwrap();
                pass.written.insert(Kind::of(&write), revision);
                if matches!(write, Write::Create { .. }) && Kind::of(&write) == Kind::Pod {
                    self.check_creation(which, key, &write, size);
                }
                self.end_if_done(which, key);
            }
            Err(_) => {
                self.story.push("  which conflicts".to_owned());
                self.end(which, key);
            }
        }
    }

    pub(super) fn end_if_done(&mut self, which: Controller, key: &str) {
        let state = self.loops.get_mut(&which).unwrap();
        let pass = &state.running[key];
        if !pass.steps.is_empty() {
            return;
        }
        if pass.written.is_empty() {
            let pass = state.running.remove(key).unwrap();
            if let Some(after) = pass.recheck_after {
                // A second more, since this clock has whole ones.
                let at = self.seconds + i64::try_from(after.as_secs()).unwrap() + 1;
                let due = state.due.entry(key.to_owned()).or_insert(at);
                *due = at.min(*due);
            }
            return;
        }
        self.end(which, key);
    }

    /// The key rests until the caches have seen what was written.
    pub(super) fn end(&mut self, which: Controller, key: &str) {
        let state = self.loops.get_mut(&which).unwrap();
        let pass = state.running.remove(key).unwrap();
        state.resting.insert(key.to_owned(), pass.written);
        self.end_rests();
    }
}

fn brief(write: &Write) -> String {
    let body = write.body();
    let created = body["metadata"]["name"].as_str().unwrap_or("?");
    let name = write.key().map_or(created, |ObjectKey { name, .. }| name.as_str());
    let kind = Kind::of(write);
    format!("{:?} {kind:?} {name} x{} {}", write.verb(), body["spec"]["replicas"], body["status"])
}
