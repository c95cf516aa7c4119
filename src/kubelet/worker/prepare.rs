//! What a pod needs before its containers start: volumes, a sandbox, a place on the network.

use super::end::{EndError, close};
use super::pod::{Attached, Failure, Next, PodWorker};
use crate::api::pod::limits;
use crate::client::EventType;
use crate::kubelet::announce::{News, pod_reference};
use crate::kubelet::claims::Found;
use crate::kubelet::container::fields::Surroundings;
use crate::kubelet::container::mounts::ReadyVolume;
use crate::kubelet::container::references::{Lookup, References, referenced, runtime_class_name};
use crate::kubelet::container::sandbox::{host_ports, pod_traits, sandbox};
use crate::kubelet::pod::PodFacts;
use crate::kubelet::tokens::KnownToken;
use crate::kubelet::volumes::plan::{VolumePlan, plan};
use crate::kubelet::volumes::{VolumeError, made};
use crate::network::{Attachment, Bandwidth, NetworkError};
use crate::runtime::{SandboxConfig, SandboxState, SandboxStatus};
use crate::stdx::{chain, fault};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use tracing::debug;

impl PodWorker {
    /// What is known of the ConfigMaps, Secrets and tokens that the pod uses.
    pub(super) fn references(&self, now: Timestamp) -> References {
        let names = referenced(&self.pod);
        let (uid, namespace) = (self.pod.uid(), self.pod.namespace());
        let objects = self.shared.references.register(uid, namespace, &names);
        let tokens = self.tokens.as_ref().map(|tokens| tokens.known(now)).unwrap_or_default();
        References { tokens, claims: self.claims.known(), ..objects }
    }

    /// Makes the volumes, or brings them up to date; `None` where they are not there yet.
    pub(super) async fn volumes_ready(
        &mut self,
        references: &References,
        now: Timestamp,
    ) -> Option<()> {
        let version = self.volumes_version(references);
        if self.volumes.as_ref().is_some_and(|(known, _)| *known == version) {
            self.volume_failure = None;
            return Some(());
        }
        if self.volume_failure.as_ref().is_some_and(|failure| now < failure.retry_at) {
            return self.volumes.as_ref().map(|_| ());
        }
        match self.make_volumes(references, now).await {
            Ok(ready) => {
                self.volumes = Some((version, ready));
                self.volume_failure = None;
                Some(())
            }
            Err(error) => {
                self.tell_of_volumes(&error, now);
                // What is there goes on as it is, even where what it was made from has gone.
                self.volumes.as_ref().map(|_| ())
            }
        }
    }

    async fn make_volumes(
        &self,
        references: &References,
        now: Timestamp,
    ) -> Result<BTreeMap<String, ReadyVolume>, VolumeError> {
        let node = self.shared.node();
        let addresses = self.addresses();
        let around = Surroundings {
            pod_addresses: &addresses,
            node_addresses: &node.addresses,
            allocatable: &node.allocatable,
        };
        let plans: Vec<VolumePlan> = plan(&self.pod, references, &around)?;
        let (volumes, uid) = (self.shared.config.volumes.clone(), self.pod.uid().to_owned());
        let limit = limits(self.pod.spec()).get("memory").map(|it| it.units());
        let limit = limit.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let memory = limit.unwrap_or(u64::MAX).min(node.memory_bytes);
        let setting_up = tokio::task::spawn_blocking(move || {
            volumes.set_up(&uid, &plans, memory, now).map(|ready| (plans, ready))
        });
        let set_up = setting_up.await;
        let (plans, ready) =
            set_up.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        self.shared.volumes.note(self.pod.uid(), made(&self.pod, &plans, &ready));
        Ok(ready)
    }

    fn tell_of_volumes(&mut self, error: &VolumeError, now: Timestamp) {
        if error.is_pending() {
            return;
        }
        let message = chain(error);
        debug!(pod = %self.pod, error = message, "volumes are not ready");
        if !matches!(error, VolumeError::Source { .. }) {
            self.volume_failure = Some(Failure::after(self.volume_failure.as_ref(), now));
        }
        self.warn_once("FailedMount", message, "");
    }

