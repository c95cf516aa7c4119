//! What people do with kubectl every day, apart from applying and looking: expose, wait, set, scale,
//! edit, explain, and requests through proxies.

use super::machine::Machine;
use super::old_kubectl;
use super::talk::Talk;
use nix::sys::signal::Signal;
use serde_json::Value;

const IMAGE: &str = "127.0.0.1:5000/hello:1";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        ports: [{name: http, containerPort: 8080}]
";

#[test]
fn everyday_commands_do_what_they_say() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(DEPLOYMENT);
    machine.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    for program in ["kubectl", old_kubectl::PROGRAM] {
        let kubectl = Kubectl { machine: &machine, program };
        objects_are_labelled(&kubectl);
        templates_are_changed(&kubectl);
        objects_are_edited(&kubectl);
        services_are_exposed(&kubectl);
        kinds_are_explained(&kubectl);
        usage_is_shown(&kubectl);
    }
    conditions_are_waited_for(&Kubectl { machine: &machine, program: "kubectl" });
    machine.kubectl(&["delete", "deployment", "--all", "--timeout=60s"]);
    machine.kubectl(&["wait", "--for=delete", "pod", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

struct Kubectl<'a> {
    machine: &'a Machine,
    program: &'static str,
}

impl Kubectl<'_> {
    #[track_caller]
    fn run(&self, arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split(' ').collect();
        self.machine.run(self.program, &arguments)
    }

    #[track_caller]
    fn shows(&self, arguments: &str, expected: &[&str]) {
        let shown = self.run(arguments);
        for word in expected {
            assert!(shown.contains(word), "{} {arguments}: no {word:?}:\n{shown}", self.program);
        }
    }

    #[track_caller]
    fn is_refused(&self, arguments: &str, expected: &str) {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let output = self.machine.try_run(self.program, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }

    #[track_caller]
    fn rolled_out(&self) {
        self.shows("rollout status deployment/web --timeout=90s", &["successfully rolled out"]);
        let pods = || self.run("get pods -l app=web -o name").lines().count();
        self.machine.eventually("those of before are gone", || pods() == 2);
    }
}

fn objects_are_labelled(kubectl: &Kubectl<'_>) {
    kubectl.shows("label deployment/web tier=front", &["deployment.apps/web labeled"]);
    kubectl.is_refused("label deployment/web tier=back", "already has a value (front)");
    kubectl.shows("label --overwrite deployment/web tier=back", &["labeled"]);
    kubectl.shows("get deployments -l tier=back --show-labels", &["app=web,tier=back"]);
    kubectl.run("label deployment/web tier-");
    kubectl.shows("annotate deployment/web note=hello", &["deployment.apps/web annotated"]);
    kubectl.shows("get deployment web -o jsonpath={.metadata.annotations.note}", &["hello"]);
    kubectl.run("annotate deployment/web note-");
    kubectl.run("label node one disk=fast");
    kubectl.shows("get nodes -L disk", &["DISK", "fast"]);
    kubectl.run("label node one disk-");
}

fn templates_are_changed(kubectl: &Kubectl<'_>) {
    let limits =
        "set resources deployment/web -c=web --limits=cpu=200m,memory=64Mi --requests=cpu=10m";
    kubectl.shows(limits, &["deployment.apps/web resource requirements updated"]);
    kubectl.rolled_out();
    let path =
        "get deployment web -o jsonpath={.spec.template.spec.containers[0].resources.limits}";
    kubectl.shows(path, &["\"cpu\":\"200m\"", "\"memory\":\"64Mi\""]);
    kubectl.shows("set env deployment/web COLOR=blue", &["env updated"]);
    kubectl.rolled_out();
    kubectl.shows("set env deployment/web --list", &["COLOR=blue"]);
    kubectl.shows("exec deploy/web -- env", &["COLOR=blue"]);
    kubectl.shows("rollout restart deployment/web", &["deployment.apps/web restarted"]);
    kubectl.rolled_out();
    kubectl.shows("rollout history deployment/web", &["REVISION", "CHANGE-CAUSE"]);
    kubectl.shows("rollout pause deployment/web", &["paused"]);
    kubectl.is_refused("rollout restart deployment/web", "can't restart paused deployment");
    kubectl.shows("rollout resume deployment/web", &["resumed"]);
    kubectl.shows("rollout undo deployment/web", &["rolled back"]);
    kubectl.rolled_out();
    kubectl.run("set env deployment/web COLOR-");
    kubectl.run("set resources deployment/web -c=web --limits=cpu=0,memory=0 --requests=cpu=0");
    kubectl.rolled_out();
}

fn objects_are_edited(kubectl: &Kubectl<'_>) {
    let merge = r#"patch deployment web --type=merge -p {"spec":{"replicas":3}}"#;
    kubectl.shows(merge, &["deployment.apps/web patched"]);
    let strategic = r#"patch deployment web -p {"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"b"}]}]}}}}"#;
    kubectl.shows(strategic, &["patched"]);
    kubectl.shows("get deploy web -o jsonpath={.spec.template.spec.containers[*].image}", &[IMAGE]);
    let json = r#"patch deployment web --type=json -p [{"op":"replace","path":"/spec/replicas","value":2}]"#;
    kubectl.shows(json, &["patched"]);
    kubectl.rolled_out();
    let editor = format!(
        "KUBE_EDITOR='sed -i s/replicas:.2/replicas:\\ 1/' {} edit deployment web",
        kubectl.program
    );
    let said = kubectl.machine.run("sh", &["-c", &editor]);
    assert!(said.contains("deployment.apps/web edited"), "{said}");
    kubectl.shows("get deployment web -o jsonpath={.spec.replicas}", &["1"]);
    kubectl.shows("scale deployment web --replicas=2 --current-replicas=1", &["scaled"]);
    kubectl
        .is_refused("scale deployment web --replicas=5 --current-replicas=9", "Expected replicas");
    kubectl.rolled_out();
    let path = kubectl.machine.path("edited.yaml");
    let manifest = DEPLOYMENT.replace("replicas: 2", "replicas: 1");
    std::fs::write(&path, manifest).unwrap();
    let output = kubectl.machine.try_run(kubectl.program, &["diff", "-f", path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("-  replicas: 2") && text.contains("+  replicas: 1"), "{text}");
    kubectl.shows(&format!("replace -f {}", path.display()), &["deployment.apps/web replaced"]);
    kubectl.shows(&format!("get -f {} -o name", path.display()), &["deployment.apps/web"]);
    kubectl.machine.apply(DEPLOYMENT);
    kubectl.rolled_out();
}

/// There is no network of Services here: what is forwarded and proxied goes to pods.
fn services_are_exposed(kubectl: &Kubectl<'_>) {
    let machine = kubectl.machine;
    kubectl.shows(
        "expose deployment web --port=80 --target-port=http --name=front",
        &["service/front exposed"],
    );
    kubectl.shows("get service front -o wide", &["ClusterIP", "80/TCP", "app=web"]);
    let forwarding =
        Talk::start(machine, kubectl.program, &["port-forward", "service/front", "18080:80"]);
    forwarding.expect("Forwarding from 127.0.0.1:18080 -> 8080");
    assert!(machine.get("127.0.0.1:18080", "/").unwrap().text().contains("Hello"));
    drop(forwarding);
    let words =
        "get pods -l app=web -o jsonpath={.items[0].metadata.name}/{.items[0].status.podIP}";
    let pod = kubectl.run(words);
    let (pod, address) = pod.split_once('/').unwrap();
    let reference = serde_json::json!({"kind": "Pod", "namespace": "default", "name": pod});
    let slice = serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "by-hand-1", "labels": {"kubernetes.io/service-name": "by-hand"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            // No pod, not ready, not the pod's own: nobody is asked there.
            {"addresses": ["192.0.2.10"]},
            {"addresses": [address], "conditions": {"ready": false}, "targetRef": reference},
            {"addresses": ["192.0.2.10"], "conditions": {"ready": true}, "targetRef": reference},
            {"addresses": [address], "conditions": {"ready": true}, "targetRef": reference},
        ],
    });
    // Nobody but us says where this one leads.
    let service = serde_json::json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "by-hand"}, "spec": {"ports": [{"port": 80}]}});
    machine.apply(&service.to_string());
    machine.apply(&slice.to_string());
    for path in
        ["by-hand/proxy", "by-hand/proxy/", "by-hand:80/proxy/index.html", "http:by-hand:/proxy/"]
    {
        let raw = format!("/api/v1/namespaces/default/services/{path}");
        kubectl.shows(&format!("get --raw {raw}"), &["Hello"]);
    }
    kubectl.run("delete endpointslice by-hand-1");
    kubectl.is_refused(
        "get --raw /api/v1/namespaces/default/services/by-hand/proxy/",
        "no endpoints available for service \"by-hand\"",
    );
    kubectl.is_refused(
        "get --raw /api/v1/namespaces/default/services/by-hand:9/proxy/",
        "no service port 9 found for service \"by-hand\"",
    );
    kubectl.run("delete service by-hand front");
}

