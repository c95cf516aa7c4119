//! kubectl, the host's own and the one of Debian 12, which is of 1.20: what people type.

use super::Served;
use crate::support::{DEADLINE, eventually};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Where `packaging/deps.sh test` puts it.
const OLD: &str = "/var/cache/kinglet-tests/kubectl-1.20";

struct Kubectl<'s> {
    program: &'static str,
    kubeconfig: PathBuf,
    /// Where it keeps what it has discovered.
    home: tempfile::TempDir,
    _served: &'s Served,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn refused(self) -> String {
        assert_ne!(self.code, 0, "{}", self.out);
        self.err
    }
}

impl<'s> Kubectl<'s> {
    fn new(program: &'static str, served: &'s Served) -> Self {
        let (kubeconfig, home) = (served.kubeconfig_file(), tempfile::tempdir().unwrap());
        Self { program, kubeconfig, home, _served: served }
    }

    /// Runs it with these words, and `input` as its standard input.
    async fn with(&self, words: &str, input: &str) -> Said {
        let mut child = Command::new(self.program)
            .args(words.split_whitespace())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home.path())
            .env("KUBE_EDITOR", "sed -i s/blue/green/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feed = async {
            // Who does not read it has closed it.
            stdin.write_all(input.as_bytes()).await.ok();
            drop(stdin);
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(DEADLINE, run).await.expect("it ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        Said { code, out: text(output.stdout), err: text(output.stderr) }
    }

    async fn say(&self, words: &str) -> Said {
        self.with(words, "").await
    }

    async fn apply(&self, object: &Value) -> String {
        self.with("apply -f -", &object.to_string()).await.ok()
    }

    async fn read(&self, what: &str) -> Value {
        serde_json::from_str(&self.say(&format!("get {what} -o json")).await.ok()).unwrap()
    }
}

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn web(image: &str, replicas: u32) -> Value {
    let labels = json!({"app": "web"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

async fn objects_are_applied_and_changed(kubectl: &Kubectl<'_>) {
    assert_eq!(kubectl.apply(&map(&json!({"x": "1", "y": "1"}))).await, "configmap/a created\n");
    assert_eq!(kubectl.apply(&map(&json!({"x": "1", "y": "1"}))).await, "configmap/a unchanged\n");
    let newer = map(&json!({"x": "2", "z": "blue"})).to_string();
    let diff = kubectl.with("diff -f -", &newer).await;
    assert_eq!(diff.code, 1, "{}", diff.err);
    assert!(diff.out.contains("+  z: blue"), "{}", diff.out);
    assert_eq!(kubectl.with("apply -f -", &newer).await.ok(), "configmap/a configured\n");
    assert_eq!(kubectl.read("configmap a").await["data"], json!({"x": "2", "z": "blue"}));

    kubectl.say("label configmap a color=blue").await.ok();
    kubectl.say("annotate configmap a note=x").await.ok();
    kubectl.say(r#"patch configmap a --type=merge -p {"data":{"x":"3"}}"#).await.ok();
    let json_patch =
        r#"patch configmap a --type=json -p [{"op":"add","path":"/data/w","value":"1"}]"#;
    kubectl.say(json_patch).await.ok();
    kubectl.say("edit configmap a").await.ok();
    let map = kubectl.read("configmap -l color=green").await;
    assert_eq!(map["items"][0]["data"], json!({"x": "3", "w": "1", "z": "green"}));
    let err = kubectl.say("create configmap a --from-literal=x=1").await.refused();
    assert!(err.contains("configmaps \"a\" already exists"), "{err}");
    assert_eq!(kubectl.say("delete configmap a").await.ok(), "configmap \"a\" deleted\n");
    let err = kubectl.say("get configmap a").await.refused();
    assert_eq!(err, "Error from server (NotFound): configmaps \"a\" not found\n");
}

async fn objects_are_applied_by_the_server(kubectl: &Kubectl<'_>) {
    // What was applied by kubectl itself before goes over to it.
    kubectl.apply(&map(&json!({"x": "1", "gone": "1"}))).await;
    let first = map(&json!({"x": "1"})).to_string();
    let words = "apply --server-side --force-conflicts -f -";
    let said = kubectl.with(words, &first).await.ok();
    assert_eq!(said, "configmap/a serverside-applied\n");
    let other = map(&json!({"x": "2"})).to_string();
    let err =
        kubectl.with("apply --server-side --field-manager=other -f -", &other).await.refused();
    assert!(err.contains(" with \"kubectl\""), "{err}");
    assert!(err.contains(".data.x"), "{err}");
    let forced = "apply --server-side --force-conflicts --field-manager=other -f -";
    kubectl.with(forced, &other).await.ok();
    assert_eq!(kubectl.read("configmap a").await["data"]["x"], "2");
    kubectl.say("delete configmap a").await.ok();
}

async fn deployments_roll_out(kubectl: &Kubectl<'_>) {
    kubectl.apply(&web("fine", 2)).await;
    let said = kubectl.say("rollout status deployment/web --timeout=60s").await.ok();
    assert!(said.contains("successfully rolled out"), "{said}");
    kubectl.say("scale deployment/web --replicas=3").await.ok();
    kubectl.say("set image deployment/web c=finer").await.ok();
    kubectl.say("rollout status deployment/web --timeout=60s").await.ok();
    let history = kubectl.say("rollout history deployment/web").await.ok();
    assert!(history.lines().any(|line| line.starts_with("2 ")), "{history}");
    kubectl.say("rollout undo deployment/web").await.ok();
    kubectl.say("rollout status deployment/web --timeout=60s").await.ok();
    kubectl.say("wait deployment/web --for=condition=Available --timeout=60s").await.ok();
    let table = kubectl.say("get deployment web -o wide").await.ok();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        lines.next().unwrap(),
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    );
    let row = lines.next().unwrap();
    assert_eq!(
        (&row[..4], &row[5..]),
        (&["web", "3/3", "3", "3"][..], &["c", "fine", "app=web"][..])
    );
    let described = kubectl.say("describe deployment web").await.ok();
    assert!(described.contains("RollingUpdateStrategy:"), "{described}");
    kubectl.say("expose deployment web --port=80").await.ok();
    kubectl.say("autoscale deployment web --min=1 --max=4").await.ok();
    assert_eq!(kubectl.read("hpa web").await["spec"]["maxReplicas"], 4);
    kubectl.say("delete hpa,service,deployment web").await.ok();
    eventually("its pods are gone", async || {
        let pods = kubectl.read("pods -l app=web").await;
        pods["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

async fn custom_resources_are_like_all_others(kubectl: &Kubectl<'_>) {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "description": "What the tab does.",
        "properties": {"cronSpec": {"type": "string", "pattern": "^\\S+( \\S+){4}$"},
            "replicas": {"type": "integer", "description": "How many of them."}}}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [
                    {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}]}]},
    });
    kubectl.apply(&definition).await;
    let name = "crd/crontabs.stable.example.com";
    kubectl.say(&format!("wait {name} --for=condition=Established --timeout=60s")).await.ok();
    let tab = |spec: Value| {
        json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab",
            "metadata": {"name": "t"}, "spec": spec})
    };
    let spec = json!({"cronSpec": "* * * * */5", "replicas": 1});
    assert!(kubectl.apply(&tab(spec)).await.contains("crontab.stable.example.com/t created"));
    kubectl.say("scale ct/t --replicas=3").await.ok();
    let table = kubectl.say("get ct").await.ok();
    let words: Vec<_> = table.split_whitespace().collect();
    assert_eq!(words, ["NAME", "SPEC", "REPLICAS", "t", "*", "*", "*", "*", "*/5", "3"]);
    let wrong = tab(json!({"cronSpec": "soon"})).to_string();
    let err = kubectl.with("apply -f -", &wrong).await.refused();
    assert!(err.contains("spec.cronSpec in body should match"), "{err}");
    let explained = kubectl.say("explain ct.spec.replicas").await.ok();
    assert!(explained.contains("How many of them."), "{explained}");
    kubectl.say(&format!("delete {name}")).await.ok();
    let err = kubectl.say("get ct").await.refused();
    // It may still know the kind, from its own cache.
    let unknown = "the server doesn't have a resource type \"ct\"";
    let gone = "the server could not find the requested resource";
    assert!(err.contains(unknown) || err.contains(gone), "{err}");
}

