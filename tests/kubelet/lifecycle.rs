//! Pods that run, with their files and variables, and pods that come to their end.

use crate::rig::{Rig, condition, container, waiting};
use crate::runtime::FakeRuntime;
use crate::support::eventually;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn a_pod_runs_and_says_so() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    let pod = rig.running("web").await;
    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.42.0.1");
    assert_eq!(status["podIPs"], json!([{ "ip": "10.42.0.1" }]));
    assert_eq!(status["hostIP"], "192.0.2.7");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["observedGeneration"], pod["metadata"]["generation"]);
    let container = &status["containerStatuses"][0];
    assert_eq!(container["image"], "docker.io/library/web:1");
    assert!(container["imageID"].as_str().unwrap().starts_with("docker.io/library/web@sha256:"));
    assert!(container["containerID"].as_str().unwrap().starts_with("kinglet://"));
    assert_eq!((&container["ready"], &container["started"]), (&json!(true), &json!(true)));
    assert_eq!(rig.runtime.journal(), ["sandbox web/0", "create a/0", "start a/0"]);
    rig.event_until("Started: Container started").await;
    rig.event_until("Pulled: Container image \"web:1\" already present on machine").await;
}

fn mounted(runtime: &FakeRuntime, path: &str) -> String {
    let config = runtime.config_of("a");
    let mount = config.mounts.iter().find(|mount| mount.container_path == path);
    fs::read_to_string(&mount.expect(path).host_path).unwrap()
}

#[tokio::test]
async fn containers_find_their_names_and_their_cluster() {
    let rig = Rig::start().await;
    let spec = json!({
        "hostname": "h", "subdomain": "s",
        "containers": [{
            "name": "a", "image": "web:1", "command": ["serve", "$(POD)"],
            "env": [
                { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } },
            ],
        }],
    });
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    let config = rig.runtime.config_of("a");
    assert_eq!(config.command, ["serve", "web"]);
    let variable = |name: &str| {
        config.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    assert_eq!(variable("IP").as_deref(), Some("10.42.0.1"));
    assert_eq!(variable("KUBERNETES_SERVICE_HOST").as_deref(), Some("10.43.0.1"));
    assert_ne!(variable("CPU").as_deref(), Some("0"));
    assert!(
        mounted(&rig.runtime, "/etc/hosts")
            .contains("10.42.0.1\th.s.default.svc.cluster.local\th\n")
    );
    assert_eq!(mounted(&rig.runtime, "/etc/hostname"), "h\n");
    assert!(mounted(&rig.runtime, "/etc/resolv.conf").contains("nameserver 10.43.0.10\n"));
    let sandbox = rig.runtime.sandbox_config();
    assert!(sandbox.cgroup.starts_with("/kinglet-test/kubepods/besteffort/pod"), "{sandbox:?}");
    assert_eq!(sandbox.hostname, "h");
}

#[tokio::test]
async fn init_containers_come_first_and_sidecars_stay() {
    let rig = Rig::start().await;
    let mut sidecar = container("s");
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({ "initContainers": [sidecar, container("i")], "restartPolicy": "Never" });
    rig.create_pod("job", spec).await;
    rig.listing_until(&["i/0=run", "s/0=run"]).await;
    let pod = rig.pod_until("job", |pod| condition(pod, "Initialized") == "False").await;
    assert_eq!(pod["status"]["phase"], "Pending");
    rig.runtime.exit("i", 0);
    rig.running("job").await;
    rig.runtime.exit("a", 0);
    let pod = rig.phase_until("job", "Succeeded").await;
    assert_eq!(condition(&pod, "Ready"), "False");
    rig.listing_until(&["a/0=exit0", "i/0=exit0", "s/0=exit143"]).await;
    assert!(rig.network.attached().is_empty());
}

#[tokio::test]
async fn a_failed_pod_tells_its_last_words() {
    let rig = Rig::start().await;
    let mut spec =
        json!({ "restartPolicy": "Never", "containers": [container("a"), container("b")] });
    spec["containers"][1]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    rig.create_pod("job", spec).await;
    rig.running("job").await;
    let config = rig.runtime.config_of("a");
    let path = "/dev/termination-log";
    let words = config.mounts.iter().find(|mount| mount.container_path == path).unwrap();
    fs::write(&words.host_path, "disk on fire").unwrap();
    rig.runtime.exit("a", 0);
    rig.runtime.exit("b", 3);
    let pod = rig.phase_until("job", "Failed").await;
    let ended =
        |index: usize| pod["status"]["containerStatuses"][index]["state"]["terminated"].clone();
    assert_eq!(
        (&ended(0)["reason"], &ended(0)["message"]),
        (&json!("Completed"), &json!("disk on fire"))
    );
    assert_eq!((&ended(1)["reason"], &ended(1)["exitCode"]), (&json!("Error"), &json!(3)));
    assert!(ended(1)["message"].as_str().unwrap().ends_with("exits with 3\n"), "{}", ended(1));
}

#[tokio::test]
async fn want_of_memory_is_told() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({ "restartPolicy": "Never" })).await;
    rig.running("web").await;
    rig.runtime.run_out_of_memory("a");
    let pod = rig.phase_until("web", "Failed").await;
    let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&state["reason"], &state["exitCode"]), (&json!("OOMKilled"), &json!(137)));
}

