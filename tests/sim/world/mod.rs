//! The world: a store, caches that lag behind it, controllers, a kubelet, and users.

mod invariants;
mod life;
mod looks;
mod objects;
mod passes;
mod rest;
mod rounds;
mod view;

use crate::random::Random;
use crate::scenario::{Scenario, Workload};
use crate::store::{Kind, Store, name};
use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinglet::api::ObjectKey;
use kinglet::api::owner::{controller_of, is_controlled_by};
use kinglet::api::pod::{is_active, is_ready, is_terminal, node_name};
use kinglet::control::{Attempt, Failure, Plan, Write};
use kinglet::controllers::{daemonset, deployment, replicaset, statefulset};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use view::Views;

const BROKEN: &str = "broken";

/// The nodes there are at first.
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// The names of the two workloads in a world.
const NAMES: [&str; 2] = ["web", "api"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Deployment,
    Set,
    Replication,
    Stateful,
    Daemon,
}

impl Controller {
    const ALL: [Self; 5] =
        [Self::Deployment, Self::Set, Self::Replication, Self::Stateful, Self::Daemon];

    /// The kind of its keys.
    fn kind(self) -> Kind {
        match self {
            Self::Deployment => Kind::Deployment,
            Self::Set => Kind::Set,
            Self::Replication => Kind::ReplicationController,
            Self::Stateful => Kind::StatefulSet,
            Self::Daemon => Kind::DaemonSet,
        }
    }

    /// The kinds whose caches it waits for.
    fn watches(self, kind: Kind) -> bool {
        let more: &[Kind] = match self {
            Self::Deployment => &[Kind::Set],
            Self::Set | Self::Replication => &[Kind::Pod],
            Self::Stateful => &[Kind::Pod, Kind::Revision, Kind::Claim],
            Self::Daemon => &[Kind::Pod, Kind::Revision, Kind::Node],
        };
        kind == self.kind() || more.contains(&kind)
    }
}

/// What a pass has left to write.
#[derive(Debug)]
struct Pass {
    steps: VecDeque<Vec<Write>>,
    written: BTreeMap<Kind, u64>,
    /// For sets: the size that the plan was made for.
    size: usize,
    recheck_after: Option<Duration>,
}

/// The queue and the passes of a controller.
#[derive(Debug, Default)]
struct Loop {
    waiting: BTreeSet<String>,
    due: BTreeMap<String, i64>,
    running: BTreeMap<String, Pass>,
    resting: BTreeMap<String, BTreeMap<Kind, u64>>,
    failures: BTreeMap<String, Failure>,
}

/// Something that can happen next.
#[derive(Debug)]
enum Event {
    Deliver(Kind),
    Look(Controller, String),
    Write(Controller, String),
    Kubelet(String),
    PodFails(String),
    Collect(Kind, String),
    Crash(Controller),
    User,
    Time,
}

pub(crate) struct World {
    scenario: Scenario,
    random: Random,
    store: Store,
    seen: Views,
    truth: Views,
    loops: BTreeMap<Controller, Loop>,
    seconds: i64,
    story: Vec<String>,
    has_faults: bool,
    /// Workloads that were whole at least once.
    were_whole: BTreeSet<String>,
    problem: Option<String>,
}

