//! A pod that is bound to this node, read once.

use crate::api::ObjectKey;
use crate::api::pod::as_container;
use crate::runtime::PodIdentity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use std::fmt;
use std::sync::Arc;

/// What happens to a container that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// `None` for a word that is none of the three.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }

    /// Whether a container that ended so is started again.
    #[must_use]
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// A pod from the API that has a uid, a name and a spec: holding one is the proof.
#[derive(Clone, Debug)]
pub struct BoundPod {
    object: Arc<Pod>,
    identity: PodIdentity,
    restart_policy: RestartPolicy,
    ephemeral: Arc<[Container]>,
}

impl BoundPod {
    /// `None` for what the API server never stores: a pod without uid, name or spec.
    #[must_use]
    pub fn read(object: Arc<Pod>) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        // The API server validates the word; Always is its default.
        let restart_policy = spec.restart_policy.as_deref().unwrap_or("Always");
        let restart_policy = RestartPolicy::parse(restart_policy)?;
        let identity = PodIdentity {
            namespace: object.metadata.namespace.clone()?,
            name: object.metadata.name.clone()?,
            uid: object.metadata.uid.clone()?,
        };
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
        Some(Self { object, identity, restart_policy, ephemeral })
    }

    #[must_use]
    pub fn object(&self) -> &Arc<Pod> {
        &self.object
    }

    #[must_use]
    pub fn identity(&self) -> &PodIdentity {
        &self.identity
    }

    #[must_use]
    pub fn uid(&self) -> &str {
        &self.identity.uid
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.identity.namespace
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(&self.identity.namespace, &self.identity.name)
    }

    #[must_use]
    pub fn spec(&self) -> &PodSpec {
        self.object.spec.as_ref().expect("read() saw a spec")
    }

    /// The status as the API has it.
    #[must_use]
    pub fn status(&self) -> PodStatus {
        self.object.status.clone().unwrap_or_default()
    }

    #[must_use]
    pub fn restart_policy(&self) -> RestartPolicy {
        self.restart_policy
    }

    #[must_use]
    pub fn containers(&self) -> &[Container] {
        &self.spec().containers
    }

    #[must_use]
    pub fn init_containers(&self) -> &[Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    /// Containers that joined the pod while it ran, in what they have in common with others.
    #[must_use]
    pub fn ephemeral_containers(&self) -> &[Container] {
        &self.ephemeral
    }

    /// The container whose processes the ephemeral container of that name wants to see.
    #[must_use]
    pub fn target_of(&self, ephemeral: &str) -> Option<&str> {
        let mut all = self.spec().ephemeral_containers.iter().flatten();
        let target = all.find(|it| it.name == ephemeral)?.target_container_name.as_deref();
        target.filter(|name| !name.is_empty())
    }

    /// Init containers, containers and ephemeral containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers().iter().chain(self.containers()).chain(self.ephemeral_containers())
    }

    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    #[must_use]
    pub fn generation(&self) -> Option<i64> {
        self.object.metadata.generation.filter(|generation| *generation > 0)
    }

    #[must_use]
    pub fn uses_node_network(&self) -> bool {
        self.spec().host_network == Some(true)
    }

    /// How long containers may take to end, in seconds: what the deletion says, else the spec.
    #[must_use]
    pub fn grace_seconds(&self) -> i64 {
        /// Upstream's `DefaultTerminationGracePeriodSeconds`; the API server sets it, too.
        const DEFAULT_GRACE_SECONDS: i64 = 30;
        let deletion = self.object.metadata.deletion_grace_period_seconds;
        let spec = self.spec().termination_grace_period_seconds;
        deletion.or(spec).unwrap_or(DEFAULT_GRACE_SECONDS).max(0)
    }

    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        Some(self.object.status.as_ref()?.start_time.as_ref()?.0)
    }
}

impl fmt::Display for BoundPod {
    /// As upstream `format.Pod` (pkg/kubelet/util/format): users know it from messages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}({})", self.name(), self.namespace(), self.uid())
    }
}

/// Whether a container that ended so is started again: its own rules, its own policy, the pod's.
/// Upstream `ContainerShouldRestart` (pkg/api/v1/pod/util.go, v1.35).
#[must_use]
pub fn restarts(container: &Container, pod: RestartPolicy, exit_code: i32) -> bool {
    let own = container.restart_policy.as_deref().and_then(RestartPolicy::parse);
    let Some(own) = own else {
        return pod.restarts(exit_code);
    };
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let matching = rules.iter().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    });
    matching.map_or_else(|| own.restarts(exit_code), |rule| rule.action == "Restart")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes};

    fn rule(operator: &str, values: &[i32]) -> ContainerRestartRule {
        ContainerRestartRule {
            action: "Restart".to_owned(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes {
                operator: operator.to_owned(),
                values: Some(values.to_vec()),
            }),
        }
    }

    #[test]
    fn a_containers_own_rules_come_first() {
        let plain = Container::default();
        let mut own = Container { restart_policy: Some("Never".to_owned()), ..plain.clone() };
        own.restart_policy_rules = Some(vec![rule("In", &[42]), rule("NotIn", &[1, 2, 42])]);
        for (container, pod, exit_code, expected) in [
            (&plain, RestartPolicy::Always, 0, true),
            (&plain, RestartPolicy::OnFailure, 0, false),
            (&plain, RestartPolicy::OnFailure, 1, true),
            (&plain, RestartPolicy::Never, 1, false),
            (&own, RestartPolicy::Always, 1, false),
            (&own, RestartPolicy::Never, 42, true),
            (&own, RestartPolicy::Never, 7, true),
        ] {
            assert_eq!(restarts(container, pod, exit_code), expected, "{pod:?} {exit_code}");
        }
    }
}
