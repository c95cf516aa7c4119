//! What users see of the scheduler, from the first look at a pod to its node: state, plan and queue
//! together, without an API server.

use super::plugins::testing::{node, whole_pod};
use super::preempt::PREEMPTED_REASON;
use super::state::{Action, Outcome, State, Task, Written};
use crate::api::ObjectKey;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cluster whose writes take effect at once.
struct Cluster {
    state: State,
    now: Instant,
    pods: BTreeMap<String, Arc<Pod>>,
}

fn of<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

impl Cluster {
    /// Nodes `n0`, `n1`... of one processor each, in zones `z0`, `z1`...
    fn new(nodes: usize) -> Self {
        let mut cluster =
            Self { state: State::default(), now: crate::stdx::monotonic(), pods: BTreeMap::new() };
        for index in 0..nodes {
            cluster.node(
                &format!("n{index}"),
                json!({
                    "metadata": {"labels": {"zone": format!("z{index}")}},
                    "status": {"allocatable": {"cpu": "1"}},
                }),
            );
        }
        cluster
    }

    fn node(&mut self, name: &str, more: Value) {
        let node: Arc<Node> = Arc::new(node(name, more));
        self.state.note_node(name, None, Some(&node));
    }

    fn set(&mut self, name: &str, pod: Option<Pod>) {
        let new = pod.map(Arc::new);
        let old = match &new {
            Some(new) => self.pods.insert(name.to_owned(), Arc::clone(new)),
            None => self.pods.remove(name),
        };
        self.state.note_pod(&ObjectKey::namespaced("default", name), old.as_ref(), new.as_ref());
    }

    fn pod(&mut self, name: &str, spec: Value) {
        let pod = whole_pod(name, json!({"spec": spec})).pod;
        self.set(name, Some((*pod).clone()));
    }

    /// A pod that asks for so much of a processor.
    fn asking(&mut self, name: &str, cpu: &str, priority: i32) {
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
        self.pod(name, json!({"priority": priority, "containers": containers}));
    }

    fn claim(&mut self, name: &str, more: Value) {
        let mut claim = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "annotations": {}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "resources": {"requests": {"storage": "1Gi"}}},
        });
        merge(&mut claim, more);
        let key = ObjectKey::namespaced("default", name);
        let claim: Arc<PersistentVolumeClaim> = of(claim);
        let is_new = self.state.snapshot.storage.claims.insert(key.clone(), claim).is_none();
        let event = if is_new {
            super::event::Event::ClaimAdded(&key)
        } else {
            super::event::Event::ClaimChanged(&key)
        };
        self.state.note_storage(Some(&event), self.now);
    }

    fn volume(&mut self, name: &str, node: &str) {
        let zone = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        let volume: Arc<PersistentVolume> = of(json!({
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "capacity": {"storage": "1Gi"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}},
            },
            "status": {"phase": "Available"},
        }));
        self.state.snapshot.storage.volumes.insert(name.to_owned(), volume);
        self.state.note_storage(Some(&super::event::Event::VolumeAdded), self.now);
    }

    fn class(&mut self, provisioner: &str, mode: &str) {
        let class = json!({"metadata": {"name": "slow"}, "provisioner": provisioner, "volumeBindingMode": mode});
        self.state.snapshot.storage.classes.insert("slow".to_owned(), of(class));
        self.state.note_storage(None, self.now);
    }

    /// Does all there is to do. Says what was done, in order.
    fn run(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..100 {
            let actions = self.state.next_actions(8, self.now);
            if actions.is_empty() {
                return done;
            }
            for action in actions {
                done.push(format!("{} {}", action.pod.key.name, render(&action.task)));
                self.carry_out(&action);
                let outcome = match action.task {
                    Task::PrepareVolumes { .. } => Outcome::Prepared(Written::default()),
                    _ => Outcome::Done,
                };
                self.state.settle(&action, outcome, self.now);
            }
        }
        panic!("it runs in circles: {done:?}");
    }

    fn carry_out(&mut self, action: &Action) {
        let name = &action.pod.key.name;
        let Some(pod) = self.pods.get(name) else { return };
        let mut pod = (**pod).clone();
        match &action.task {
            Task::Bind { node } => pod.spec.as_mut().unwrap().node_name = Some(node.clone()),
            Task::PrepareVolumes { node, provisions, .. } => {
                for claim in provisions {
                    let selected = json!({"volume.kubernetes.io/selected-node": node});
                    let name = claim.metadata.name.clone().unwrap();
                    self.claim(&name, json!({"metadata": {"annotations": selected}}));
                }
                return;
            }
            Task::Report(told) | Task::Preempt(told, _) => {
                if let Some(node) = &told.nomination {
                    let node = Some(node.clone()).filter(|node| !node.is_empty());
                    pod.status.get_or_insert_default().nominated_node_name = node;
                }
            }
        }
        self.set(name, Some(pod));
        if let Task::Preempt(_, preemption) = &action.task {
            for victim in &preemption.victims {
                let mut pod = (*victim.pod).clone();
                pod.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
                let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": PREEMPTED_REASON}]);
                pod.status.get_or_insert_default().conditions =
                    serde_json::from_value(condition).unwrap();
                self.set(&victim.key.name, Some(pod));
            }
        }
    }
}

fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            over.into_iter()
                .for_each(|(key, inner)| merge(value.entry(key).or_insert(Value::Null), inner));
        }
        (value, over) => *value = over,
    }
}

fn render(task: &Task) -> String {
    match task {
        Task::Bind { node } => format!("to {node}"),
        Task::PrepareVolumes { node, bindings, provisions } => {
            let name = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
                metadata.name.clone().unwrap()
            };
            let bound = bindings.iter().map(|(volume, claim)| {
                format!(" {}={}", name(&claim.metadata), name(&volume.metadata))
            });
            let made = provisions.iter().map(|claim| format!(" {}=new", name(&claim.metadata)));
            format!("needs on {node}{}", bound.chain(made).collect::<String>())
        }
        Task::Report(told) => format!("{}: {}", told.reason, told.message),
        Task::Preempt(told, preemption) => {
            let victims: Vec<_> =
                preemption.victims.iter().map(|pod| pod.key.name.as_str()).collect();
            assert_eq!(told.nomination.as_ref(), Some(&preemption.node));
            format!("stops {} on {}", victims.join(","), preemption.node)
        }
    }
}

#[test]
fn pods_beyond_what_the_nodes_have_wait_until_there_is_room() {
    let mut cluster = Cluster::new(1);
    cluster.asking("a", "600m", 0);
    cluster.asking("b", "600m", 0);
    let short = "b Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes \
                 are available: 1 No preemption victims found for incoming pod.";
    assert_eq!(cluster.run(), ["a to n0", short]);
    assert_eq!(cluster.run(), [""; 0]);
    cluster.set("a", None);
    assert_eq!(cluster.run(), ["b to n0"]);
}

#[test]
fn a_pod_that_wants_a_label_waits_for_a_node_with_it() {
    let mut cluster = Cluster::new(2);
    cluster.pod("a", json!({"nodeSelector": {"zone": "z1"}}));
    cluster.pod("b", json!({"nodeSelector": {"zone": "z9"}}));
    let refused = "b Unschedulable: 0/2 nodes are available: 2 node(s) didn't match Pod's node \
                   affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful \
                   for scheduling.";
    assert_eq!(cluster.run(), ["a to n1", refused]);
    cluster.node("other", json!({}));
    assert_eq!(cluster.run(), [""; 0]);
    cluster.node("right", json!({"metadata": {"labels": {"zone": "z9"}}}));
    assert_eq!(cluster.run(), ["b to right"]);
}

#[test]
fn a_host_port_on_every_address_conflicts_with_one_on_any() {
    let mut cluster = Cluster::new(1);
    let port = |address: &str, protocol: &str| {
        let port = json!({"containerPort": 80, "hostPort": 54321, "hostIP": address, "protocol": protocol});
        json!({"containers": [{"name": "c", "ports": [port]}]})
    };
    cluster.pod("a", port("", "TCP"));
    cluster.pod("b", port("127.0.0.1", "TCP"));
    cluster.pod("c", port("127.0.0.1", "UDP"));
    let refused = "b Unschedulable: 0/1 nodes are available: 1 node(s) didn't have free ports for the \
                   requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims \
                   found for incoming pod.";
    assert_eq!(cluster.run(), ["a to n0", refused, "c to n0"]);
}

