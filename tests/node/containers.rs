//! Containers run, print, end and are removed.

use crate::rig::Rig;
use kinglet::runtime::{ContainerState, Runtime as _, SandboxState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_and_leaves_nothing() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("web").await;
    assert_eq!(sandbox.state, SandboxState::Ready);
    let script = "echo out; echo err >&2; hostname; exit 7";
    let id = rig.run(&sandbox, rig.container_config("main", script)).await;
    assert_eq!(rig.exit_of(&id).await, (7, false, String::new()));
    let mut log = rig.log("main");
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout F web"]);
    let ContainerState::Exited { started_at, finished_at, .. } = rig.status(&id).await.state else {
        panic!("it has ended");
    };
    assert!(started_at.unwrap() <= finished_at);
    rig.finish().await;
}