    /// Changes when what volumes are made from does.
    fn volumes_version(&self, references: &References) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, lookup) in &references.config_maps {
            (name, version(lookup, |it| it.metadata.resource_version.clone())).hash(&mut hasher);
        }
        for (name, lookup) in &references.secrets {
            (name, version(lookup, |it| it.metadata.resource_version.clone())).hash(&mut hasher);
        }
        for (ask, token) in &references.tokens {
            let issued_at = match token {
                KnownToken::Given(token) => Some(token.issued_at),
                KnownToken::Refused(_) | KnownToken::Unknown => None,
            };
            (&ask.audience, ask.expiration_seconds, issued_at).hash(&mut hasher);
        }
        for (name, found) in &references.claims {
            (name, matches!(found, Found::Volume(_))).hash(&mut hasher);
        }
        let metadata = &self.pod.object().metadata;
        (&metadata.labels, &metadata.annotations).hash(&mut hasher);
        hasher.finish()
    }

    /// Makes the sandbox and puts it on the network.
    pub(super) async fn make_sandbox(
        &mut self,
        facts: &PodFacts,
        attempt: u32,
        references: &References,
        now: Timestamp,
    ) -> Next {
        let handler = match self.runtime_handler(references) {
            Lookup::Found(handler) => handler,
            // It is rung when the class comes, or the answer.
            Lookup::Missing | Lookup::Unknown => return Next::Wait(None),
        };
        if let Some(failure) = &self.sandbox_failure
            && now < failure.retry_at
        {
            return Next::Wait(Some(failure.retry_at));
        }
        if self.pod.spec().host_users == Some(false) {
            self.tell_of_sandbox(&format!(
                "RuntimeClass handler {handler:?} does not support user namespaces"
            ));
            return Next::Wait(None);
        }
        if !self.shared.is_network_open() && !self.pod.uses_node_network() {
            let message = "network is not ready: the node has no podCIDR yet";
            self.warn_once("NetworkNotReady", message.to_owned(), "");
            // All are rung when that changes.
            return Next::Wait(None);
        }
        let had_one = facts.sandbox().is_some();
        let runtime_handler = String::clone(&handler);
        let config = &self.shared.config;
        let config = SandboxConfig {
            runtime_handler,
            ..sandbox(&self.pod, attempt, &config.cgroup_root, &config.node.name)
        };
        match self.try_make_sandbox(facts, config).await {
            Ok(()) => {
                self.sandbox_failure = None;
                if had_one {
                    let message = "Pod sandbox changed, it will be killed and re-created.";
                    self.announcer.say(News {
                        regarding: pod_reference(&self.pod),
                        kind: EventType::Normal,
                        reason: "SandboxChanged",
                        message: message.to_owned(),
                    });
                }
                Next::LookAgain
            }
            Err(error) => {
                self.tell_of_sandbox(&chain(&*error));
                let failure = Failure::after(self.sandbox_failure.as_ref(), now);
                let retry_at = failure.retry_at;
                self.sandbox_failure = Some(failure);
                Next::Wait(Some(retry_at))
            }
        }
    }

    /// Which runtime the pod's RuntimeClass means; without a class, the node's default. Upstream
    /// `LookupRuntimeHandler` (pkg/kubelet/runtimeclass/runtimeclass_manager.go, v1.35).
    fn runtime_handler(&mut self, references: &References) -> Lookup<String> {
        let Some(name) = runtime_class_name(&self.pod).map(str::to_owned) else {
            return Lookup::Found(Arc::default());
        };
        match references.runtime_class(&name) {
            Lookup::Found(class) => Lookup::Found(Arc::new(class.handler.clone())),
            Lookup::Unknown => Lookup::Unknown,
            Lookup::Missing => {
                self.tell_of_sandbox(&format!("runtimeclass.node.k8s.io {name:?} not found"));
                Lookup::Missing
            }
        }
    }

    fn tell_of_sandbox(&mut self, why: &str) {
        let message = format!("Failed to create pod sandbox: {why}");
        self.warn_once("FailedCreatePodSandBox", message, "");
    }

    async fn try_make_sandbox(
        &mut self,
        facts: &PodFacts,
        config: SandboxConfig,
    ) -> Result<(), EndError> {
        close(&self.shared, facts.sandboxes()).await?;
        self.attached = None;
        let shared = Arc::clone(&self.shared);
        let turn = shared.starts.acquire().await?;
        let made = self.shared.runtime.run_sandbox(config).await?;
        fault::point("pod: sandbox made");
        let attached = self.attach(&made).await;
        drop(turn);
        if let Err(error) = attached {
            // Without a place on the network it is of no use, and its number is not used again.
            let useless = [SandboxStatus { state: SandboxState::Ready, ..made }];
            if let Err(error) = close(&self.shared, &useless).await {
                debug!(pod = %self.pod, error = chain(&*error), "a sandbox is left behind for now");
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Puts a sandbox on the network; one that is there already keeps its addresses.
    pub(super) async fn attach(&mut self, made: &SandboxStatus) -> Result<(), NetworkError> {
        let Some(namespace) = made.network_namespace.clone() else {
            return Ok(());
        };
        let none = BTreeMap::new();
        let annotations = self.pod.object().metadata.annotations.as_ref().unwrap_or(&none);
        let attachment = Attachment {
            sandbox: made.id.0.clone(),
            pod: self.pod.key(),
            namespace,
            host_ports: host_ports(&self.pod),
            traits: pod_traits(&self.pod),
            bandwidth: Bandwidth::of_annotations(annotations)?,
        };
        let addresses = self.shared.network.attach(attachment).await?;
        self.attached = Some(Attached { sandbox: made.id.clone(), addresses });
        Ok(())
    }

    /// Tells a warning about the pod, once.
    pub(super) fn warn_once(&mut self, reason: &'static str, message: String, occasion: &str) {
        let regarding = pod_reference(&self.pod);
        let news = News { regarding, kind: EventType::Warning, reason, message };
        self.announcer.say_once(news, occasion);
    }
}

fn version<K>(lookup: &Lookup<K>, of: impl Fn(&K) -> Option<String>) -> Option<String> {
    match lookup {
        Lookup::Found(object) => Some(of(object).unwrap_or_default()),
        Lookup::Missing => None,
        Lookup::Unknown => Some("?".to_owned()),
    }
}