#[test]
fn an_important_pod_takes_the_room_of_a_less_important_one() {
    let mut cluster = Cluster::new(2);
    cluster.asking("low", "600m", 1);
    cluster.asking("middle", "600m", 100);
    assert_eq!(cluster.run().len(), 2);
    cluster.asking("high", "600m", 1_000);
    let room = cluster.run();
    assert!(room[0].starts_with("high stops low on "), "{room:?}");
    // It is kept for it while the other is on its way out.
    cluster.asking("late", "400m", 0);
    cluster.asking("small", "600m", 0);
    let refused = cluster.run();
    assert!(refused.iter().any(|one| one == "late to n0" || one == "late to n1"), "{refused:?}");
    assert!(refused.iter().any(|one| one.starts_with("small Unschedulable")), "{refused:?}");
    cluster.set("low", None);
    let done = cluster.run();
    assert!(done.iter().any(|one| one.starts_with("high to ")), "{done:?}");
    assert!(!done.iter().any(|one| one.starts_with("small to ")), "{done:?}");
}

#[test]
fn devices_go_to_the_most_important_level_by_level() {
    let mut cluster = Cluster::new(0);
    cluster.node("n", json!({"status": {"allocatable": {"example.com/fakecpu": "1k"}}}));
    let mut bound = 0;
    for (level, (pods, devices)) in [(5, "200"), (3, "300"), (2, "450")].into_iter().enumerate() {
        for index in 0..pods {
            let resources = json!({"requests": {"example.com/fakecpu": devices}});
            let priority = 10 * (level + 1);
            let containers = json!([{"name": "c", "resources": resources}]);
            let name = format!("level{level}-{index}");
            cluster.pod(&name, json!({"priority": priority, "containers": containers}));
            cluster.run();
            // What was stopped ends at once.
            let is_stopped = |pod: &Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
            let stopped: Vec<_> = cluster
                .pods
                .iter()
                .filter(|(_, pod)| is_stopped(pod))
                .map(|(name, _)| name.clone())
                .collect();
            stopped.iter().for_each(|name| cluster.set(name, None));
            cluster.run();
        }
        let is_of_level = |(name, pod): &(&String, &Arc<Pod>)| {
            name.starts_with(&format!("level{level}")) && crate::api::pod::is_bound(pod)
        };
        bound += usize::from(cluster.pods.iter().filter(is_of_level).count() == pods);
    }
    assert_eq!(bound, 3, "each level has all of its pods before the next comes");
    assert!(cluster.pods.values().filter(|pod| crate::api::pod::is_bound(pod)).count() == 2);
}

#[test]
fn a_pod_whose_claim_was_promised_to_another_is_told_when_that_gives_up() {
    let mut cluster = Cluster::new(1);
    cluster.class("driver", "WaitForFirstConsumer");
    cluster.claim("data", json!({}));
    cluster.pod("a", with_claim("data"));
    cluster.pod("b", with_claim("data"));
    let done = cluster.run();
    assert_eq!(done[0], "a needs on n0 data=new");
    assert!(done[1].contains("unbound immediate PersistentVolumeClaims"), "{done:?}");
    cluster.set("a", None);
    assert_eq!(cluster.run(), ["b needs on n0 data=new"]);
}

#[test]
fn a_gated_pod_is_not_tried_before_its_gates_are_gone() {
    let mut cluster = Cluster::new(1);
    cluster.pod("a", json!({"schedulingGates": [{"name": "wait"}]}));
    assert_eq!(cluster.run(), [""; 0]);
    cluster.pod("a", json!({"schedulingGates": []}));
    assert_eq!(cluster.run(), ["a to n0"]);
}

#[test]
fn pods_of_other_schedulers_count_and_are_left_alone() {
    let mut cluster = Cluster::new(1);
    cluster.pod("a", json!({"schedulerName": "other"}));
    assert_eq!(cluster.run(), [""; 0]);
    let containers = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
    cluster.pod("a", json!({"schedulerName": "other", "nodeName": "n0", "containers": containers}));
    cluster.asking("b", "1", 0);
    assert!(cluster.run()[0].starts_with("b Unschedulable"));
}

#[test]
fn a_pod_that_fits_nowhere_is_tried_again_after_five_minutes() {
    let mut cluster = Cluster::new(1);
    cluster.asking("a", "2", 0);
    assert_eq!(cluster.run().len(), 1);
    let wake = cluster.state.next_wake(cluster.now).unwrap();
    assert_eq!(wake - cluster.now, Duration::from_secs(300));
    cluster.now = wake;
    assert_eq!(cluster.run().len(), 1);
}

fn with_claim(claim: &str) -> Value {
    json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]})
}

