//! What must be true always.

use super::*;

impl World {
    /// What must be true whenever a pod was created. `size` is that of its set, as far as the plan
    /// knew.
    pub(super) fn check_creation(
        &mut self,
        which: Controller,
        key: &str,
        write: &Write,
        size: usize,
    ) {
        self.truth.catch_up(&self.store);
        let problem = match which {
            Controller::Set => self.check_set(key, size),
            Controller::Replication => {
                let owner = self.truth.replication_controllers.objects.get(key).cloned();
                owner.and_then(|owner| self.check_size(&owner.metadata, size))
            }
            Controller::Stateful => self.check_order(key, &write.body()),
            Controller::Daemon => self.check_nodes(key),
            Controller::Deployment => unreachable!("it creates no pods"),
        };
        self.problem = self.problem.take().or(problem);
    }

    fn check_size(&self, owner: &ObjectMeta, size: usize) -> Option<String> {
        let active = self.truth.pods_of(owner).iter().filter(|pod| is_active(pod)).count();
        (active > size).then(|| format!("{active} pods of {:?}, of {size}", owner.name))
    }

    fn check_set(&self, set: &str, size: usize) -> Option<String> {
        let set = self.truth.sets.objects.get(set)?;
        let problem = self.check_size(&set.metadata, size);
        if problem.is_some() || self.scenario.rolling.is_some() {
            return problem;
        }
        let owner = controller_of(&set.metadata)?;
        let deployment = self.truth.deployments.objects.get(&owner.name)?;
        for other in self.truth.sets_of(deployment) {
            let runs = self.truth.pods_of(&other.metadata).iter().any(|pod| !is_terminal(pod));
            if runs && other.metadata.uid != set.metadata.uid {
                let names = (&set.metadata.name, &other.metadata.name);
                return Some(format!("pods of {names:?} run side by side"));
            }
        }
        None
    }

    /// A pod of an ordered set is created when all before it are ready; one below the partition is
    /// created as it was.
    fn check_order(&self, name: &str, pod: &Value) -> Option<String> {
        let set = self.truth.stateful_sets.objects.get(name)?;
        let created = crate::store::name(pod);
        let claims = pod["spec"]["volumes"].as_array().into_iter().flatten();
        for claim in claims.filter_map(|it| it["persistentVolumeClaim"]["claimName"].as_str()) {
            if !self.truth.claims.objects.contains_key(claim) && !self.scenario.changes("claims") {
                let is_collected = self.scenario.changes("recreate");
                return (!is_collected).then(|| format!("{created} has no {claim}"));
            }
        }
        if self.scenario.parallel || !self.scenario.is_strict() {
            return None;
        }
        let ordinal: i32 = created.rsplit_once('-')?.1.parse().ok()?;
        let pods = self.truth.pods_of(&set.metadata);
        let is_before =
            |pod: &Arc<Pod>, below: i32| pod.metadata.name == Some(format!("{name}-{below}"));
        for below in 0..ordinal {
            let before = pods.iter().find(|pod| is_before(pod, below));
            if !before.is_some_and(|pod| is_active(pod) && self.is_available(pod)) {
                return Some(format!("{created} is created before {name}-{below} is available"));
            }
        }
        None
    }

    /// A node has one pod, or two where there is a surge.
    fn check_nodes(&self, name: &str) -> Option<String> {
        let set = self.truth.daemon_sets.objects.get(name)?;
        if self.scenario.changes("pods") {
            return None;
        }
        let most = if self.surge() > 0 { 2 } else { 1 };
        let mut on_node = BTreeMap::<String, usize>::new();
        for pod in self.truth.pods_of(&set.metadata).iter().filter(|pod| is_active(pod)) {
            *on_node.entry(target(pod)).or_default() += 1;
        }
        let (node, count) = on_node.into_iter().find(|(_, count)| *count > most)?;
        Some(format!("{count} pods of {name} are for {node}"))
    }

