//! Limits hold, and what breaks them is told.

use crate::rig::{DEADLINE, Rig, eventually};
use kinglet::runtime::{ContainerState, LinuxResources, Runtime, RuntimeError};
use kinglet::sys::cgroup::Cgroups;
use kinglet::sys::signal;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_set() {
    let rig = Rig::start().await;
    let resources = |bytes, pids| LinuxResources {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit_bytes: Some(bytes),
        pids_limit: Some(pids),
        oom_score_adj: Some(1_000),
        ..LinuxResources::default()
    };
    let mut config = rig.sandbox_config("limits");
    config.resources = resources(128 << 20, 200);
    let pod_cgroup = config.cgroup.clone();
    let sandbox = rig.runtime().run_sandbox(config).await.unwrap();
    let mut config = rig.container_config("main", "sleep 1000");
    config.resources = resources(64 << 20, 100);
    let id = rig.run(&sandbox, config).await;

    let container_cgroup = format!("{pod_cgroup}/{id}");
    let unified = Cgroups::detect().unwrap().is_unified();
    let files: &[(&str, &str, &str)] = if unified {
        &[("", "memory.max", "67108864"), ("", "cpu.max", "50000 100000"), ("", "pids.max", "100")]
    } else {
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("pids", "pids.max", "100"),
        ]
    };
    for (controller, file, expected) in files {
        let path = format!("/sys/fs/cgroup/{controller}/{container_cgroup}/{file}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), *expected, "{path}");
    }
    let pod_pids = if unified { "" } else { "pids" };
    let path = format!("/sys/fs/cgroup/{pod_pids}/{pod_cgroup}/pids.max");
    assert_eq!(std::fs::read_to_string(path).unwrap().trim(), "200");
    assert_eq!(rig.exec(&id, "cat /proc/1/oom_score_adj").await, "1000");

    eventually("its use is seen", async || {
        let usage = rig.runtime().usage(&id).await.unwrap();
        let is_plausible = usage.cpu_nanoseconds > 0
            && usage.memory_working_set_bytes > 0
            && usage.memory_working_set_bytes < 64 << 20
            && usage.processes > 0;
        if is_plausible { Ok(()) } else { Err(format!("{usage:?}")) }
    })
    .await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cgroups_above_pods_are_limited() {
    let rig = Rig::start().await;
    let resources = |shares, bytes| LinuxResources {
        cpu_shares: Some(shares),
        memory_limit_bytes: bytes,
        ..LinuxResources::default()
    };
    let given = |controller: &str, file: &str| {
        let path = format!("/sys/fs/cgroup/{controller}{}/{file}", rig.cgroup);
        std::fs::read_to_string(&path).unwrap().trim().to_owned()
    };
    let unified = Cgroups::detect().unwrap().is_unified();
    let shares = || if unified { given("", "cpu.weight") } else { given("cpu", "cpu.shares") };
    let limit = |resources| rig.runtime().limit_cgroup(&rig.cgroup, resources);
    limit(resources(512, Some(1 << 30))).await.unwrap();
    assert_eq!(shares(), if unified { "20" } else { "512" });
    limit(resources(2, None)).await.unwrap();
    assert_eq!(shares(), if unified { "1" } else { "2" });
    let memory = match unified {
        true => given("", "memory.max"),
        false => given("memory", "memory.limit_in_bytes"),
    };
    assert_eq!(memory, "1073741824");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_memory_is_told() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("oom").await;
    let mut config = rig.container_config("main", "exec tail /dev/zero");
    config.resources.memory_limit_bytes = Some(16 << 20);
    let id = rig.run(&sandbox, config).await;
    assert_eq!(rig.exit_of(&id).await, (137, true, String::new()));
    let id = rig.run(&sandbox, rig.container_config("other", "exec sleep 1000")).await;
    let ContainerState::Running { pid, .. } = rig.status(&id).await.state else { panic!() };
    signal::kill(pid).unwrap();
    assert_eq!(rig.exit_of(&id).await, (137, false, String::new()));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_containers() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("exec").await;
    let mut config = rig.container_config("main", "sleep 1000");
    config.environment = vec![("NAME".to_owned(), "value".to_owned())];
    let id = rig.run(&sandbox, config).await;
    let exec = async |script: &str, timeout| {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        rig.runtime().exec(&id, command, timeout).await
    };
    let result = exec("echo $NAME; echo no >&2; exit 3", DEADLINE).await.unwrap();
    assert_eq!(
        (result.exit_code, &result.stdout[..], &result.stderr[..]),
        (3, &b"value\n"[..], &b"no\n"[..])
    );
    let result = exec("head -c 20000000 /dev/zero", DEADLINE).await.unwrap();
    assert_eq!((result.exit_code, result.stdout.len()), (0, 16 << 20));
    // What a command leaves behind with its output open is not waited for.
    let result = exec("sleep 500 & echo left", DEADLINE).await.unwrap();
    assert_eq!((result.exit_code, &result.stdout[..]), (0, &b"left\n"[..]));
    let error = exec("sleep 600", Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error:?}");
    let missing = vec!["/no/such".to_owned()];
    let error = rig.runtime().exec(&id, missing, DEADLINE).await.unwrap_err();
    // In the words of the OCI runtime: runc's and crun's differ in case.
    assert!(error.to_string().to_lowercase().contains("no such file or directory"), "{error}");
    let seen = rig.exec(&id, "ps").await;
    assert!(!seen.contains("sleep 600"), "a command that ran out of time is ended: {seen}");
    rig.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    let error = exec("true", DEADLINE).await.unwrap_err();
    assert!(error.to_string().contains("not running"), "{error}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_runs_gets_other_limits() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("resized").await;
    let pod_cgroup = rig.sandbox_config("resized").cgroup;
    let limits = |quota, megabytes: i64| LinuxResources {
        cpu_shares: Some(512),
        cpu_quota: Some(quota),
        cpu_period: Some(100_000),
        memory_limit_bytes: Some(megabytes << 20),
        ..LinuxResources::default()
    };
    let mut config = rig.container_config("main", "sleep 1000");
    config.resources = LinuxResources { oom_score_adj: Some(900), ..limits(50_000, 64) };
    let id = rig.run(&sandbox, config).await;
    for (quota, megabytes) in [(20_000, 128), (80_000, 32)] {
        rig.runtime().update_container(&id, limits(quota, megabytes)).await.unwrap();
        let given = rig.status(&id).await.resources;
        assert_eq!((given.cpu_quota, given.oom_score_adj), (Some(quota), Some(900)));
        let unified = Cgroups::detect().unwrap().is_unified();
        let read = |legacy: &str, file: &str| {
            let path = if unified { file } else { legacy };
            let path = path.replace("{}", &format!("{pod_cgroup}/{id}"));
            std::fs::read_to_string(format!("/sys/fs/cgroup/{path}")).unwrap()
        };
        let memory = read("memory/{}/memory.limit_in_bytes", "{}/memory.max");
        assert_eq!(memory.trim(), (megabytes << 20).to_string());
        let cpu = read("cpu/{}/cpu.cfs_quota_us", "{}/cpu.max");
        assert!(cpu.starts_with(&quota.to_string()), "{cpu}");
    }
    rig.close().await;
    rig.open().await;
    assert_eq!(rig.status(&id).await.resources.cpu_quota, Some(80_000));
    rig.finish().await;
}