#[test]
fn pods_wait_for_claims_that_are_bound_without_them() {
    let mut cluster = Cluster::new(1);
    let told = |why: &str| {
        format!(
            "a Unschedulable: 0/1 nodes are available: {why}. preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling."
        )
    };
    cluster.pod("a", with_claim("data"));
    assert_eq!(cluster.run(), [told("persistentvolumeclaim \"data\" not found")]);
    cluster.class("driver", "Immediate");
    cluster.claim("data", json!({}));
    assert_eq!(cluster.run(), [told("pod has unbound immediate PersistentVolumeClaims")]);
    cluster.volume("disk", "n0");
    cluster.claim(
        "data",
        json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "disk"},
        }),
    );
    assert_eq!(cluster.run(), ["a to n0"]);
}

#[test]
fn a_pod_follows_the_volume_that_its_claim_has() {
    let mut cluster = Cluster::new(3);
    cluster.class("driver", "Immediate");
    cluster.volume("disk", "n1");
    let bound = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "disk"},
    });
    cluster.claim("data", bound);
    cluster.pod("a", with_claim("data"));
    assert_eq!(cluster.run(), ["a to n1"]);
}

#[test]
fn a_delayed_claim_takes_a_volume_that_is_there_or_has_one_made() {
    let mut cluster = Cluster::new(2);
    cluster.class("driver", "WaitForFirstConsumer");
    cluster.volume("disk", "n1");
    cluster.claim("one", json!({}));
    cluster.claim("two", json!({}));
    let pinned = |claim: &str| {
        let mut spec = with_claim(claim);
        spec["nodeSelector"] = json!({"zone": "z1"});
        spec
    };
    cluster.pod("a", pinned("one"));
    cluster.pod("b", pinned("two"));
    // The volume is promised before anybody has written that down.
    assert_eq!(cluster.run(), ["a needs on n1 one=disk", "b needs on n1 two=new"]);
    cluster.claim(
        "two",
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}),
    );
    assert_eq!(cluster.run(), [""; 0]);
    let bound = |volume: &str| {
        json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume},
        })
    };
    cluster.claim("one", bound("disk"));
    assert_eq!(cluster.run(), ["a to n1"]);
    cluster.claim("two", bound("made"));
    assert_eq!(cluster.run(), ["b to n1"]);
}

#[test]
fn a_volume_that_cannot_be_made_sends_the_pod_elsewhere() {
    let mut cluster = Cluster::new(2);
    cluster.class("driver", "WaitForFirstConsumer");
    cluster.claim("data", json!({}));
    let mut spec = with_claim("data");
    spec["nodeSelector"] = json!({"zone": "z0"});
    cluster.pod("a", spec);
    assert_eq!(cluster.run(), ["a needs on n0 data=new"]);
    // The provisioner gives up by taking the annotation away.
    cluster.claim("data", json!({}));
    assert_eq!(
        cluster.run(),
        ["a SchedulerError: binding volumes: provisioning failed for claim default/data"]
    );
    cluster.now += Duration::from_secs(1);
    assert_eq!(cluster.run(), ["a needs on n0 data=new"]);
    cluster.now += Duration::from_secs(600);
    let late = cluster.run();
    assert_eq!(late[0], "a SchedulerError: binding volumes: context deadline exceeded");
}

#[test]
fn without_volumes_or_a_provisioner_a_delayed_claim_keeps_its_pod_waiting() {
    let mut cluster = Cluster::new(1);
    cluster.class("kubernetes.io/no-provisioner", "WaitForFirstConsumer");
    cluster.claim("data", json!({}));
    cluster.pod("a", with_claim("data"));
    let told = "a Unschedulable: 0/1 nodes are available: 1 node(s) didn't find available persistent \
                volumes to bind. preemption: 0/1 nodes are available: 1 Preemption is not helpful for \
                scheduling.";
    assert_eq!(cluster.run(), [told]);
    cluster.volume("disk", "n0");
    assert_eq!(cluster.run(), ["a needs on n0 data=disk"]);
}

#[test]
fn a_claim_for_one_pod_is_not_given_to_two() {
    let mut cluster = Cluster::new(2);
    cluster.class("driver", "Immediate");
    cluster.volume("disk", "n0");
    cluster.claim(
        "data",
        json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "disk", "accessModes": ["ReadWriteOncePod"]},
        }),
    );
    cluster.pod("a", with_claim("data"));
    cluster.pod("b", with_claim("data"));
    let done = cluster.run();
    assert_eq!(done[0], "a to n0");
    assert!(
        done[1].contains("ReadWriteOncePod access mode already in-use by another pod"),
        "{done:?}"
    );
    cluster.set("a", None);
    assert_eq!(cluster.run(), ["b to n0"]);
}
