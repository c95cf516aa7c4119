//! The world: a store, caches that lag behind it, two controllers, a kubelet, and users.

mod invariants;
mod life;
mod passes;
mod view;

use crate::random::Random;
use crate::scenario::Scenario;
use crate::store::{Kind, Store, name};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinglet::api::ObjectKey;
use kinglet::api::owner::{controller_of, is_controlled_by};
use kinglet::api::pod::{is_active, is_ready, is_terminal};
use kinglet::control::{Attempt, Failure, Plan, Write};
use kinglet::controllers::{deployment, replicaset};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use view::{Truth, View};

const BROKEN: &str = "broken";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Deployment,
    Set,
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
    Crash(Controller),
    User,
    Time,
}

pub(crate) struct World {
    scenario: Scenario,
    random: Random,
    store: Store,
    deployments: View<Deployment>,
    sets: View<ReplicaSet>,
    pods: View<Pod>,
    truth: Truth,
    loops: BTreeMap<Controller, Loop>,
    seconds: i64,
    story: Vec<String>,
    has_faults: bool,
    /// Deployments that were whole at least once.
    were_whole: BTreeSet<String>,
    problem: Option<String>,
}

impl World {
    pub(crate) fn new(scenario: Scenario, seed: u64) -> Self {
        let loops = [Controller::Deployment, Controller::Set].map(|which| (which, Loop::default()));
        let mut world = Self {
            scenario,
            random: Random(seed),
            store: Store::default(),
            deployments: View::new(Kind::Deployment),
            sets: View::new(Kind::Set),
            pods: View::new(Kind::Pod),
            truth: Truth::new(),
            loops: loops.into(),
            seconds: 1_763_640_000,
            story: Vec::new(),
            has_faults: true,
            were_whole: BTreeSet::new(),
            problem: None,
        };
        for name in ["web", "api"] {
            let replicas = 1 + world.random.below(6);
            let deployment = world.deployment(name, replicas);
            let now = world.now().to_string();
            world.store.create(Kind::Deployment, deployment, &now).unwrap();
        }
        world
    }

    fn deployment(&self, name: &str, replicas: usize) -> Value {
        let bound = |text: &str| text.parse::<i32>().map_or(json!(text), Value::from);
        let strategy = match self.scenario.rolling {
            None => json!({"type": "Recreate"}),
            Some((surge, unavailable)) => json!({"type": "RollingUpdate", "rollingUpdate":
                {"maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}}),
        };
        json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": replicas, "strategy": strategy, "revisionHistoryLimit": 2,
                "minReadySeconds": self.scenario.min_ready_seconds,
                "progressDeadlineSeconds": self.scenario.progress_deadline_seconds,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "c", "image": "v0"}]}},
            },
        })
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
        let mut events = Vec::new();
        let lagging = [
            (Kind::Deployment, self.deployments.lags(&self.store)),
            (Kind::Set, self.sets.lags(&self.store)),
            (Kind::Pod, self.pods.lags(&self.store)),
        ];
        events.extend(
            lagging.iter().filter(|(_, lags)| *lags).map(|(kind, _)| Event::Deliver(*kind)),
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
            let is_broken = pod["spec"]["containers"][0]["image"] == BROKEN;
            let (is_bound, phase) =
                (pod["spec"]["nodeName"].is_string(), pod["status"]["phase"].as_str());
            let is_going = pod["metadata"]["deletionTimestamp"].is_string();
            if is_going || !is_bound || (phase.is_none() && !is_broken) {
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
                events.push(Event::Crash(
                    *self.random.pick(&[Controller::Deployment, Controller::Set]),
                ));
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
            Event::Look(Controller::Set, key) => self.look_at_set(key),
            Event::Look(Controller::Deployment, key) => self.look_at_deployment(key),
            Event::Write(which, key) => self.write(which, &key),
            Event::Kubelet(pod) => self.kubelet(&pod),
            Event::PodFails(pod) => self.store.edit(Kind::Pod, &pod, |pod| {
                pod["status"] = json!({"phase": "Failed"});
            }),
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
        while self.deployments.lags(&self.store)
            || self.sets.lags(&self.store)
            || self.pods.lags(&self.store)
        {
            for kind in [Kind::Deployment, Kind::Set, Kind::Pod] {
                self.deliver(kind);
            }
        }
        let waiting: BTreeSet<_> = match which {
            Controller::Deployment => self.deployments.objects.keys().cloned().collect(),
            Controller::Set => self.sets.objects.keys().cloned().collect(),
        };
        self.loops.insert(which, Loop { waiting, ..Loop::default() });
    }

    pub(crate) fn report(&self, problem: &str) -> String {
        /// The last of the story is what matters.
        const LINES_MAX: usize = 200;
        let first = self.story.len().saturating_sub(LINES_MAX);
        let mut text = self.story[first..].join("\n");
        for kind in [Kind::Deployment, Kind::Set] {
            for object in self.store.list(kind) {
                text += &format!(
                    "\n{} {} x{} generation {} {}",
                    name(object),
                    object["spec"]["template"]["spec"]["containers"][0]["image"],
                    object["spec"]["replicas"],
                    object["metadata"]["generation"],
                    object["status"]
                );
            }
        }
        format!("{text}\n{problem}")
    }
}

fn key(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap()
}

fn app(metadata: &ObjectMeta) -> String {
    metadata.labels.as_ref().and_then(|labels| labels.get("app")).cloned().unwrap_or_default()
}
