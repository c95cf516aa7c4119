//! What must be true at rest.

use super::invariants::target;
use super::*;

impl World {
    pub(crate) fn check_rest(&mut self) -> Result<(), String> {
        self.truth.catch_up(&self.store);
        for name in NAMES {
            let result = match self.scenario.workload {
                Workload::Deployment => {
                    self.check_deployment(&self.truth.deployments.objects[name])
                }
                Workload::ReplicationController => self.check_controller(name),
                Workload::StatefulSet => self.check_stateful_set(name),
                Workload::DaemonSet => self.check_daemon_set(name),
            };
            result.map_err(|problem| format!("{name}: {problem}"))?;
        }
        let garbage = self.store.garbage();
        if garbage.is_empty() { Ok(()) } else { Err(format!("{garbage:?} is left")) }
    }

    fn check_deployment(&self, deployment: &Deployment) -> Result<(), String> {
        let spec = deployment.spec.as_ref().unwrap();
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = spec.replicas.unwrap();
        let image = spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        if status.observed_generation != deployment.metadata.generation {
            return Err("its status is of an older generation".to_owned());
        }
        let conditions = status.conditions.unwrap_or_default();
        let progress = conditions.iter().find(|condition| condition.type_ == "Progressing");
        let progress = progress.and_then(|condition| condition.reason.clone()).unwrap_or_default();
        if image == BROKEN && wanted > 0 {
            return match progress.as_str() {
                "ProgressDeadlineExceeded" => Ok(()),
                // A Deployment without pods is whole; growing from there is no rollout.
                "NewReplicaSetAvailable" if self.scenario.changes("size") => Ok(()),
                other => Err(format!("it is stuck and says {other:?}")),
            };
        }
        let pods: Vec<_> = self
            .truth
            .sets_of(deployment)
            .iter()
            .flat_map(|set| self.truth.pods_of(&set.metadata))
            .filter(|pod| is_active(pod))
            .collect();
        let is_new =
            |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image == Some(image.clone());
        if pods.len() != usize::try_from(wanted).unwrap() || !pods.iter().all(is_new) {
            return Err(format!("it has {} pods of {wanted}, or old ones", pods.len()));
        }
        let told = (status.available_replicas.unwrap_or_default(), progress.as_str());
        if told != (wanted, "NewReplicaSetAvailable") {
            return Err(format!("it says {told:?} of {wanted}"));
        }
        let empty = self
            .truth
            .sets_of(deployment)
            .iter()
            .filter(|set| set.spec.as_ref().unwrap().replicas == Some(0))
            .count();
        (empty <= 2 + usize::from(wanted == 0))
            .then_some(())
            .ok_or(format!("{empty} old sets are left"))
    }

    fn check_controller(&self, name: &str) -> Result<(), String> {
        let controller = &self.truth.replication_controllers.objects[name];
        let wanted = controller.spec.as_ref().unwrap().replicas.unwrap();
        let pods = self.truth.pods_of(&controller.metadata);
        let active = pods.iter().filter(|pod| is_active(pod)).count();
        let status = controller.status.clone().unwrap();
        let generation = controller.metadata.generation;
        if i32::try_from(active).unwrap() != wanted || status.replicas != wanted {
            return Err(format!("it has {active} of {wanted} pods and says {status:?}"));
        }
        if status.observed_generation != generation || status.conditions.is_some() {
            return Err(format!("of generation {generation:?} it says {status:?}"));
        }
        Ok(())
    }

