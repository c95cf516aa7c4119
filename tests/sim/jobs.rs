//! A Job in a small world of its own: whatever crashes, conflicts, fails or lags, every pod that ends
//! is counted once, and there are never more pods than there may be.

use crate::random::Random;
use crate::{STEPS, STEPS_TO_REST_MAX, seeds};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kinglet::client::{Patch, ResourceType};
use kinglet::control::{Attempt, Failure, Verb, Write};
use kinglet::controllers::job::{Failures, Observed, ObservedJob, plan};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const COMPLETIONS: usize = 8;
const JOB: &str = "job";
/// Users ask for no more pods at once.
const PARALLELISM_MAX: usize = 5;

#[derive(Clone, Copy)]
struct Case {
    indexed: bool,
    only_failed_are_replaced: bool,
    faults: bool,
}

/// A change: of the Job or of a pod, to this or to nothing.
type Change = (String, Option<Value>);

/// What one object was like at a point of the log.
#[derive(Default)]
struct View {
    read: usize,
    objects: BTreeMap<String, Value>,
}

impl View {
    /// Reads one more change that is of its kind.
    fn advance(&mut self, log: &[Change], is_wanted: impl Fn(&str) -> bool) {
        while let Some((name, object)) = log.get(self.read) {
            self.read += 1;
            if is_wanted(name) {
                match object {
                    Some(object) => drop(self.objects.insert(name.clone(), object.clone())),
                    None => drop(self.objects.remove(name)),
                }
                return;
            }
        }
    }
}

struct Small {
    case: Case,
    random: Random,
    objects: BTreeMap<String, Value>,
    log: Vec<Change>,
    jobs: View,
    pods: View,
    created: usize,
    steps: VecDeque<Vec<Write>>,
    /// The log's length that the caches must have reached before the next look.
    rests_until: usize,
    failed: bool,
    wrote: bool,
    at_rest: bool,
    has_faults: bool,
    /// Pods that have ended well while they were to count, or their indexes.
    succeeded: BTreeSet<String>,
    /// Pods that have failed, or were deleted, while they were to count.
    lost: BTreeSet<String>,
    story: Vec<String>,
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn decode<T: DeserializeOwned>(object: &Value) -> Arc<T> {
    serde_json::from_value(object.clone()).unwrap()
}

fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn is_active(pod: &Value) -> bool {
    !is_over(pod) && pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_tracked(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].as_array().is_some_and(|all| all.contains(&json!(FINALIZER)))
}

impl Small {
    fn new(case: Case, seed: u64) -> Self {
        let mut world = Self {
            case,
            random: Random(seed),
            objects: BTreeMap::new(),
            log: Vec::new(),
            jobs: View::default(),
            pods: View::default(),
            created: 0,
            steps: VecDeque::new(),
            rests_until: 0,
            failed: false,
            wrote: false,
            at_rest: false,
            has_faults: true,
            succeeded: BTreeSet::new(),
            lost: BTreeSet::new(),
            story: Vec::new(),
        };
        let replaced = if case.only_failed_are_replaced { "Failed" } else { "TerminatingOrFailed" };
        let mode = if case.indexed { "Indexed" } else { "NonIndexed" };
        let job = json!({
            "metadata": {"name": JOB, "namespace": "n", "uid": "J"},
            "spec": {"parallelism": 3, "completions": COMPLETIONS, "backoffLimit": 1_000_000,
                "completionMode": mode, "suspend": false, "podReplacementPolicy": replaced,
                "selector": {"matchLabels": {"job": "j"}},
                "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"containers": []}}},
            "status": {},
        });
        world.put(JOB, job);
        world
    }

    fn put(&mut self, name: &str, mut object: Value) {
        if self.objects.get(name) == Some(&object) {
            return;
        }
        object["metadata"]["resourceVersion"] = json!((self.log.len() + 1).to_string());
        self.objects.insert(name.to_owned(), object.clone());
        self.log.push((name.to_owned(), Some(object)));
        self.at_rest = false;
    }

    fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        if let Some(mut object) = self.objects.get(name).cloned() {
            edit(&mut object);
            let is_going = object["metadata"]["deletionTimestamp"].is_string();
            let runs = object["status"]["phase"] == "Running";
            if name != JOB && is_going && !runs && !is_tracked(&object) {
                self.objects.remove(name);
                self.log.push((name.to_owned(), None));
            } else {
                self.put(name, object);
            }
        }
    }

    fn pod_names(&self) -> Vec<String> {
        self.objects.keys().filter(|name| *name != JOB).cloned().collect()
    }

