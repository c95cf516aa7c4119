//! What the controllers hear, look at and write.

use super::*;

impl World {
    /// As the controllers' own listeners do.
    pub(super) fn deliver(&mut self, kind: Kind) {
        match kind {
            Kind::Deployment => {
                let (old, new) = self.deployments.advance(&self.store);
                for deployment in old.iter().chain(&new) {
                    self.queue(Controller::Deployment, &key(&deployment.metadata));
                }
            }
            Kind::Set => {
                let (old, new) = self.sets.advance(&self.store);
                for set in old.iter().chain(&new) {
                    self.queue(Controller::Set, &key(&set.metadata));
                    match controller_of(&set.metadata) {
                        Some(owner) => self.queue(Controller::Deployment, &owner.name.clone()),
                        None => self.queue(Controller::Deployment, &app(&set.metadata)),
                    }
                }
            }
            Kind::Pod => {
                let (old, new) = self.pods.advance(&self.store);
                for pod in old.iter().chain(&new) {
                    match controller_of(&pod.metadata) {
                        Some(owner) => self.queue(Controller::Set, &owner.name.clone()),
                        None => {
                            let all: Vec<_> = self.sets.objects.keys().cloned().collect();
                            all.iter().for_each(|set| self.queue(Controller::Set, set));
                        }
                    }
                }
                let ended = old.is_some_and(|pod| !is_terminal(&pod))
                    && new.is_none_or(|pod| is_terminal(&pod));
                if ended {
                    let all: Vec<_> = self.deployments.objects.keys().cloned().collect();
                    all.iter().for_each(|key| self.queue(Controller::Deployment, key));
                }
            }
        }
        self.end_rests();
    }

    pub(super) fn end_rests(&mut self) {
        let seen = BTreeMap::from([
            (Kind::Deployment, self.deployments.seen),
            (Kind::Set, self.sets.seen),
            (Kind::Pod, self.pods.seen),
        ]);
        for (which, state) in &mut self.loops {
            let relevant = |kind: &Kind| *kind != Kind::Pod || *which == Controller::Set;
            let is_over = |written: &BTreeMap<Kind, u64>| {
                written.iter().all(|(kind, revision)| !relevant(kind) || seen[kind] >= *revision)
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

    pub(super) fn attempt(&mut self, which: Controller, key: &str) -> Attempt {
        let now = self.now();
        let state = self.loops.get_mut(&which).unwrap();
        state.waiting.remove(key);
        Attempt { now, failure: state.failures.remove(key) }
    }

    pub(super) fn look_at_set(&mut self, key: String) {
        let attempt = self.attempt(Controller::Set, &key);
        let Some(set) = self.sets.objects.get(&key).cloned() else { return };
        let uid = set.metadata.uid.clone().unwrap();
        let app_of_set = app(&set.metadata);
        let is_wanted = |pod: &&Arc<Pod>| match controller_of(&pod.metadata) {
            Some(owner) => owner.uid == uid,
            None => app(&pod.metadata) == app_of_set,
        };
        let pods = self.pods.objects.values().filter(is_wanted).cloned().collect();
        let may_adopt =
            self.store.get(Kind::Set, &key).is_some_and(|fresh| fresh["metadata"]["uid"] == uid);
        let size = usize::try_from(set.spec.as_ref().unwrap().replicas.unwrap()).unwrap();
        let observed =
            replicaset::Observed { set, pods, may_adopt, on_node: BTreeMap::new(), attempt };
        self.begin(Controller::Set, key, replicaset::plan(&observed), size);
    }

    pub(super) fn look_at_deployment(&mut self, key: String) {
        let attempt = self.attempt(Controller::Deployment, &key);
        let Some(deployment) = self.deployments.objects.get(&key).cloned() else { return };
        let uid = deployment.metadata.uid.clone().unwrap();
        let sets: Vec<_> = self
            .sets
            .objects
            .values()
            .filter(|set| match controller_of(&set.metadata) {
                Some(owner) => owner.uid == uid,
                None => app(&set.metadata) == key,
            })
            .cloned()
            .collect();
        let is_old = |pod: &&Arc<Pod>| {
            let mut uids = sets.iter().filter_map(|set| set.metadata.uid.as_deref());
            uids.any(|uid| is_controlled_by(&pod.metadata, uid))
        };
        let observed = deployment::Observed {
            namesake: self.sets.objects.get(&deployment::set_name(&deployment)).cloned(),
            pods: self.pods.objects.values().filter(is_old).cloned().collect(),
            deployment,
            sets,
            may_adopt: true,
            attempt,
        };
        self.begin(Controller::Deployment, key, deployment::plan(&observed), 0);
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
                    self.check_creation(key, size);
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
    let name = write.key().map_or("?", |ObjectKey { name, .. }| name.as_str());
    let body = write.body();
    format!("{:?} {name} x{} {}", write.verb(), body["spec"]["replicas"], body["status"])
}