    fn check_stateful_set(&self, name: &str) -> Result<(), String> {
        let set = &self.truth.stateful_sets.objects[name];
        let spec = set.spec.as_ref().unwrap();
        let status = set.status.clone().unwrap();
        let wanted = spec.replicas.unwrap();
        if status.observed_generation != set.metadata.generation {
            return Err("its status is of an older generation".to_owned());
        }
        let pods = self.truth.pods_of(&set.metadata);
        let image =
            |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let newest = spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        if pods.iter().any(|pod| image(pod) == BROKEN) {
            // In order, only users can undo it; otherwise it is as they want it.
            let is_wanted = newest == BROKEN || !self.scenario.parallel || partition(set) > 0;
            return is_wanted.then_some(()).ok_or("a broken pod is left".to_owned());
        }
        let names: BTreeSet<_> = pods.iter().map(|pod| key(&pod.metadata)).collect();
        let expected: BTreeSet<_> =
            (0..wanted).map(|ordinal| format!("{name}-{ordinal}")).collect();
        if names != expected || !pods.iter().all(|pod| is_active(pod) && is_ready(pod)) {
            return Err(format!("its pods are {names:?}, of {wanted}"));
        }
        let old = pods.iter().filter(|pod| image(pod) != newest).count();
        if i32::try_from(old).unwrap() > partition(set) {
            return Err(format!("{old} pods are old, of at most {}", partition(set)));
        }
        let told = (status.replicas, status.ready_replicas.unwrap_or_default());
        if told != (wanted, wanted) {
            return Err(format!("it says {status:?}"));
        }
        let uid = set.metadata.uid.as_deref().unwrap();
        let revisions = self.truth.revisions.objects.values();
        let kept = revisions.filter(|it| is_controlled_by(&it.metadata, uid)).count();
        // The limit, the one of the template, the one before, and one of each pod.
        if kept > 4 + pods.len() {
            return Err(format!("{kept} revisions are left"));
        }
        self.check_claims(name, wanted)
    }

    fn check_claims(&self, name: &str, wanted: i32) -> Result<(), String> {
        let Some((_, scaled)) = self.scenario.claims else { return Ok(()) };
        let claims = &self.truth.claims.objects;
        // Of a pod that runs, a claim that is lost is not made anew.
        let are_lost = self.scenario.changes("claims");
        for ordinal in 0..wanted {
            if !are_lost && !claims.contains_key(&format!("data-{name}-{ordinal}")) {
                return Err(format!("the claim of {name}-{ordinal} is lost"));
            }
        }
        let pods_go = self.scenario.pods_fail
            || self.scenario.changes("pods")
            || self.scenario.changes("recreate");
        let prefix = format!("data-{name}-");
        let is_surplus = |claim: &&String| {
            let ordinal =
                claim.strip_prefix(&prefix).and_then(|ordinal| ordinal.parse::<i32>().ok());
            ordinal.is_some_and(|ordinal| ordinal >= wanted)
        };
        match claims.keys().find(is_surplus) {
            // A pod, or a set, that is gone before its claim was given to it leaves it behind.
            Some(claim) if scaled == "Delete" && !pods_go => Err(format!("{claim} is left")),
            _ => Ok(()),
        }
    }

    fn check_daemon_set(&self, name: &str) -> Result<(), String> {
        let set = &self.truth.daemon_sets.objects[name];
        let spec = set.spec.as_ref().unwrap();
        let status = set.status.clone().unwrap();
        let newest = spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        if status.observed_generation != set.metadata.generation {
            return Err("its status is of an older generation".to_owned());
        }
        let effect = |node: &Node| {
            let taints =
                node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            taints.first().map(|taint| taint.effect.clone())
        };
        let nodes = self.truth.nodes.objects.values();
        let fitting: BTreeSet<_> =
            nodes.filter(|node| effect(node).is_none()).map(|node| key(&node.metadata)).collect();
        let wanted = i32::try_from(fitting.len()).unwrap();
        let mut pods = self.truth.pods_of(&set.metadata);
        pods.retain(|pod| fitting.contains(&target(pod)));
        let on: BTreeSet<_> = pods.iter().map(|pod| target(pod)).collect();
        let surge = usize::from(newest == BROKEN) * fitting.len();
        if on != fitting || pods.len() > fitting.len() + surge {
            return Err(format!("{} pods are on {on:?}, of {fitting:?}", pods.len()));
        }
        if status.desired_number_scheduled != wanted || status.current_number_scheduled != wanted {
            return Err(format!("it says {status:?}"));
        }
        let image =
            |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        if newest == BROKEN || pods.iter().all(|pod| image(pod) == newest && is_ready(pod)) {
            return Ok(());
        }
        Err("a pod is old or not ready".to_owned())
    }
}

fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().unwrap().update_strategy.clone().unwrap();
    strategy.rolling_update.unwrap_or_default().partition.unwrap_or_default()
}
