//! What must be true, always and at the end.

use super::*;

impl World {
    /// What must be true whenever a pod was created for a set, of which the plan knew this size.
    pub(super) fn check_creation(&mut self, set: &str, size: usize) {
        self.truth.catch_up(&self.store);
        let Some(set) = self.truth.sets.objects.get(set).cloned() else { return };
        let active = self.truth.pods_of(&set).iter().filter(|pod| is_active(pod)).count();
        if active > size {
            self.problem = Some(format!("{active} pods of {:?}, of {size}", set.metadata.name));
        }
        let Some(owner) = controller_of(&set.metadata) else { return };
        let Some(deployment) = self.truth.deployments.objects.get(&owner.name) else { return };
        if self.scenario.rolling.is_none() {
            for other in self.truth.sets_of(deployment) {
                let runs = self.truth.pods_of(&other).iter().any(|pod| !is_terminal(pod));
                if runs && other.metadata.uid != set.metadata.uid {
                    let names = (&set.metadata.name, &other.metadata.name);
                    self.problem = Some(format!("pods of {names:?} run side by side"));
                }
            }
        }
    }

    /// What must be true after every step.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let Some((surge, unavailable)) =
            self.scenario.rolling.filter(|_| self.scenario.is_strict())
        else {
            return Ok(());
        };
        self.truth.catch_up(&self.store);
        for deployment in self.truth.deployments.objects.values() {
            let name = deployment.metadata.name.clone().unwrap();
            let wanted = deployment.spec.as_ref().unwrap().replicas.unwrap();
            let sets = self.truth.sets_of(deployment);
            let there: i32 =
                sets.iter().map(|set| set.spec.as_ref().unwrap().replicas.unwrap()).sum();
            let most = wanted + share(surge, wanted, 99);
            if there > most {
                return Err(format!("{name}: {there} pods are to be there, of {most} at most"));
            }
            let pods = sets.iter().flat_map(|set| self.truth.pods_of(set));
            let available = pods.filter(|pod| is_active(pod) && self.is_available(pod)).count();
            let available = i32::try_from(available).unwrap();
            // What nobody has noticed to be available, nobody can be expected to spare.
            let is_whole = deployment.status.as_ref().is_some_and(|status| {
                let counts = [status.replicas, status.updated_replicas, status.available_replicas];
                counts.iter().all(|count| *count == Some(wanted))
            });
            if is_whole {
                self.were_whole.insert(name.clone());
            }
            let missed = share(unavailable, wanted, 0);
            let missed = if missed == 0 && most == wanted { 1 } else { missed };
            if available < wanted - missed && self.were_whole.contains(&name) {
                return Err(format!("{name}: {available} of {wanted} pods are available"));
            }
        }
        Ok(())
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let since = conditions
            .and_then(|conditions| conditions.first()?.last_transition_time.as_ref())
            .map(|time| time.0.as_second());
        let min = i64::from(self.scenario.min_ready_seconds);
        is_ready(pod) && since.is_some_and(|since| since + min <= self.seconds)
    }

    /// What must be true at rest.
    pub(crate) fn check_rest(&mut self) -> Result<(), String> {
        self.truth.catch_up(&self.store);
        for deployment in self.truth.deployments.objects.values() {
            self.check_whole(deployment)
                .map_err(|problem| format!("{}: {problem}", key(&deployment.metadata)))?;
        }
        Ok(())
    }

    pub(super) fn check_whole(&self, deployment: &Deployment) -> Result<(), String> {
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
                "NewReplicaSetAvailable" if self.scenario.users_change.contains(&"size") => Ok(()),
                other => Err(format!("it is stuck and says {other:?}")),
            };
        }
        let pods: Vec<_> = self
            .truth
            .sets_of(deployment)
            .iter()
            .flat_map(|set| self.truth.pods_of(set))
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
}

/// A number, or a percentage of `total` after adding `rounding` hundredths.
fn share(text: &str, total: i32, rounding: i32) -> i32 {
    match text.strip_suffix('%') {
        Some(percent) => (percent.parse::<i32>().unwrap() * total + rounding) / 100,
        None => text.parse().unwrap(),
    }
}
