//! Containers run, print, end and are removed.

use crate::rig::{DEADLINE, Rig, eventually};
use kinglet::runtime::{
    ContainerState, Mount, MountPropagation, NamespaceMode, Runtime, RuntimeError, SandboxState,
    SecurityConfig,
};
use kinglet::stdx::monotonic;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_a_pod_share_a_shim_and_namespaces() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("pair").await;
    let first = rig.run(&sandbox, rig.container_config("first", "sleep 1000")).await;
    let second = rig.run(&sandbox, rig.container_config("second", "sleep 1000")).await;
    assert_eq!(rig.shims().len(), 1);
    for namespace in ["net", "ipc", "uts"] {
        let script = format!("ls -l /proc/1/ns/{namespace} | tr -s ' ' | tail -c 20");
        assert_eq!(rig.exec(&first, &script).await, rig.exec(&second, &script).await);
        let node = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        let container = rig.exec(&first, &format!("ls -l /proc/1/ns/{namespace}")).await;
        assert!(!container.ends_with(node.to_str().unwrap()), "{namespace} is the node's");
    }
    assert_eq!(rig.exec(&first, "echo shared > /dev/shm/x; cat /proc/1/comm").await, "sleep");
    assert_eq!(rig.exec(&second, "cat /dev/shm/x").await, "shared");
    assert_eq!(rig.exec(&first, "cat /etc/hostname").await, "pair");
    assert!(rig.exec(&first, "ip addr show lo").await.contains("127.0.0.1"));
    let status = rig.status(&first).await;
    let ContainerState::Running { pid, .. } = status.state else { panic!("{status:?}") };
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "sleep\n");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_may_join_the_processes_of_another() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("joined").await;
    let target = rig.run(&sandbox, rig.container_config("target", "sleep 1234 & wait")).await;
    let debugger = kinglet::runtime::ContainerConfig {
        process_namespace_of: Some(target.clone()),
        ..rig.container_config("debugger", "sleep 1000")
    };
    let debugger = rig.run(&sandbox, debugger).await;
    assert!(rig.exec(&debugger, "ps").await.contains("sleep 1234"));
    // The end of the one that joined is nothing to the other.
    rig.runtime().stop_container(&debugger, Duration::ZERO).await.unwrap();
    assert!(rig.exec(&target, "ps").await.contains("sleep 1234"));
    rig.runtime().stop_container(&target, Duration::ZERO).await.unwrap();
    let late = kinglet::runtime::ContainerConfig {
        process_namespace_of: Some(target),
        ..rig.container_config("late", "true")
    };
    let refused = rig.runtime().create_container(&sandbox.id, late).await.unwrap_err();
    assert!(refused.to_string().contains("is not running"), "{refused}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_may_share_its_processes() {
    let rig = Rig::start().await;
    let mut config = rig.sandbox_config("shared");
    config.namespaces.pid = NamespaceMode::Pod;
    let sandbox = rig.runtime().run_sandbox(config).await.unwrap();
    let first = rig.run(&sandbox, rig.container_config("first", "sleep 1000")).await;
    let second = rig.run(&sandbox, rig.container_config("second", "sleep 2000")).await;
    let seen = rig.exec(&second, "ps").await;
    assert!(seen.contains("pod-pause"), "{seen}");
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 2000"), "{seen}");
    // An orphan is reaped by the first process of the namespace.
    rig.exec(&first, "(true & exec sleep 0.01) & true").await;
    eventually("no zombie is left", async || {
        let seen = rig.exec(&first, "grep -s ^State: /proc/[0-9]*/status").await;
        if seen.contains("Z (zombie)") { Err(seen) } else { Ok(()) }
    })
    .await;
    let root = rig.exec(&first, "ls /proc/1/root/ 2>&1 || true").await;
    assert!(root.contains("ermission denied"), "{root}");
    rig.runtime().stop_container(&first, Duration::ZERO).await.unwrap();
    assert!(rig.exec(&second, "ps").await.contains("sleep 2000"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_may_use_the_namespaces_of_the_node() {
    let rig = Rig::start().await;
    let mut config = rig.sandbox_config("host");
    config.namespaces.network = NamespaceMode::Node;
    config.namespaces.pid = NamespaceMode::Node;
    config.namespaces.ipc = NamespaceMode::Node;
    let sandbox = rig.runtime().run_sandbox(config).await.unwrap();
    assert_eq!(sandbox.network_namespace, None);
    // A process left behind by the container's first one is ended with the container.
    let script = "sleep 1234 & echo $$; exec sleep 1000";
    let id = rig.run(&sandbox, rig.container_config("main", script)).await;
    for namespace in ["net", "ipc", "uts", "pid"] {
        let node = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        let container = rig.exec(&id, &format!("ls -l /proc/self/ns/{namespace}")).await;
        assert!(container.ends_with(node.to_str().unwrap()), "{namespace} is not the node's");
    }
    rig.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    assert_eq!(rig.exit_of(&id).await.0, 137);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_asks_first_and_then_kills() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("stop").await;
    let polite = "trap 'exit 3' TERM; while true; do sleep 0.05; done";
    let polite = rig.run(&sandbox, rig.container_config("polite", polite)).await;
    let quick = rig.container_config("usr1", "trap 'exit 4' USR1; while true; do sleep 0.05; done");
    let quick = kinglet::runtime::ContainerConfig { stop_signal: Some("USR1".into()), ..quick };
    let quick = rig.run(&sandbox, quick).await;
    let deaf = "trap '' TERM; echo ready; while true; do sleep 0.05; done";
    let deaf = rig.run(&sandbox, rig.container_config("deaf", deaf)).await;
    rig.log_shows("deaf", &["stdout F ready"]).await;

    rig.runtime().stop_container(&polite, DEADLINE).await.unwrap();
    assert_eq!(rig.exit_of(&polite).await.0, 3);
    rig.runtime().stop_container(&quick, DEADLINE).await.unwrap();
    assert_eq!(rig.exit_of(&quick).await.0, 4);
    let begun = monotonic();
    rig.runtime().stop_container(&deaf, Duration::from_millis(300)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(rig.exit_of(&deaf).await.0, 137);
    rig.runtime().stop_container(&deaf, DEADLINE).await.unwrap();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_cannot_start_says_why() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("broken").await;
    let mut config = rig.container_config("main", "");
    config.command = vec!["/no/such/program".to_owned()];
    let id = rig.runtime().create_container(&sandbox.id, config).await.unwrap();
    let error = rig.runtime().start_container(&id).await.unwrap_err();
    let RuntimeError::Refused { message, .. } = error else { panic!("{error:?}") };
    // In the words of runc or crun, without those of the shim around them.
    let is_clear = message.starts_with("exec") && message.contains("/no/such/program");
    assert!(is_clear && !message.contains("shim"), "{message}");
    assert_eq!(rig.exit_of(&id).await, (128, false, message));
    // The sandbox is none the worse for it.
    let id = rig.run(&sandbox, rig.container_config("other", "exit 0")).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configurations_are_refused_and_leave_nothing() {
    let rig = Rig::start().await;
    let mut config = rig.sandbox_config("bad");
    config.sysctls.insert("kernel.panic".to_owned(), "1".to_owned());
    let error = rig.runtime().run_sandbox(config).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Invalid(_)), "{error:?}");
    let mut config = rig.sandbox_config("bad");
    config.runtime_handler = "nonesuch".to_owned();
    let error = rig.runtime().run_sandbox(config).await.unwrap_err();
    assert!(error.to_string().contains("no runtime handler `nonesuch`"), "{error}");
    assert_eq!(rig.leftovers(), Vec::<String>::new());

    let sandbox = rig.run_sandbox("good").await;
    let before = rig.leftovers();
    let mut config = rig.container_config("main", "true");
    config.security.run_as_non_root = true;
    let error = rig.runtime().create_container(&sandbox.id, config).await.unwrap_err();
    assert!(error.to_string().contains("must not run as root"), "{error}");
    assert_eq!(rig.leftovers(), before);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_who_they_should_be() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("users").await;
    rig.images.config.lock().unwrap().user = "web".to_owned();
    let run = async |name: &str, security: SecurityConfig| {
        let script = "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status; echo $HOME";
        let config = rig.container_config(name, script);
        let id = rig.run(&sandbox, kinglet::runtime::ContainerConfig { security, ..config }).await;
        assert_eq!(rig.exit_of(&id).await.0, 0);
        rig.log(name).iter().map(|line| line["stdout F ".len()..].to_owned()).collect::<Vec<_>>()
    };
    let image = run("image", SecurityConfig::default()).await;
    assert_eq!(image, ["33", "34", "34 50", "NoNewPrivs:\t0", "/"]);
    let security = SecurityConfig {
        run_as_user: Some(1_000),
        run_as_group: Some(2_000),
        supplemental_groups: vec![3_000],
        no_new_privileges: true,
        seccomp_runtime_default: true,
        ..SecurityConfig::default()
    };
    assert_eq!(run("pod", security).await, ["1000", "2000", "2000 3000", "NoNewPrivs:\t1", "/"]);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_the_image_count_unless_the_pod_is_strict() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("groups").await;
    rig.images.config.lock().unwrap().user = "web".to_owned();
    for (name, strict_groups, expected) in [("merge", false, "34 50 60"), ("strict", true, "34 60")]
    {
        let supplemental_groups = vec![60];
        let security =
            SecurityConfig { supplemental_groups, strict_groups, ..SecurityConfig::default() };
        let config = rig.container_config(name, "id -G");
        let id = rig.run(&sandbox, kinglet::runtime::ContainerConfig { security, ..config }).await;
        rig.exit_of(&id).await;
        assert_eq!(rig.log(name), [format!("stdout F {expected}")]);
        let user = rig.status(&id).await.user.unwrap();
        assert_eq!((user.uid, user.gid), (33, 34));
        let groups: Vec<_> = user.groups.iter().map(u32::to_string).collect();
        assert_eq!(groups.join(" "), expected);
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_of_the_node_says_which_calls_are_made() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("profile").await;
    let path = rig.directory.join("no-directories.json");
    let profile = r#"{
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]
    }"#;
    fs::write(&path, profile).unwrap();
    let run = async |name: &str, seccomp_profile: Option<std::path::PathBuf>| {
        let security = SecurityConfig { seccomp_profile, ..SecurityConfig::default() };
        let config = rig.container_config(name, "mkdir /tmp/x 2>/dev/null && echo made; echo end");
        rig.run(&sandbox, kinglet::runtime::ContainerConfig { security, ..config }).await
    };
    for (name, profile, expected) in [
        ("free", None, &["stdout F made", "stdout F end"][..]),
        ("bound", Some(path), &["stdout F end"]),
    ] {
        let id = run(name, profile).await;
        rig.exit_of(&id).await;
        assert_eq!(rig.log(name), expected);
    }
    let missing = Some(rig.directory.join("missing.json"));
    let security = SecurityConfig { seccomp_profile: missing, ..SecurityConfig::default() };
    let config = rig.container_config("missing", "true");
    let config = kinglet::runtime::ContainerConfig { security, ..config };
    let error = rig.runtime().create_container(&sandbox.id, config).await.unwrap_err();
    assert!(error.to_string().contains("cannot load seccomp profile"), "{error}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileges_are_as_the_pod_says() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("privileges").await;
    let run = async |name: &str, security: SecurityConfig| {
        let script = "touch /x 2>/dev/null && echo writable-root
            mount -t tmpfs none /tmp 2>/dev/null && echo mounts
            ls /sys/firmware /proc/acpi | grep -v : | grep . | head -n 1
            ls /dev | grep -c '^loop-control$\\|^kvm$\\|^kmsg$\\|^vda$'";
        let config = rig.container_config(name, script);
        let id = rig.run(&sandbox, kinglet::runtime::ContainerConfig { security, ..config }).await;
        rig.exit_of(&id).await;
        rig.log(name).iter().map(|line| line["stdout F ".len()..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(run("plain", SecurityConfig::default()).await, ["writable-root", "0"]);
    let read_only = SecurityConfig { read_only_root: true, ..SecurityConfig::default() };
    assert_eq!(run("readonly", read_only).await, ["0"]);
    let admin = SecurityConfig {
        capabilities_add: vec!["SYS_ADMIN".to_owned()],
        ..SecurityConfig::default()
    };
    assert_eq!(run("admin", admin).await, ["writable-root", "mounts", "0"]);
    let filtered = SecurityConfig { seccomp_runtime_default: true, ..SecurityConfig::default() };
    assert_eq!(run("filtered", filtered).await, ["writable-root", "0"]);
    let privileged = SecurityConfig { privileged: true, ..SecurityConfig::default() };
    let seen = run("privileged", privileged).await;
    assert_eq!(seen[..2], ["writable-root", "mounts"]);
    assert_ne!(seen.last().unwrap(), "0", "the node's devices are there: {seen:?}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_are_read_only_where_they_should_be() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("mounts").await;
    let volume = rig.directory.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "from the node").unwrap();
    let mount = |path: &str, read_only| Mount {
        container_path: path.to_owned(),
        host_path: volume.clone(),
        read_only,
        propagation: MountPropagation::Private,
    };
    let mut config = rig.container_config(
        "main",
        "cat /rw/file; echo; echo in > /rw/new; touch /ro/new2 2>/dev/null || echo read-only; pwd",
    );
    config.mounts = vec![mount("/rw", false), mount("/ro", true)];
    config.working_directory = "/made/for/it".to_owned();
    let id = rig.run(&sandbox, config).await;
    assert_eq!(rig.exit_of(&id).await.0, 0);
    let expected = ["stdout F from the node", "stdout F read-only", "stdout F /made/for/it"];
    assert_eq!(rig.log("main"), expected);
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "in\n");
    assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sysctls_apply_to_the_pod_alone() {
    let rig = Rig::start().await;
    let mut config = rig.sandbox_config("sysctls");
    config.sysctls.insert("net.ipv4.ip_local_port_range".into(), "2000 3000".into());
    config.sysctls.insert("kernel.msgmax".into(), "4242".into());
    let before = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let sandbox = rig.runtime().run_sandbox(config).await.unwrap();
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    let seen = rig.exec(&id, "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/msgmax");
    assert_eq!(seen.await, "2000\t3000\n4242");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
    rig.finish().await;
}
