//! Admission: what may be written, and what is filled in that depends on other objects.
//!
//! Start at [`PLUGINS`]. A plugin says which facts it wants, is given them, and decides; it never
//! reads the store itself; what nobody has written since is remembered ([`remembered`]). As upstream has it, all plugins change an object before it is validated
//! by its kind ([`Admission::mutate`]), and all judge it afterwards ([`Admission::validate`]).
//! Built-in kinds have been defaulted before, as upstream's decoder does.

mod agent_volumes;
mod certificate_approval;
mod certificate_subject;
mod claim_resize;
mod default_class;
mod default_ingress_class;
mod default_storage_class;
mod device_admin;
mod facts;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod node_tokens;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod remembered;
mod resource_quota;
mod runtime_class;
mod service_account;
mod service_ranges;
mod storage_protection;
mod tolerations;

use self::facts::{Facts, Gathered, Want};
pub(super) use self::node_restriction::check_eviction;
pub(super) use self::node_tokens::check_token;
pub(super) use self::pod_topology_labels::NodeTopology;
pub(super) use self::remembered::Remembered;
use self::resource_quota::Turn;
pub(super) use self::resource_quota::Turns;
pub(super) use self::service_ranges::service_ranges;
use super::authz::{Ask, Authorizer, Decision};
use super::identity::Identity;
use super::rbac::Action;
use super::tally::Step;
use super::verbs::{Call, Part};
use crate::api::status::{Status, Subject};
use crate::registry::{Kind, Object};
use crate::stdx::monotonic;
use crate::storage::Op;
use k8s_openapi::api::core::v1::Pod;
use std::fmt;

/// What is about to happen to an object.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    Create(&'a mut dyn Object),
    Update { object: &'a mut dyn Object, old: &'a dyn Object, part: Part },
    Delete(&'a dyn Object),
}

impl Operation<'_> {
    /// By upstream's name.
    fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "CREATE",
            Self::Update { .. } => "UPDATE",
            Self::Delete(_) => "DELETE",
        }
    }
}

/// What a plugin judges.
#[derive(Debug)]
struct Attributes<'a> {
    kind: &'a Kind,
    namespace: Option<&'a str>,
    /// Who asks.
    identity: &'a Identity,
    authorizer: &'a Authorizer,
    topology: &'a NodeTopology,
    /// What generated names are made from.
    entropy: u128,
    operation: Operation<'a>,
}

/// What must still be so when the object is stored, and what is written with it. Kept until then.
#[derive(Debug, Default)]
pub(super) struct Grounds {
    /// Operations for the same commit.
    pub(super) ops: Vec<Op>,
    turn: Option<Turn>,
}

type Wants = fn(&Attributes<'_>) -> Vec<Want>;

/// Fills in what the object is to have.
struct Mutation {
    wants: Wants,
    apply: fn(&mut Attributes<'_>, &Facts<'_>) -> Result<(), Status>,
}

/// Says what is wrong with the object. What is only doubtful, it says to the client.
struct Judgement {
    wants: Wants,
    judge: fn(&Attributes<'_>, &Facts<'_>, &mut Warnings) -> Result<(), Status>,
}

type Warnings = Vec<String>;

/// One step of admission.
struct Plugin {
    name: &'static str,
    mutation: Option<Mutation>,
    judgement: Option<Judgement>,
}

/// In upstream's order (kubeapiserver pkg/kubeapiserver/options/plugins.go, v1.35), with one of our own
/// beside the one that it is like. ResourceQuota,
/// the last, is not among them: it is the only one that writes ([`resource_quota::charge`]).
const PLUGINS: &[Plugin] = &[
    namespace_lifecycle::PLUGIN,
    limit_ranger::PLUGIN,
    service_account::PLUGIN,
    node_restriction::PLUGIN,
    agent_volumes::PLUGIN,
    node_taint::PLUGIN,
    pod_security::PLUGIN,
    priority::PLUGIN,
    tolerations::PLUGIN,
    default_storage_class::PLUGIN,
    storage_protection::PLUGIN,
    claim_resize::PLUGIN,
    runtime_class::PLUGIN,
    certificate_approval::APPROVAL,
    certificate_approval::SIGNING,
    certificate_subject::PLUGIN,
    default_ingress_class::PLUGIN,
    pod_topology_labels::PLUGIN,
    device_admin::PLUGIN,
];

impl fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// The admission of one object, which sees every fact as it was when it first asked.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    call: &'a Call<'a>,
    entropy: u128,
    gathered: Gathered,
}

impl<'a> Admission<'a> {
    pub(super) fn of(call: &'a Call<'a>) -> Self {
        Self { call, entropy: call.server.config.entropy.draw(), gathered: Gathered::default() }
    }