async fn everything_is_explained_and_listed(kubectl: &Kubectl<'_>) {
    let kinds = kubectl.say("api-resources -o name --verbs=list").await.ok();
    assert!(kinds.lines().count() > 50, "{kinds}");
    for kind in kinds.lines() {
        kubectl.say(&format!("get {kind} -A")).await.ok();
    }
    for kind in ["pod.spec.containers.resources", "deployment.spec.strategy", "crd.spec.versions"] {
        let said = kubectl.say(&format!("explain {kind} --recursive")).await.ok();
        assert!(said.contains("FIELDS:"), "{said}");
    }
    for (what, words) in [
        ("deployment", "Deployment enables declarative updates"),
        ("deployment.spec.replicas", "Number of desired pods."),
        ("crd.spec.scope", "scope indicates whether"),
    ] {
        let said = kubectl.say(&format!("explain {what}")).await.ok();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(kubectl.say("auth can-i create pods").await.ok(), "yes\n");
    let no = kubectl.say("auth can-i create pods --as=nobody").await;
    assert_eq!((no.code, &*no.out), (1, "no\n"));
    kubectl.say("get --raw /readyz").await.ok();
    kubectl.say("cluster-info").await.ok();
    kubectl.say("version").await.ok();
}

async fn whole_suite(program: &'static str) {
    let served = Served::start().await;
    let kubectl = Kubectl::new(program, &served);
    objects_are_applied_and_changed(&kubectl).await;
    objects_are_applied_by_the_server(&kubectl).await;
    deployments_roll_out(&kubectl).await;
    custom_resources_are_like_all_others(&kubectl).await;
    everything_is_explained_and_listed(&kubectl).await;
}

#[tokio::test]
async fn the_hosts_own_passes() {
    whole_suite("kubectl").await;
}

#[tokio::test]
async fn one_of_years_ago_passes() {
    whole_suite(OLD).await;
}

#[tokio::test]
async fn what_is_misspelt_is_refused_before_anything_is_stored() {
    let served = Served::start().await;
    let kubectl = Kubectl::new("kubectl", &served);
    let mut wrong = web("fine", 1);
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = json!("Always");
    let said = kubectl.with("apply --validate=strict -f -", &wrong.to_string()).await;
    let err = said.refused();
    assert!(
        err.contains("unknown field \"spec.template.spec.containers[0].imagePullPolcy\""),
        "{err}"
    );
    let token = kubectl.say("create token default --audience=somebody").await.ok();
    assert_eq!(token.matches('.').count(), 2);
    let said = kubectl.with("replace --force -f -", &map(&json!({"x": "1"})).to_string()).await;
    assert!(said.ok().contains("configmap/a replaced"));
    let list = |items: &[Value]| json!({"apiVersion": "v1", "kind": "List", "items": items});
    let both = list(&[map(&json!({"x": "1"})), web("fine", 0)]).to_string();
    kubectl.with("apply -f - -l app!=none", &both).await.ok();
    let pruned = "apply -f - --prune -l app!=none --prune-allowlist=core/v1/ConfigMap \
                  --prune-allowlist=apps/v1/Deployment";
    let said = kubectl.with(pruned, &list(&[web("fine", 0)]).to_string()).await.ok();
    assert!(said.contains("configmap/a pruned"), "{said}");
}
