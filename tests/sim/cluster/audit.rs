//! The truth: every object as of the newest commit, and rules that every commit is held against
//! before anybody hears of it.

use kinglet::storage::Event;
use serde_json::Value;
use std::collections::BTreeMap;

/// Objects by the keys of the store: `/core/pods/default/web`.
pub(crate) type Objects = BTreeMap<String, Value>;

/// What a commit has done to one object.
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) old: Option<Value>,
    pub(crate) new: Option<Value>,
}

impl Change {
    /// The object if it is of this kind: of `core/pods` for one.
    pub(crate) fn new_of(&self, kind: &str) -> Option<&Value> {
        self.new.as_ref().filter(|_| is_of(&self.key, kind))
    }

    /// Users would not notice it: somebody lives, or has told something.
    fn is_noise(&self) -> bool {
        let noisy = ["/coordination.k8s.io/leases/", "/core/events/", "/events.k8s.io/events/"];
        if noisy.iter().any(|prefix| self.key.starts_with(prefix)) {
            return true;
        }
        let (Some(old), Some(new)) = (&self.old, &self.new) else { return false };
        is_of(&self.key, "core/nodes") && without_heartbeat(old) == without_heartbeat(new)
    }
}

fn without_heartbeat(node: &Value) -> Value {
    let mut node = node.clone();
    for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastHeartbeatTime"] = Value::Null;
    }
    node["metadata"]["managedFields"] = Value::Null;
    node
}

fn is_of(key: &str, kind: &str) -> bool {
    key.strip_prefix('/')
        .and_then(|key| key.strip_prefix(kind))
        .is_some_and(|it| it.starts_with('/'))
}

type Rule = Box<dyn FnMut(&Objects, &Change) -> Result<(), String> + Send>;

/// See the module.
#[derive(Default)]
pub(crate) struct Audit {
    pub(crate) objects: Objects,
    rules: Vec<Rule>,
    problem: Option<String>,
    /// Commits that changed something that matters.
    pub(crate) changes: u64,
}

impl Audit {
    /// From now on this holds after every commit.
    pub(crate) fn rule(
        &mut self,
        rule: impl FnMut(&Objects, &Change) -> Result<(), String> + Send + 'static,
    ) {
        self.rules.push(Box::new(rule));
    }

    pub(super) fn take(&mut self, events: &[Event]) {
        let decode = |bytes: &bytes::Bytes| serde_json::from_slice::<Value>(bytes).ok();
        let mut changes = Vec::new();
        for event in events {
            let key = event.key.as_str().to_owned();
            let Some(new) = event.value.as_ref().map(decode) else {
                let old = self.objects.remove(&key);
                changes.push(Change { key, old, new: None });
                continue;
            };
            // What is not an object is the API server's own.
            let Some(new) = new else { continue };
            let old = self.objects.insert(key.clone(), new.clone());
            changes.push(Change { key, old, new: Some(new) });
        }
        for change in &changes {
            self.changes += u64::from(!change.is_noise());
            for rule in &mut self.rules {
                if let Err(problem) = rule(&self.objects, change) {
                    self.problem.get_or_insert(problem);
                }
            }
        }
    }

    /// What was found wrong first.
    pub(crate) fn problem(&mut self) -> Option<String> {
        self.problem.take()
    }
}

/// All objects of a kind, such as `core/pods`.
pub(crate) fn list<'a>(objects: &'a Objects, kind: &str) -> impl Iterator<Item = &'a Value> {
    let prefix = format!("/{kind}/");
    let from = objects.range(prefix.clone()..);
    from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, object)| object)
}

pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(crate) fn is_going(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// What the pod's containers ask for, in thousandths of a processor.
pub(crate) fn millicores(pod: &Value) -> u64 {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.map(|container| millis(text(container, "/resources/requests/cpu"))).sum()
}

/// `1` or `250m`.
pub(crate) fn millis(amount: &str) -> u64 {
    match amount.strip_suffix('m') {
        Some(millis) => millis.parse().unwrap(),
        None if amount.is_empty() => 0,
        None => amount.parse::<u64>().unwrap() * 1_000,
    }
}