    /// Lets every plugin fill in its part.
    pub(super) async fn mutate<'b>(&mut self, operation: Operation<'b>) -> Result<(), Status>
    where
        'a: 'b,
    {
        let (began, name) = (monotonic(), operation.name());
        let outcome = self.mutate_in_turn(operation).await;
        self.call.server.tally.admission.note(Step::Admit, name, began, &outcome);
        outcome
    }

    /// Asks every plugin. What the answer rests on goes into the commit of the object.
    pub(super) async fn validate<'b>(&mut self, operation: Operation<'b>) -> Result<Grounds, Status>
    where
        'a: 'b,
    {
        let (began, name) = (monotonic(), operation.name());
        let outcome = self.judge_in_turn(operation).await;
        self.call.server.tally.admission.note(Step::Validate, name, began, &outcome);
        outcome
    }

    async fn mutate_in_turn<'b>(&mut self, operation: Operation<'b>) -> Result<(), Status>
    where
        'a: 'b,
    {
        let mut attributes = self.attributes(operation);
        for mutation in PLUGINS.iter().filter_map(|plugin| plugin.mutation.as_ref()) {
            let wants = (mutation.wants)(&attributes);
            self.gathered.gather(self.call, &wants).await?;
            (mutation.apply)(&mut attributes, &self.gathered.facts(&wants))?;
        }
        Ok(())
    }

    async fn judge_in_turn<'b>(&mut self, operation: Operation<'b>) -> Result<Grounds, Status>
    where
        'a: 'b,
    {
        let attributes = self.attributes(operation);
        let mut warnings = Warnings::new();
        for judgement in PLUGINS.iter().filter_map(|plugin| plugin.judgement.as_ref()) {
            let wants = (judgement.wants)(&attributes);
            self.gathered.gather(self.call, &wants).await?;
            (judgement.judge)(&attributes, &self.gathered.facts(&wants), &mut warnings)?;
        }
        warnings.into_iter().for_each(|text| self.call.warn(text));
        let mut grounds = Grounds { ops: self.gathered.grounds(), turn: None };
        resource_quota::charge(self.call, &attributes, &mut grounds).await?;
        Ok(grounds)
    }

    fn attributes<'b>(&self, operation: Operation<'b>) -> Attributes<'b>
    where
        'a: 'b,
    {
        let Call { kind, namespace, identity, .. } = *self.call;
        let (authorizer, topology) = (&self.call.server.authorizer, &self.call.server.topology);
        let entropy = self.entropy;
        Attributes { kind, namespace, identity, authorizer, topology, entropy, operation }
    }
}

impl Attributes<'_> {
    /// The object to be created, where it is a `T`.
    fn created<T: 'static>(&mut self) -> Option<&mut T> {
        match &mut self.operation {
            Operation::Create(object) => object.as_any_mut().downcast_mut(),
            _ => None,
        }
    }

    /// As [`Attributes::created`], to look at.
    fn creating<T: 'static>(&self) -> Option<&T> {
        match &self.operation {
            Operation::Create(object) => object.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The new and the old object of an update of the object itself, where they are a `T`.
    fn updated<T: 'static>(&mut self) -> Option<(&mut T, &T)> {
        match &mut self.operation {
            Operation::Update { object, old, part: Part::Object } => {
                Some((object.as_any_mut().downcast_mut()?, old.as_any().downcast_ref()?))
            }
            _ => None,
        }
    }

    /// The new and the old object of an update of this part, where they are a `T`, to look at.
    fn updating<T: 'static>(&self, wanted: Part) -> Option<(&T, &T)> {
        match &self.operation {
            Operation::Update { object, old, part } if *part == wanted => {
                Some((object.as_any().downcast_ref()?, old.as_any().downcast_ref()?))
            }
            _ => None,
        }
    }

    /// The pod whose resources are asked for: a new one, or one that is resized and not on its way
    /// out.
    fn sized_pod(&self) -> Option<&Pod> {
        match &self.operation {
            Operation::Create(object) => object.as_any().downcast_ref(),
            Operation::Update { object, old, part: Part::Of("resize") }
                if old.metadata().deletion_timestamp.is_none() =>
            {
                object.as_any().downcast_ref()
            }
            _ => None,
        }
    }

    /// As [`Attributes::sized_pod`], to change.
    fn sized_pod_mut(&mut self) -> Option<&mut Pod> {
        self.sized_pod()?;
        match &mut self.operation {
            Operation::Create(object) | Operation::Update { object, .. } => {
                object.as_any_mut().downcast_mut()
            }
            Operation::Delete(_) => None,
        }
    }

    /// Whether whoever asks may do something else as well.
    fn decide(&self, action: Action<'_>) -> Decision {
        self.authorizer.decide(&Ask::of(self.identity, action))
    }

    /// Upstream `admission.NewForbidden`.
    fn forbidden(&self, why: &str) -> Status {
        let metadata = match &self.operation {
            Operation::Create(object) | Operation::Update { object, .. } => object.metadata(),
            Operation::Delete(object) => object.metadata(),
        };
        let name = metadata.name.as_ref().or(metadata.generate_name.as_ref());
        let facts = &self.kind.facts;
        let name = name.map(String::as_str).unwrap_or_default();
        Status::forbidden(Subject { group: &facts.group, resource: &facts.plural, name }, why)
    }
}
