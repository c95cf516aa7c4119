//! Nothing is created beyond the quotas of its namespace (upstream `ResourceQuota`, apiserver
//! pkg/admission/plugin/resourcequota, v1.35).
//!
//! Start at [`charge`]. What a quota has used is written in the commit of the object that uses it,
//! so that no two objects are ever given the same room, and nothing is charged for what is not
//! stored. Those who use the same quotas take turns, so that they do not race. Upstream writes the
//! quota first, and waits until it is counted anew where the object is refused after that.

use super::super::verbs::{Call, Part};
use super::facts::{self, Fact};
use super::{Attributes, Grounds, Operation, Want};
use crate::api::quota::{self, Charge, Counted, Subject};
use crate::api::status::Status;
use crate::registry::Object;
use crate::storage::Op;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::api::resource::v1::ResourceClaim;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Mutex as Line, OwnedMutexGuard};

/// Those who are about to be charged, one after the other in each namespace.
#[derive(Debug, Default)]
pub(in super::super) struct Turns(Mutex<BTreeMap<String, Weak<Line<()>>>>);

/// Held from the look at the quotas until they are written.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    async fn wait(&self, namespace: &str) -> Turn {
        let line = {
            let mut lines = self.0.lock().expect("no panics under this lock");
            lines.retain(|_, line| line.strong_count() > 0);
            let known = lines.get(namespace).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let line = Arc::new(Line::new(()));
                lines.insert(namespace.to_owned(), Arc::downgrade(&line));
                line
            })
        };
        line.lock_owned().await
    }
}

/// What is charged for, and what it takes the place of.
struct Use<'a> {
    new: Subject<'a>,
    old: Option<Subject<'a>>,
}

/// Adds to the commit what the quotas of the namespace have used with the object.
pub(super) async fn charge(
    call: &Call<'_>,
    attributes: &Attributes<'_>,
    grounds: &mut Grounds,
) -> Result<(), Status> {
    let (Some(used), Some(namespace)) = (use_of(attributes), attributes.namespace) else {
        return Ok(());
    };
    let refused = |refusal: quota::Refusal| attributes.forbidden(&refusal.to_string());
    if look(call, &used, namespace).await?.map_err(refused)?.is_empty() {
        return Ok(());
    }
    grounds.turn = Some(call.server.quota_turns.wait(namespace).await);
    let charged = look(call, &used, namespace).await?.map_err(refused)?;
    grounds.ops.extend(charged);
    Ok(())
}

async fn look(
    call: &Call<'_>,
    used: &Use<'_>,
    namespace: &str,
) -> Result<Result<Vec<Op>, quota::Refusal>, Status> {
    let quotas = facts::read(call.server, &Want::all_in("", "resourcequotas", namespace)).await?;
    let all: Vec<&ResourceQuota> =
        quotas.iter().filter_map(|fact| fact.object.as_any().downcast_ref()).collect();
    let now = call.server.config.clock.now();
    let charges = quota::charge(&all, used.new, used.old, now);
    let write = |charge: &Charge| {
        let quota = all[charge.quota].clone();
        write(&quotas[charge.quota], quota, charge)
    };
    Ok(charges.map(|charges| {
        let mut ops: Vec<Op> = charges.iter().map(write).collect();
        let waiting = quota::uncounted(&all, used.new).into_iter();
        let waiting = waiting.filter(|index| charges.iter().all(|charge| charge.quota != *index));
        ops.extend(waiting.map(|index| touch(&quotas[index], all[index])));
        ops
    }))
}

/// Writes a quota as it is: a count that began before is refused, and made again.
fn touch(fact: &Fact, quota: &ResourceQuota) -> Op {
    Op::Update { key: fact.key.clone(), value: quota.encode(), expected: fact.revision }
}

fn write(fact: &Fact, mut quota: ResourceQuota, charge: &Charge) -> Op {
    let used = charge.used.iter().map(|(name, amount)| (name.clone(), amount.to_field()));
    quota.status.get_or_insert_default().used = Some(used.collect());
    Op::Update { key: fact.key.clone(), value: quota.encode(), expected: fact.revision }
}

/// Upstream's evaluators say what they handle. Events are never charged for.
fn use_of<'a>(attributes: &'a Attributes<'_>) -> Option<Use<'a>> {
    let facts = &attributes.kind.facts;
    let counted = Counted { group: &facts.group, plural: &facts.plural };
    match &attributes.operation {
        Operation::Create(_) if facts.kind == "Event" => None,
        Operation::Create(object) => Some(Use { new: subject(&**object, counted), old: None }),
        Operation::Update { object, old, part } => {
            let (new, old) = (subject(&**object, counted), subject(*old, counted));
            let is_charged = match (new, old, part) {
                (
                    Subject::Service(_) | Subject::Claim(_) | Subject::Devices(_),
                    _,
                    Part::Object,
                ) => true,
                (Subject::Claim(_), _, Part::Status) => true,
                (Subject::Pod(_), _, Part::Of("resize")) => true,
                (Subject::Pod(new), Subject::Pod(old), Part::Object) => {
                    has_deadline(new) != has_deadline(old)
                }
                _ => false,
            };
            is_charged.then_some(Use { new, old: Some(old) })
        }
        Operation::Delete(_) => None,
    }
}

/// Whether the pod is in the scope of those that end by themselves.
fn has_deadline(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.active_deadline_seconds.is_some())
}

fn subject<'a>(object: &'a dyn Object, counted: Counted<'a>) -> Subject<'a> {
    let object = object.as_any();
    if let Some(pod) = object.downcast_ref::<Pod>() {
        Subject::Pod(pod)
    } else if let Some(service) = object.downcast_ref::<Service>() {
        Subject::Service(service)
    } else if let Some(claim) = object.downcast_ref::<PersistentVolumeClaim>() {
        Subject::Claim(claim)
    } else if let Some(claim) = object.downcast_ref::<ResourceClaim>() {
        Subject::Devices(claim)
    } else {
        Subject::Other(counted)
    }
}