fn kinds_are_explained(kubectl: &Kubectl<'_>) {
    kubectl.shows("explain deployment.spec.strategy", &["FIELDS:", "rollingUpdate"]);
    kubectl.shows("explain hpa.spec --api-version=autoscaling/v2", &["maxReplicas", "behavior"]);
    kubectl.shows("api-resources --api-group=apps", &["deployments", "controllerrevisions"]);
    kubectl.shows("api-resources --verbs=list -o wide", &["watch", "pods", "po"]);
    kubectl.shows("api-versions", &["autoscaling/v2", "metrics.k8s.io/v1beta1"]);
    kubectl.shows("cluster-info", &["is running at", "https://"]);
}

fn usage_is_shown(kubectl: &Kubectl<'_>) {
    kubectl.shows("top node", &["CPU(cores)", "one ", "Mi"]);
    kubectl.shows("top pod -l app=web --containers", &["NAME", "web", "Mi"]);
    kubectl.shows("top pod -A --sort-by=memory", &["NAMESPACE", "default", "web-"]);
    let summary = kubectl.run("get --raw /api/v1/nodes/one/proxy/stats/summary");
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["node"]["nodeName"], "one");
    let pods = summary["pods"].as_array().unwrap();
    assert!(pods.iter().any(|pod| pod["containers"][0]["name"] == "web"), "{summary}");
    kubectl.is_refused("top pod nobody", "not found");
}