    /// Lets one thing happen. Says whether there was one.
    fn step(&mut self) -> bool {
        let mut events: Vec<(&str, String)> = Vec::new();
        if self.jobs.read < self.log.len() {
            events.push(("hear of jobs", String::new()));
        }
        if self.pods.read < self.log.len() {
            events.push(("hear of pods", String::new()));
        }
        let has_seen = self.jobs.read.min(self.pods.read) >= self.rests_until;
        if !self.steps.is_empty() {
            events.push(("write", String::new()));
        } else if has_seen && !self.at_rest {
            events.push(("look", String::new()));
        }
        for name in self.pod_names() {
            let pod = &self.objects[&name];
            if !is_over(pod) {
                events.push(("kubelet", name));
            }
        }
        if self.has_faults && self.case.faults {
            for fault in ["crash", "user"] {
                if self.random.one_in(12) {
                    events.push((fault, String::new()));
                }
            }
        }
        if events.is_empty() {
            return false;
        }
        let (what, name) = self.random.pick(&events).clone();
        self.story.push(format!("{what} {name}"));
        match what {
            "hear of jobs" => self.jobs.advance(&self.log, |name| name == JOB),
            "hear of pods" => self.pods.advance(&self.log, |name| name != JOB),
            "look" => self.look(),
            "write" => self.write(),
            "kubelet" => self.kubelet(&name),
            "crash" => self.crash(),
            _ => self.user(),
        }
        if what.starts_with("hear") {
            self.at_rest = false;
        }
        true
    }

    fn look(&mut self) {
        let Some(job) = self.jobs.objects.get(JOB) else { return };
        let job = decode::<Job>(job);
        let ends = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        if ends.into_iter().any(|it| it.type_ == "Complete" && it.status == "True") {
            self.at_rest = true;
            return;
        }
        let failure = std::mem::take(&mut self.failed).then(|| Failure {
            resource: ResourceType::of::<Pod>(),
            verb: Verb::Create,
            message: "no".to_owned(),
        });
        let observed = ObservedJob {
            job,
            pods: self.pods.objects.values().map(decode).collect(),
            may_adopt: true,
            failures: Failures::default(),
            attempt: Attempt { now: now(), failure },
        };
        let steps = plan(&Observed::Job(Box::new(observed))).steps;
        let writes = |step: Vec<kinglet::control::Planned>| {
            step.into_iter().map(|planned| planned.write).collect()
        };
        self.steps = steps.into_iter().map(writes).collect();
        self.at_rest = self.steps.is_empty() && !self.wrote;
        self.wrote = false;
    }

    /// Makes one write of the step, whichever.
    fn write(&mut self) {
        let step = self.steps.front_mut().unwrap();
        let write = step.remove(self.random.below(step.len()));
        if step.is_empty() {
            self.steps.pop_front();
        }
        self.wrote = true;
        if self.has_faults && self.case.faults && self.random.one_in(10) {
            self.story.push("  which fails".to_owned());
            self.failed = true;
            self.steps.clear();
        } else if self.execute(&write).is_none() {
            self.story.push("  which conflicts".to_owned());
            self.steps.clear();
        }
        self.rests_until = self.log.len();
    }