impl World {
    pub(crate) fn new(scenario: Scenario, seed: u64) -> Self {
        let loops = Controller::ALL.map(|which| (which, Loop::default()));
        let mut world = Self {
            scenario,
            random: Random(seed),
            store: Store::default(),
            seen: Views::new(),
            truth: Views::new(),
            loops: loops.into(),
            seconds: 1_763_640_000,
            story: Vec::new(),
            has_faults: true,
            were_whole: BTreeSet::new(),
            problem: None,
        };
        for node in NODES {
            world.add_node(node);
        }
        for name in NAMES {
            world.add_workload(name);
        }
        world
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds).unwrap()
    }

    /// Lets one thing happen, of all that can. Says whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let events = self.events();
        if events.is_empty() {
            return self.jump_to_what_is_due();
        }
        let chosen = self.random.below(events.len());
        let event = events.into_iter().nth(chosen).expect("one of them");
        self.happen(event);
        true
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events: Vec<_> =
            self.seen.lagging(&self.store).into_iter().map(Event::Deliver).collect();
        events.extend(
            self.store.garbage().into_iter().map(|(kind, name)| Event::Collect(kind, name)),
        );
        for (which, state) in &self.loops {
            let busy = |key: &&String| {
                !state.running.contains_key(*key) && !state.resting.contains_key(*key)
            };
            events.extend(
                state.waiting.iter().filter(busy).map(|key| Event::Look(*which, key.clone())),
            );
            events.extend(state.running.keys().map(|key| Event::Write(*which, key.clone())));
        }
        for pod in self.store.list(Kind::Pod) {
            let is_going = pod["metadata"]["deletionTimestamp"].is_string();
            let phase = pod["status"]["phase"].as_str();
            if life::can_move(&self.store, pod) {
                events.push(Event::Kubelet(name(pod)));
            }
            if self.has_faults && self.scenario.pods_fail && phase == Some("Running") && !is_going {
                // Seldom enough for rollouts to end now and then.
                if self.random.one_in(20) {
                    events.push(Event::PodFails(name(pod)));
                }
            }
        }
        if self.has_faults {
            events.push(Event::Time);
            if self.random.one_in(4) {
                events.push(Event::User);
            }
            if self.scenario.crashes && self.random.one_in(8) {
                events.push(Event::Crash(*self.random.pick(&Controller::ALL)));
            }
        }
        events
    }

    /// Nothing else can happen: time passes until a key is due. At the end there is none.
    fn jump_to_what_is_due(&mut self) -> bool {
        let due = self.loops.values().flat_map(|state| state.due.values()).min().copied();
        let Some(due) = due else { return false };
        self.seconds = self.seconds.max(due);
        self.wake();
        self.story.push(format!("it is {}", self.seconds));
        true
    }

    fn happen(&mut self, event: Event) {
        self.story.push(format!("{event:?}"));
        match event {
            Event::Deliver(kind) => self.deliver(kind),
            Event::Look(which, key) => self.look(which, key),
            Event::Write(which, key) => self.write(which, &key),
            Event::Kubelet(pod) => self.kubelet(&pod),
            Event::PodFails(pod) => self.store.edit(Kind::Pod, &pod, |pod| {
                pod["status"] = json!({"phase": "Failed"});
            }),
            Event::Collect(kind, name) => {
                self.store.delete(kind, &name);
            }
            Event::Crash(which) => self.crash(which),
            Event::User => self.user(),
            Event::Time => {
                self.seconds += 1 + i64::try_from(self.random.below(5)).unwrap();
                self.wake();
            }
        }
    }

    fn wake(&mut self) {
        for state in self.loops.values_mut() {
            let due: Vec<_> = state
                .due
                .iter()
                .filter(|(_, at)| **at <= self.seconds)
                .map(|(key, _)| key.clone())
                .collect();
            for key in due {
                state.due.remove(&key);
                state.waiting.insert(key);
            }
        }
    }

    fn queue(&mut self, which: Controller, key: &str) {
        self.loops.get_mut(&which).unwrap().waiting.insert(key.to_owned());
    }

    /// A controller starts again and knows nothing but what its caches show. They are shared, and
    /// have been listed anew.
    fn crash(&mut self, which: Controller) {
        // Writes on their way may still arrive.
        let running: Vec<_> = self.loops[&which].running.keys().cloned().collect();
        for key in running {
            if self.random.one_in(2) {
                self.write(which, &key);
            }
        }
        for kind in Kind::ALL {
            while self.seen.lagging(&self.store).contains(&kind) {
                self.deliver(kind);
            }
        }
        let waiting = self.seen.names(which.kind());
        self.loops.insert(which, Loop { waiting, ..Loop::default() });
    }

    pub(crate) fn report(&self, problem: &str) -> String {
        /// The last of the story is what matters.
        const LINES_MAX: usize = 400;
        let first = self.story.len().saturating_sub(LINES_MAX);
        let mut text = self.story[first..].join("\n");
        for kind in
            Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Node | Kind::Revision))
        {
            for object in self.store.list(kind) {
                text += &format!(
                    "\n{kind:?} {} {} x{} generation {} {}",
                    name(object),
                    object["spec"]["template"]["spec"]["containers"][0]["image"],
                    object["spec"]["replicas"],
                    object["metadata"]["generation"],
                    object["status"]
                );
            }
        }
        format!("{text}\n{:?}\n{problem}", self.scenario)
    }
}

fn key(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap()
}

fn app(metadata: &ObjectMeta) -> String {
    metadata.labels.as_ref().and_then(|labels| labels.get("app")).cloned().unwrap_or_default()
}