fn conditions_are_waited_for(kubectl: &Kubectl<'_>) {
    let machine = kubectl.machine;
    let waiting =
        Talk::start(machine, "kubectl", &["wait", "--for=create", "pod/later", "--timeout=60s"]);
    kubectl.run(&format!("run later --image={IMAGE} --labels=app=later"));
    assert!(waiting.end().status.success());
    kubectl.shows("wait --for=jsonpath={.status.phase}=Running pod/later --timeout=60s", &["met"]);
    kubectl.shows("wait --for=condition=Ready=true pod -l app=later --timeout=60s", &["met"]);
    kubectl
        .is_refused("wait --for=condition=Ready=false pod/later --timeout=1s", "timed out waiting");
    let gone =
        Talk::start(machine, "kubectl", &["wait", "--for=delete", "pod/later", "--timeout=60s"]);
    let watching = Talk::start(
        machine,
        "kubectl",
        &["get", "pods", "later", "--watch", "--output-watch-events"],
    );
    watching.expect("ADDED");
    kubectl.run("delete pod later --grace-period=1");
    assert!(gone.end().status.success());
    watching.expect("DELETED");
    kubectl.shows("events --for pod/later", &["Started", "Killing"]);
    kubectl.shows("autoscale deployment web --cpu-percent=50 --min=1 --max=3", &["autoscaled"]);
    kubectl.shows("get hpa web", &["Deployment/web", "50%"]);
    kubectl.run("delete hpa web");
}
