//! A runtime that counts what is asked of it, by the names that upstream's metrics have for the
//! calls of the CRI (pkg/kubelet/kuberuntime/instrumented_services.go, v1.35).

use super::{Span, Tally};
use crate::runtime::{
    Activity, ContainerConfig, ContainerId, ContainerStatus, Credentials, ExecRequest, ExecResult,
    ImageStatus, LinuxResources, PodStatus, PullError, Runtime, RuntimeError, RuntimeEvent,
    SandboxConfig, SandboxId, SandboxStatus, Session, Usage,
};
use crate::stdx::monotonic;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// See the module.
#[derive(Debug)]
pub(in crate::kubelet) struct Metered {
    runtime: Arc<dyn Runtime>,
    tally: Arc<Tally>,
}

type Asked<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

impl Metered {
    pub(in crate::kubelet) fn new(runtime: Arc<dyn Runtime>, tally: Arc<Tally>) -> Self {
        Self { runtime, tally }
    }

    fn note_span<'a, T: 'a>(&'a self, span: Span, asked: Asked<'a, T>) -> Asked<'a, T> {
        let began = monotonic();
        Box::pin(async move {
            let answer = asked.await;
            self.tally.note_span(span, began.elapsed(), answer.is_ok());
            answer
        })
    }

    fn note<'a, T: 'a, E: 'a>(
        &'a self,
        name: &'static str,
        asked: BoxFuture<'a, Result<T, E>>,
    ) -> BoxFuture<'a, Result<T, E>> {
        let began = monotonic();
        Box::pin(async move {
            let answer = asked.await;
            self.tally.note_operation(name, began.elapsed(), answer.is_ok());
            answer
        })
    }
}

impl Runtime for Metered {
    fn image(&self, reference: &str) -> Asked<'_, Option<ImageStatus>> {
        self.note("image_status", self.runtime.image(reference))
    }

    fn images(&self) -> Asked<'_, Vec<ImageStatus>> {
        self.note("list_images", self.runtime.images())
    }

    fn pull_image(
        &self,
        reference: &str,
        credentials: Vec<Credentials>,
    ) -> BoxFuture<'_, Result<ImageStatus, PullError>> {
        self.note("pull_image", self.runtime.pull_image(reference, credentials))
    }

    fn remove_image(&self, reference: &str) -> Asked<'_, ()> {
        self.note("remove_image", self.runtime.remove_image(reference))
    }

    fn limit_cgroup(&self, cgroup: &str, resources: LinuxResources) -> Asked<'_, ()> {
        self.note_span(Span::Cgroup("update"), self.runtime.limit_cgroup(cgroup, resources))
    }

    fn run_sandbox(&self, config: SandboxConfig) -> Asked<'_, SandboxStatus> {
        let span = Span::Sandbox(config.runtime_handler.clone());
        let running = self.note_span(span, self.runtime.run_sandbox(config));
        self.note("run_podsandbox", running)
    }

    fn stop_sandbox(&self, sandbox: &SandboxId) -> Asked<'_, ()> {
        self.note("stop_podsandbox", self.runtime.stop_sandbox(sandbox))
    }

    fn remove_sandbox(&self, sandbox: &SandboxId) -> Asked<'_, ()> {
        self.note("remove_podsandbox", self.runtime.remove_sandbox(sandbox))
    }

    fn sandboxes(&self) -> Asked<'_, Vec<SandboxStatus>> {
        self.note("list_podsandbox", self.runtime.sandboxes())
    }

    fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Asked<'_, ContainerId> {
        self.note("create_container", self.runtime.create_container(sandbox, config))
    }

    fn start_container(&self, container: &ContainerId) -> Asked<'_, ()> {
        self.note("start_container", self.runtime.start_container(container))
    }

    fn update_container(
        &self,
        container: &ContainerId,
        resources: LinuxResources,
    ) -> Asked<'_, ()> {
        self.note("update_container", self.runtime.update_container(container, resources))
    }

    fn stop_container(&self, container: &ContainerId, grace: Duration) -> Asked<'_, ()> {
        self.note("stop_container", self.runtime.stop_container(container, grace))
    }

    fn remove_container(&self, container: &ContainerId) -> Asked<'_, ()> {
        self.note("remove_container", self.runtime.remove_container(container))
    }

    fn containers(&self) -> Asked<'_, Vec<ContainerStatus>> {
        self.note("list_containers", self.runtime.containers())
    }

    fn pod(&self, uid: &str) -> Asked<'_, PodStatus> {
        self.note("podsandbox_status", self.runtime.pod(uid))
    }

    fn exec(
        &self,
        container: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Asked<'_, ExecResult> {
        self.note("exec_sync", self.runtime.exec(container, command, timeout))
    }

    fn open_exec(&self, container: &ContainerId, request: ExecRequest) -> Asked<'_, Session> {
        self.note("exec", self.runtime.open_exec(container, request))
    }

    fn attach(&self, container: &ContainerId, stdin: bool) -> Asked<'_, Session> {
        self.note("attach", self.runtime.attach(container, stdin))
    }

    fn usage(&self, container: &ContainerId) -> Asked<'_, Usage> {
        self.note("container_stats", self.runtime.usage(container))
    }

    fn activity(&self, container: &ContainerId) -> Option<(String, Activity)> {
        self.runtime.activity(container)
    }

    fn cgroup_usage(&self, cgroup: &str) -> Option<Usage> {
        self.runtime.cgroup_usage(cgroup)
    }

    fn writable_layer(&self, container: &ContainerId) -> Option<PathBuf> {
        self.runtime.writable_layer(container)
    }

    fn reopen_log(&self, container: &ContainerId) -> Asked<'_, ()> {
        self.note("reopen_container_log", self.runtime.reopen_log(container))
    }

    fn events(&self) -> mpsc::Receiver<RuntimeEvent> {
        self.runtime.events()
    }
}