    fn surge(&self) -> i32 {
        let nodes = i32::try_from(NODES.len()).unwrap();
        self.scenario.rolling.map_or(0, |(surge, _)| share(surge, nodes, 99))
    }

    /// What must be true after every step.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        if self.scenario.rolling.is_none() || !self.scenario.is_strict() {
            return Ok(());
        }
        self.truth.catch_up(&self.store);
        match self.scenario.workload {
            Workload::Deployment => self.check_deployments(),
            Workload::ReplicationController => Ok(()),
            Workload::StatefulSet => self.check_stateful_sets(),
            Workload::DaemonSet => self.check_daemon_sets(),
        }
    }

    fn check_deployments(&mut self) -> Result<(), String> {
        let (surge, unavailable) = self.scenario.rolling.expect("looked at before");
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
            let pods = sets.iter().flat_map(|set| self.truth.pods_of(&set.metadata));
            let available = self.available(pods);
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

    fn check_stateful_sets(&mut self) -> Result<(), String> {
        let (_, unavailable) = self.scenario.rolling.expect("looked at before");
        for set in self.truth.stateful_sets.objects.values() {
            let name = set.metadata.name.clone().unwrap();
            let wanted = set.spec.as_ref().unwrap().replicas.unwrap();
            let available = self.available(self.truth.pods_of(&set.metadata).into_iter());
            let status = set.status.clone().unwrap_or_default();
            if status.available_replicas == Some(wanted) && available == wanted {
                self.were_whole.insert(name.clone());
            }
            let missed = share(unavailable, wanted, 0).max(1);
            if available < wanted - missed && self.were_whole.contains(&name) {
                return Err(format!("{name}: {available} of {wanted} pods are available"));
            }
        }
        Ok(())
    }

    fn check_daemon_sets(&mut self) -> Result<(), String> {
        let (_, unavailable) = self.scenario.rolling.expect("looked at before");
        let nodes = i32::try_from(self.truth.nodes.objects.len()).unwrap();
        for set in self.truth.daemon_sets.objects.values() {
            let name = set.metadata.name.clone().unwrap();
            let pods = self.truth.pods_of(&set.metadata);
            let mut available = BTreeSet::new();
            for pod in pods.iter().filter(|pod| is_active(pod) && self.is_available(pod)) {
                available.insert(target(pod));
            }
            let available = i32::try_from(available.len()).unwrap();
            let status = set.status.clone().unwrap_or_default();
            // A status counts pods that are going, too.
            if status.number_available == Some(nodes) && available == nodes {
                self.were_whole.insert(name.clone());
            }
            let missed = share(unavailable, nodes, 99);
            let missed = if missed == 0 && self.surge() == 0 { 1 } else { missed };
            if available < nodes - missed && self.were_whole.contains(&name) {
                return Err(format!("{name}: {available} of {nodes} nodes have an available pod"));
            }
        }
        Ok(())
    }

    fn available(&self, pods: impl Iterator<Item = Arc<Pod>>) -> i32 {
        let available = pods.filter(|pod| is_active(pod) && self.is_available(pod)).count();
        i32::try_from(available).unwrap()
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let since = conditions
            .and_then(|conditions| conditions.first()?.last_transition_time.as_ref())
            .map(|time| time.0.as_second());
        let min = i64::from(self.scenario.min_ready_seconds);
        is_ready(pod) && since.is_some_and(|since| since + min <= self.seconds)
    }
}

/// The node that a pod is on, or shall be.
pub(super) fn target(pod: &Pod) -> String {
    if let Some(node) = node_name(pod) {
        return node.to_owned();
    }
    let spec = serde_json::to_value(&pod.spec).unwrap();
    let pinned = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/\
        nodeSelectorTerms/0/matchFields/0/values/0";
    spec.pointer(pinned).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A number, or a percentage of `total` after adding `rounding` hundredths.
fn share(text: &str, total: i32, rounding: i32) -> i32 {
    match text.strip_suffix('%') {
        Some(percent) => (percent.parse::<i32>().unwrap() * total + rounding) / 100,
        None => text.parse().unwrap(),
    }
}