#[tokio::test]
async fn a_pod_past_its_deadline_fails() {
    let rig = Rig::start().await;
    rig.create_pod("job", json!({ "activeDeadlineSeconds": 60 })).await;
    rig.running("job").await;
    rig.pass(61);
    let pod = rig.phase_until("job", "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    rig.listing_until(&["a/0=exit143"]).await;
}

#[tokio::test]
async fn a_pod_on_the_nodes_network_has_its_address() {
    let rig = Rig::start().await;
    rig.create_pod("agent", json!({ "hostNetwork": true })).await;
    let pod = rig.running("agent").await;
    assert_eq!(pod["status"]["podIP"], "192.0.2.7");
    assert!(rig.network.attached().is_empty());
    let hosts = mounted(&rig.runtime, "/etc/hosts");
    assert_eq!(hosts, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n");
}

#[tokio::test]
async fn what_fails_on_the_node_is_told_and_tried_again() {
    let rig = Rig::start().await;
    rig.runtime.fail("run_sandbox", 1);
    rig.network.fail(1);
    rig.create_pod("web", json!({})).await;
    rig.event_until("FailedCreatePodSandBox: Failed to create pod sandbox: run_sandbox failed")
        .await;
    let pod = rig.running("web").await;
    assert_eq!(pod["status"]["podIP"], "10.42.0.1");
    rig.event_until("FailedCreatePodSandBox: Failed to create pod sandbox: no address is free")
        .await;
    rig.runtime.fail("create_container", 1);
    rig.create_pod("other", json!({})).await;
    let pod = rig.pod_until("other", |pod| waiting(pod) == "CreateContainerError").await;
    let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(state["message"], "create_container failed: it was told to fail");
    rig.running("other").await;
}

#[tokio::test]
async fn an_idle_node_writes_nothing() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    rig.event_until("Started: ").await;
    let version = |pod: &Value| pod["metadata"]["resourceVersion"].clone();
    let before = version(&rig.pod("web").await.unwrap());
    for _ in 0..20 {
        rig.runtime.relist();
        tokio::task::yield_now().await;
    }
    rig.create_pod("other", json!({})).await;
    rig.running("other").await;
    assert_eq!(version(&rig.pod("web").await.unwrap()), before);
    assert_eq!(rig.runtime.journal().iter().filter(|line| line.starts_with("start")).count(), 2);
}

#[tokio::test]
async fn an_empty_directory_outlives_its_containers() {
    let rig = Rig::start().await;
    let spec = json!({
        "volumes": [{ "name": "data", "emptyDir": {} }],
        "containers": [{ "name": "a", "image": "web:1",
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }],
    });
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    let place = |rig: &Rig| {
        let config = rig.runtime.config_of("a");
        config.mounts.iter().find(|it| it.container_path == "/data").unwrap().host_path.clone()
    };
    let data = place(&rig);
    fs::write(data.join("x"), "kept").unwrap();
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    assert_eq!(fs::read_to_string(place(&rig).join("x")).unwrap(), "kept");
    rig.delete_pod("web").await;
    rig.gone("web").await;
    assert!(!Path::new(&data).exists());
}

#[tokio::test]
async fn classes_weigh_what_their_pods_ask_for() {
    let rig = Rig::start().await;
    let shares = |class: &str| {
        let given = rig.runtime.cgroup(&format!("/kinglet-test/kubepods/{class}"));
        given.and_then(|given| given.cpu_shares)
    };
    let until = |expected: u64| {
        eventually("the class to weigh that", async move || {
            (shares("burstable") == Some(expected)).then_some(())
        })
    };
    until(2).await;
    assert_eq!(shares("besteffort"), Some(2));
    rig.runtime.fail("limit_cgroup", 1);
    let resources = json!({ "requests": { "cpu": "500m" } });
    let container = json!({ "name": "a", "image": "web:1", "resources": resources });
    rig.create_pod("web", json!({ "containers": [container] })).await;
    until(512).await;
    rig.delete_pod("web").await;
    until(2).await;
}

#[tokio::test]
async fn a_pod_that_would_harm_others_is_rejected() {
    let rig = Rig::start().await;
    let sysctl = json!({ "name": "net.core.somaxconn", "value": "1024" });
    rig.create_pod("web", json!({ "securityContext": { "sysctls": [sysctl] } })).await;
    let pod = rig.phase_until("web", "Failed").await;
    assert_eq!(pod["status"]["reason"], "SysctlForbidden");
    let why = "forbidden sysctl: \"net.core.somaxconn\" not allowlisted";
    assert_eq!(pod["status"]["message"], format!("Pod was rejected: {why}"));
    rig.event_until(&format!("SysctlForbidden: {why}")).await;
    assert_eq!(rig.runtime.journal(), Vec::<String>::new());
}

#[tokio::test]
async fn a_pod_whose_worker_panicked_gets_another() {
    let rig = Rig::start().await;
    rig.runtime.panic_at("create_container");
    rig.create_pod("web", json!({})).await;
    eventually("the panic", async || (!rig.runtime.will_panic()).then_some(())).await;
    // Nothing happens to the pod: all pods are looked at now and then.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    rig.running("web").await;
}
