//! The kubectl of Debian 12, five years older than the API that is served: it checks manifests, merges
//! them and explains fields by `/openapi/v2` in protobuf, which newer ones never ask for.

use super::machine::Machine;

/// Where packaging/deps.sh puts it.
pub const PROGRAM: &str = "/var/cache/kinglet-tests/kubectl-1.20";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: old}
spec:
  replicas: 3
  selector: {matchLabels: {app: old}}
  template:
    metadata: {labels: {app: old}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        ports: [{containerPort: 8080}]
";

const TALKER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: chatter}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: chatter
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c, 'for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done']
";

struct Kubectl<'a>(&'a Machine);

impl Kubectl<'_> {
    /// Writes a manifest to a file and says where that is.
    fn manifest(&self, text: &str) -> String {
        let path = self.0.path("old.yaml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `arguments` are separated by spaces.
    #[track_caller]
    fn run(&self, arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split(' ').collect();
        self.0.run(PROGRAM, &arguments)
    }

    #[track_caller]
    fn shows(&self, arguments: &str, expected: &[&str]) {
        let shown = self.run(arguments);
        for word in expected {
            assert!(shown.contains(word), "{arguments} without {word:?}:\n{shown}");
        }
    }

    #[track_caller]
    fn is_refused(&self, arguments: &str, expected: &str) {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let output = self.0.try_run(PROGRAM, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }
}

/// From apply to delete, on a machine whose registry and server run.
pub fn works(machine: &Machine) {
    let kubectl = Kubectl(machine);
    kubectl.shows("version --short", &["Client Version: v1.20", "Server Version: v1.35"]);
    manifests_are_checked_and_merged(&kubectl);
    kubectl.shows("rollout status deployment/old --timeout=90s", &["successfully rolled out"]);
    kubectl.run("wait --for=condition=Available deployment/old --timeout=60s");
    kubectl.run("wait --for=condition=Ready pod -l app=old --timeout=60s");
    every_form_is_shown(&kubectl);
    logs_follow(&kubectl);
    rollouts_are_led(&kubectl);
    kubectl.run("delete deployment old --timeout=60s");
    machine
        .eventually("the pods are gone", || kubectl.run("get pods -l app=old -o name").is_empty());
}

fn manifests_are_checked_and_merged(kubectl: &Kubectl<'_>) {
    let file = kubectl.manifest(DEPLOYMENT);
    kubectl.shows(&format!("apply -f {file}"), &["deployment.apps/old created"]);
    kubectl.shows(&format!("apply -f {file}"), &["deployment.apps/old unchanged"]);
    let wrong = kubectl.manifest(&DEPLOYMENT.replace("replicas:", "replicsa:"));
    let why = "ValidationError(Deployment.spec): unknown field \"replicsa\" in \
               io.k8s.api.apps.v1.DeploymentSpec";
    kubectl.is_refused(&format!("apply -f {wrong}"), why);
    let five = kubectl.manifest(&DEPLOYMENT.replace("replicas: 3", "replicas: 5"));
    kubectl.shows(&format!("apply --dry-run=server -f {five}"), &["configured (server dry run)"]);
    let difference = kubectl.0.try_run(PROGRAM, &["diff", "-f", &five]);
    let text = String::from_utf8_lossy(&difference.stdout).into_owned();
    assert!(text.contains("-  replicas: 3") && text.contains("+  replicas: 5"), "{text}");
    kubectl.shows("explain deployment.spec.replicas", &["KIND:     Deployment", "<integer>"]);
    kubectl.shows("explain pod.spec.containers", &["<[]Object>", "imagePullPolicy", "-required-"]);
}

fn every_form_is_shown(kubectl: &Kubectl<'_>) {
    kubectl.shows("get deploy", &["READY", "UP-TO-DATE", "AVAILABLE", "3/3"]);
    kubectl.shows("get deploy old -o wide", &["CONTAINERS", "SELECTOR", "hello:1", "app=old"]);
    kubectl.shows("get pods -l app=old -o wide", &["NODE", "NOMINATED NODE", "Running", "one"]);
    kubectl.shows("get deploy old -o yaml", &["readyReplicas: 3", "kind: Deployment"]);
    kubectl.shows("get deploy old -o json", &["\"readyReplicas\": 3"]);
    kubectl.shows("get rs -l app=old -o name", &["replicaset.apps/old-"]);
    assert_eq!(kubectl.run("get deploy old -o jsonpath={.status.readyReplicas}"), "3");
    kubectl.shows("get pods -o custom-columns=N:.metadata.name,P:.status.phase", &["N ", "old-"]);
    assert_eq!(kubectl.run("get deploy old -o go-template={{.spec.replicas}}"), "3");
    kubectl.shows("describe deployment old", &["RollingUpdate", "ScalingReplicaSet", "hello:1"]);
    kubectl.shows("describe pods -l app=old", &["Scheduled", "Pulled", "Started"]);
    kubectl.shows("describe node one", &["Capacity:", "Allocated resources:", "old-"]);
    kubectl.shows("get all", &["deployment.apps/old", "service/kubernetes"]);
    kubectl.shows("api-resources", &["deployments", "deploy", "apps/v1"]);
}

fn logs_follow(kubectl: &Kubectl<'_>) {
    let file = kubectl.manifest(TALKER);
    kubectl.run(&format!("apply -f {file}"));
    kubectl.0.eventually("the container has begun", || {
        let id = "get pod chatter -o jsonpath={.status.containerStatuses[0].containerID}";
        !kubectl.run(id).is_empty()
    });
    assert_eq!(kubectl.run("logs -f chatter"), "line 1\nline 2\nline 3\nline 4\nline 5\n");
    kubectl.run("delete pod chatter --timeout=60s");
}

fn rollouts_are_led(kubectl: &Kubectl<'_>) {
    let status = "rollout status deployment/old --timeout=90s";
    let image = "get deploy old -o jsonpath={.spec.template.spec.containers[0].image}";
    kubectl.shows("scale deployment/old --replicas=2", &["scaled"]);
    kubectl.run(status);
    assert_eq!(kubectl.run("get deploy old -o jsonpath={.status.replicas}"), "2");
    kubectl.run("set image deployment/old web=127.0.0.1:5000/hello:2");
    kubectl.run(status);
    assert_eq!(kubectl.run(image), "127.0.0.1:5000/hello:2");
    kubectl.shows("rollout history deployment/old", &["\n1 ", "\n2 "]);
    kubectl.shows("rollout history deployment/old --revision=2", &["hello:2"]);
    kubectl.run("rollout undo deployment/old");
    kubectl.run(status);
    assert_eq!(kubectl.run(image), "127.0.0.1:5000/hello:1");
}
