//! Logs are whole and in the CRI's format.

use crate::rig::{Rig, eventually};
use kinglet::runtime::{LogLimits, Runtime as _, ShimRuntime, ShimRuntimeConfig};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lines_and_last_lines_are_whole() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("logs").await;
    let script = "yes abcdefg | head -n 5000 | tr -d '\\n'; echo; echo -n last";
    let id = rig.run(&sandbox, rig.container_config("main", script)).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    let log = rig.log("main");
    let shapes: Vec<String> =
        log.iter().map(|line| format!("{} {}", &line[..8], line.len() - 9)).collect();
    assert_eq!(shapes, ["stdout P 16384", "stdout P 16384", "stdout F 2232", "stdout P 4"]);
    let text: String = log.iter().map(|line| &line[9..]).collect();
    assert_eq!(text, "abcdefg".repeat(5_000) + "last");
    let path = rig.directory.join("logs/main/0.log");
    let line = fs::read_to_string(path).unwrap();
    let time = line.split(' ').next().unwrap();
    assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_whole() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("flood").await;
    let id = rig.run(&sandbox, rig.container_config("main", "seq 1 100000")).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    let log = rig.log("main");
    assert_eq!(log.len(), 100_000);
    assert_eq!(log.last().unwrap(), "stdout F 100000");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_log_is_reopened() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("logs").await;
    let script = "echo before; while ! test -e /go; do sleep 0.02; done; echo after; sleep 1000";
    let id = rig.run(&sandbox, rig.container_config("main", script)).await;
    rig.log_shows("main", &["stdout F before"]).await;
    let path = rig.directory.join("logs/main/0.log");
    fs::rename(&path, rig.directory.join("logs/main/old")).unwrap();
    rig.runtime().reopen_log(&id).await.unwrap();
    eventually(
        "the log is there again",
        async || {
            if path.exists() { Ok(()) } else { Err(String::new()) }
        },
    )
    .await;
    rig.exec(&id, "touch /go").await;
    rig.log_shows("main", &["stdout F after"]).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_rotated() {
    let mut rig = Rig::start().await;
    rig.close().await;
    let log_limits = LogLimits { bytes_max: 100_000, files_max: 3 };
    let config = ShimRuntimeConfig { log_limits, ..rig.config() };
    let images = Arc::clone(&rig.images);
    rig.runtime = Some(ShimRuntime::open(config, images).await.unwrap());
    let sandbox = rig.run_sandbox("logs").await;
    let id = rig.run(&sandbox, rig.container_config("main", "seq 1 10000")).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    let directory = rig.directory.join("logs/main");
    let sizes: Vec<u64> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 100_000), "{sizes:?}");
    assert_eq!(rig.log("main").last().unwrap(), "stdout F 10000");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_logged() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("tty").await;
    let mut config = rig.container_config("main", "test -t 1 && echo terminal; echo $TERM");
    config.tty = true;
    let id = rig.run(&sandbox, config).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    let log = rig.log("main").join("|").replace('\r', "");
    assert_eq!(log, "stdout F terminal|stdout F xterm");
    rig.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    rig.finish().await;
}