    /// `None`: the object is not as the write expects it.
    fn execute(&mut self, write: &Write) -> Option<()> {
        let body = write.body();
        let Some(key) = write.key() else {
            self.create(body);
            return Some(());
        };
        let name = key.name.clone();
        let current = self.objects.get(&name)?.clone();
        let is_same = |field: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| current["metadata"][field] == wanted)
        };
        self.story.push(format!("  {:?} {name} {}", write.verb(), body["status"]));
        match write {
            Write::Update { .. } => {
                let version = body["metadata"]["resourceVersion"].as_str();
                is_same("resourceVersion", version).then_some(())?;
                self.edit(&name, |job| job["status"] = body["status"].clone());
            }
            Write::Patch { patch: Patch::Strategic(patch), .. } => {
                let metadata = &patch["metadata"];
                is_same("uid", metadata["uid"].as_str()).then_some(())?;
                is_same("resourceVersion", metadata["resourceVersion"].as_str()).then_some(())?;
                self.edit(&name, |pod| pod["metadata"]["finalizers"] = json!([]));
            }
            Write::Delete { .. } => self.delete(&name),
            other => panic!("{other:?}"),
        }
        Some(())
    }

    fn create(&mut self, mut pod: Value) {
        self.created += 1;
        let name = format!("pod-{}", self.created);
        self.story.push(format!("  create {name}"));
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["uid"] = json!(name);
        pod["status"] = json!({"phase": "Pending"});
        self.put(&name, pod);
    }

    fn delete(&mut self, name: &str) {
        self.edit(name, |pod| pod["metadata"]["deletionTimestamp"] = json!(now()));
    }

    /// One more step of a pod's life.
    fn kubelet(&mut self, name: &str) {
        let pod = self.objects[name].clone();
        let is_going = pod["metadata"]["deletionTimestamp"].is_string();
        let phase = match pod["status"]["phase"].as_str() {
            Some("Pending") if !is_going => "Running",
            _ if is_going || (self.has_faults && self.random.one_in(3)) => "Failed",
            _ => "Succeeded",
        };
        if is_tracked(&pod) && phase == "Succeeded" {
            // Of pods with one index, one counts.
            let index = pod["metadata"]["annotations"][INDEX].as_str();
            self.succeeded.insert(index.unwrap_or(name).to_owned());
        } else if is_tracked(&pod) && phase == "Failed" {
            self.lost.insert(name.to_owned());
        }
        self.edit(name, |pod| pod["status"]["phase"] = json!(phase));
    }

    fn user(&mut self) {
        match self.random.below(4) {
            0 => {
                let parallelism = 1 + self.random.below(PARALLELISM_MAX);
                self.edit(JOB, |job| job["spec"]["parallelism"] = json!(parallelism));
            }
            1 => self.edit(JOB, |job| {
                job["spec"]["suspend"] = json!(job["spec"]["suspend"] != true);
            }),
            2 => {
                let number = self.log.len();
                self.edit(JOB, |job| job["metadata"]["labels"] = json!({"n": number.to_string()}));
            }
            _ => {
                let names = self.pod_names();
                if names.is_empty() {
                    return;
                }
                let name = self.random.pick(&names).clone();
                let pod = self.objects[&name].clone();
                if is_tracked(&pod) && !is_over(&pod) {
                    self.lost.insert(name.clone());
                }
                self.delete(&name);
            }
        }
    }

    /// The controller starts again: what it was about to write may still arrive, and its caches are
    /// listed anew.
    fn crash(&mut self) {
        if !self.steps.is_empty() && self.random.one_in(2) {
            self.write();
        }
        self.steps.clear();
        self.failed = false;
        self.at_rest = false;
        while self.jobs.read < self.log.len() || self.pods.read < self.log.len() {
            self.jobs.advance(&self.log, |name| name == JOB);
            self.pods.advance(&self.log, |name| name != JOB);
        }
    }

    fn count(&self, field: &str) -> usize {
        let status = &self.objects[JOB]["status"];
        let counted = status[field].as_u64().unwrap_or_default();
        let named = status["uncountedTerminatedPods"][field].as_array().map_or(0, Vec::len);
        usize::try_from(counted).unwrap() + named
    }

    /// What must be true after every step.
    fn check(&self) -> Result<(), String> {
        let succeeded = self.succeeded.len();
        for (field, truth) in [("succeeded", succeeded), ("failed", self.lost.len())] {
            if self.count(field) > truth {
                return Err(format!("{} pods have {field}, of {truth}", self.count(field)));
            }
        }
        let pods = self.pod_names();
        let active = pods.iter().filter(|name| is_active(&self.objects[*name])).count();
        if active > PARALLELISM_MAX {
            return Err(format!("{active} pods are active"));
        }
        Ok(())
    }

    /// What must be true at rest.
    fn check_rest(&self) -> Result<(), String> {
        let status = &self.objects[JOB]["status"];
        let is_complete = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Complete" && condition["status"] == "True");
        let succeeded = self.succeeded.len();
        let tracked = self.objects.values().filter(|object| is_tracked(object)).count();
        let counted = (self.count("succeeded"), self.count("failed"));
        let is_exact = counted == (succeeded, self.lost.len()) && succeeded >= COMPLETIONS;
        (is_complete && is_exact && tracked == 0).then_some(()).ok_or_else(|| {
            format!("{counted:?} are counted of {succeeded} and {}: {status}", self.lost.len())
        })
    }

    fn play(mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step();
            self.check().map_err(|problem| self.report(&problem))?;
        }
        self.has_faults = false;
        self.edit(JOB, |job| job["spec"]["suspend"] = json!(false));
        for _ in 0..STEPS_TO_REST_MAX {
            if !self.step() {
                return self.check_rest().map_err(|problem| self.report(&problem));
            }
            self.check().map_err(|problem| self.report(&problem))?;
        }
        Err(self.report("it does not come to rest"))
    }

    fn report(&self, problem: &str) -> String {
        let first = self.story.len().saturating_sub(150);
        format!("{}\n{problem}", self.story[first..].join("\n"))
    }
}

fn play_all(case: Case) {
    for seed in seeds() {
        if let Err(story) = Small::new(case, seed).play() {
            panic!("{story}\nplay it again with SEED={seed}");
        }
    }
}

const CALM: Case = Case { indexed: false, only_failed_are_replaced: false, faults: false };

#[test]
fn every_pod_is_counted_once() {
    play_all(CALM);
    play_all(Case { indexed: true, ..CALM });
}

#[test]
fn every_pod_is_counted_once_whatever_fails() {
    play_all(Case { faults: true, ..CALM });
    play_all(Case { faults: true, only_failed_are_replaced: true, ..CALM });
}

#[test]
fn every_index_is_counted_once_whatever_fails() {
    play_all(Case { faults: true, indexed: true, ..CALM });
}
