//! Manifests in a directory: what is in them is in the cluster, and goes with them.

use crate::cluster::Cluster;
use crate::support::eventually;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const ADDONS: &str = "/apis/kinglet.dev/v1/namespaces/kube-system/addons";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A cluster whose manifests are in a directory of its own.
struct Case {
    cluster: Cluster,
    directory: tempfile::TempDir,
}

impl Case {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::with_manifests(Some(directory.path().join("manifests"))).await;
        let case = Self { cluster, directory };
        eventually("the directory is made", async || case.path("").is_dir().then_some(())).await;
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn exists(&self, path: &str) -> bool {
        self.cluster.api.get(path).await.code == 200
    }

    async fn comes(&self, path: &str) -> Value {
        eventually(path, async || {
            let answer = self.cluster.api.get(path).await;
            (answer.code == 200).then(|| answer.json())
        })
        .await
    }

    async fn goes(&self, path: &str) {
        eventually(path, async || (self.cluster.api.get(path).await.code == 404).then_some(()))
            .await;
    }

    /// Waits until the AddOn says this of itself: `True Applied`.
    async fn says(&self, addon: &str, expected: &str) -> Value {
        eventually(&format!("{addon} is {expected}"), async || {
            let answer = self.cluster.api.get(&format!("{ADDONS}/{addon}")).await;
            let addon = (answer.code == 200).then(|| answer.json())?;
            let condition = &addon["status"]["conditions"][0];
            let said = format!("{} {}", text(condition, "status"), text(condition, "reason"));
            (said == expected).then_some(addon)
        })
        .await
    }

    /// Waits until an event about an AddOn has this reason, and returns what it says.
    async fn event(&self, addon: &str, reason: &str) -> String {
        eventually(&format!("event {reason}"), async || {
            let events = self.cluster.api.get("/api/v1/namespaces/kube-system/events").await.json();
            let events = events["items"].as_array()?.clone();
            let event = events.iter().find(|event| {
                event["involvedObject"]["name"] == addon && event["reason"] == reason
            })?;
            Some(text(event, "message").to_owned())
        })
        .await
    }
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

fn message(addon: &Value) -> &str {
    text(&addon["status"]["conditions"][0], "message")
}

fn map(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: {value}}}\n"
    )
}

const KITES: &str = "
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kites.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: kites, kind: Kite}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
const KITE: &str = "
---
apiVersion: example.com/v1
kind: Kite
metadata: {name: red}
spec: {tail: long}
";
const A_KITE: &str = "/apis/example.com/v1/namespaces/default/kites/red";

#[tokio::test]
async fn files_are_applied_changed_and_pruned() {
    let case = Case::start().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let all = case.cluster.api.get(definitions).await.json();
    assert_eq!(all["items"], json!([]), "nothing is made for no manifests");

    case.write("web.yaml", &(map("a", "one") + &map("b", "one")));
    let a = case.comes(&format!("{MAPS}/a")).await;
    assert_eq!(a["metadata"]["annotations"]["kinglet.dev/addon"], "web");
    assert_eq!(a["metadata"]["managedFields"][0]["manager"], "kinglet-addons");
    let addon = case.says("web", "True Applied").await;
    assert_eq!(addon["spec"]["source"], "web.yaml");
    assert_eq!(text(&addon["spec"], "checksum").len(), 64);
    assert_eq!(addon["status"]["objects"].as_array().unwrap().len(), 2);
    assert_eq!(case.event("web", "Applied").await, "web.yaml: 2 objects applied");

    case.write("web.yaml", &map("a", "two"));
    case.goes(&format!("{MAPS}/b")).await;
    let a = case.comes(&format!("{MAPS}/a")).await;
    assert_eq!(a["data"]["key"], "two");
    let pruned = case.event("web", "Pruned").await;
    assert_eq!(pruned, "pruned 1 object: ConfigMap default/b");

    fs::remove_file(case.path("web.yaml")).unwrap();
    case.goes(&format!("{MAPS}/a")).await;
    case.goes(&format!("{ADDONS}/web")).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_understood_prunes_nothing() {
    let case = Case::start().await;
    fs::create_dir(case.path("apps")).unwrap();
    case.write("apps/web.yml", &map("a", "one"));
    case.says("apps-web", "True Applied").await;
    case.write("apps/web.yml", &(map("b", "one") + "---\nkind: [\n"));
    let addon = case.says("apps-web", "False ParseFailed").await;
    assert!(message(&addon).starts_with("yaml: line "), "{addon}");
    assert!(case.event("apps-web", "ParseFailed").await.starts_with("apps/web.yml: yaml: line "));
    assert!(case.exists(&format!("{MAPS}/a")).await);
    assert!(!case.exists(&format!("{MAPS}/b")).await, "all of a file or nothing");
    assert_eq!(addon["status"]["objects"][0]["name"], "a");
    case.write("apps/web.yml", &map("c", "one"));
    case.says("apps-web", "True Applied").await;
    case.goes(&format!("{MAPS}/a")).await;
    fs::remove_dir_all(case.path("apps")).unwrap();
    case.goes(&format!("{MAPS}/c")).await;
}

#[tokio::test]
async fn skipped_files_are_left_as_they_are() {
    let case = Case::start().await;
    case.write("never.yaml.skip", "");
    case.write("never.yaml", &map("never", "one"));
    case.write("web.yaml", &map("a", "one"));
    case.says("web", "True Applied").await;
    case.write("web.yaml.skip", "");
    case.write("web.yaml", &map("b", "one"));
    case.write("other.yaml", &map("other", "one"));
    case.says("other", "True Applied").await;
    assert!(case.exists(&format!("{MAPS}/a")).await && !case.exists(&format!("{MAPS}/b")).await);
    assert!(!case.exists(&format!("{MAPS}/never")).await);
    fs::remove_file(case.path("web.yaml.skip")).unwrap();
    case.comes(&format!("{MAPS}/b")).await;
    case.goes(&format!("{MAPS}/a")).await;
}

#[tokio::test]
async fn kinds_come_with_their_objects_or_from_another_file() {
    let case = Case::start().await;
    case.write("all.yaml", &format!("{KITE}{KITES}"));
    case.comes(A_KITE).await;
    let addon = case.says("all", "True Applied").await;
    let objects = addon["status"]["objects"].as_array().unwrap();
    let kite = objects.iter().find(|object| object["kind"] == "Kite").unwrap();
    assert_eq!((objects.len(), text(kite, "namespace")), (2, "default"));
    fs::remove_file(case.path("all.yaml")).unwrap();
    case.goes("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kites.example.com").await;

    case.write("a-kite.yaml", KITE);
    let addon = case.says("a-kite", "False Waiting").await;
    assert_eq!(message(&addon), "Kite red: no Kite of example.com/v1 is served yet");
    case.write("kites.yaml", KITES);
    case.comes(A_KITE).await;
    case.says("a-kite", "True Applied").await;
}

#[tokio::test]
async fn a_namespace_that_comes_is_what_was_waited_for() {
    let case = Case::start().await;
    let text = map("a", "one").replace("{name: a}", "{name: a, namespace: shop}");
    case.write("web.yaml", &text);
    let addon = case.says("web", "False Waiting").await;
    assert_eq!(message(&addon), "ConfigMap shop/a: namespaces \"shop\" not found");
    let shop = json!({"metadata": {"name": "shop"}});
    case.cluster.api.post("/api/v1/namespaces", &shop).await.ok();
    case.comes("/api/v1/namespaces/shop/configmaps/a").await;
    case.says("web", "True Applied").await;

    // What goes with its namespace is not missed, and comes with the next change.
    case.cluster.api.delete("/api/v1/namespaces/shop").await.ok();
    case.goes("/api/v1/namespaces/shop").await;
    case.write(
        "web.yaml",
        &format!("{text}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n"),
    );
    case.comes("/api/v1/namespaces/shop/configmaps/a").await;
    case.says("web", "True Applied").await;
}

#[tokio::test]
async fn what_somebody_else_has_applied_is_overwritten() {
    let case = Case::start().await;
    let theirs = json!({"metadata": {"name": "a"}, "data": {"key": "theirs", "more": "theirs"}});
    case.cluster.api.post(MAPS, &theirs).await.ok();
    case.write("web.yaml", &map("a", "ours"));
    case.says("web", "True Applied").await;
    let a = case.comes(&format!("{MAPS}/a")).await;
    assert_eq!(a["data"], json!({"key": "ours", "more": "theirs"}));
    // Whoever takes the mark away has taken it over.
    let taken = json!({"metadata": {"annotations": {"kinglet.dev/addon": null}}});
    case.cluster.api.patch(&format!("{MAPS}/a"), "merge", &taken).await.ok();
    fs::remove_file(case.path("web.yaml")).unwrap();
    case.goes(&format!("{ADDONS}/web")).await;
    assert!(case.exists(&format!("{MAPS}/a")).await);
}

#[tokio::test]
async fn one_object_that_is_refused_keeps_no_other_from_being_applied() {
    let case = Case::start().await;
    case.write("web.yaml", &map("gone", "one"));
    case.says("web", "True Applied").await;
    let bad =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n";
    case.write("web.yaml", &format!("{bad}{}", map("good", "one")));
    let addon = case.says("web", "False ApplyFailed").await;
    let said = message(&addon);
    assert!(said.starts_with("Service default/bad: Service \"bad\" is invalid"), "{said}");
    assert!(
        said.ends_with("1 object that went from the file will be pruned when all of it is applied")
    );
    assert!(
        case.exists(&format!("{MAPS}/good")).await && case.exists(&format!("{MAPS}/gone")).await
    );
    case.write("web.yaml", &map("good", "one"));
    case.goes(&format!("{MAPS}/gone")).await;
    case.says("web", "True Applied").await;
}

#[tokio::test]
async fn an_object_of_two_files_is_of_one() {
    let case = Case::start().await;
    case.write("a.yaml", &map("shared", "a"));
    case.says("a", "True Applied").await;
    case.write("b.yaml", &(map("shared", "b") + &map("own", "b")));
    let b = case.says("b", "False Disputed").await;
    assert_eq!(message(&b), "ConfigMap default/shared: it belongs to the AddOn a");
    assert!(case.exists(&format!("{MAPS}/own")).await);
    fs::remove_file(case.path("a.yaml")).unwrap();
    case.says("b", "True Applied").await;
    case.goes(&format!("{ADDONS}/a")).await;
    let shared = case.comes(&format!("{MAPS}/shared")).await;
    assert_eq!(shared["data"]["key"], "b");
    assert_eq!(shared["metadata"]["annotations"]["kinglet.dev/addon"], "b");
}

#[tokio::test]
async fn what_changes_while_the_server_is_away_is_seen_when_it_is_back() {
    let mut case = Case::start().await;
    case.write("web.yaml", &(map("a", "one") + &map("b", "one")));
    case.write("old.yaml", &map("old", "one"));
    case.says("web", "True Applied").await;
    let old = case.says("old", "True Applied").await;
    case.cluster.stop_controllers().await;
    case.cluster.api.delete(&format!("{MAPS}/a")).await.ok();
    case.write("web.yaml", &map("a", "one"));
    case.cluster.start_controllers();
    case.goes(&format!("{MAPS}/b")).await;
    case.comes(&format!("{MAPS}/a")).await;
    let same = case.says("old", "True Applied").await;
    let revision = |addon: &Value| addon["metadata"]["resourceVersion"].clone();
    assert_eq!(revision(&old), revision(&same), "nothing is written where nothing has changed");

    case.cluster.stop_controllers().await;
    fs::remove_file(case.path("old.yaml")).unwrap();
    case.cluster.start_controllers();
    case.goes(&format!("{MAPS}/old")).await;

    // A directory that is not there is not an empty one.
    case.cluster.stop_controllers().await;
    fs::rename(case.path(""), case.directory.path().join("elsewhere")).unwrap();
    case.cluster.start_controllers();
    fs::rename(case.directory.path().join("elsewhere"), case.path("")).unwrap();
    case.write("new.yaml", &map("new", "one"));
    case.comes(&format!("{MAPS}/new")).await;
    assert!(case.exists(&format!("{MAPS}/a")).await);
}

#[tokio::test]
async fn an_addon_that_is_deleted_by_hand_is_forgotten_until_the_next_look() {
    let case = Case::start().await;
    case.write("web.yaml", &map("a", "one"));
    case.says("web", "True Applied").await;
    case.cluster.api.delete(&format!("{ADDONS}/web")).await.ok();
    case.write("other.yaml", &map("other", "one"));
    case.says("web", "True Applied").await;
    assert!(case.exists(&format!("{MAPS}/a")).await);
}

#[tokio::test]
async fn a_file_has_a_thousand_objects() {
    let case = Case::start().await;
    let all: String = (0..1_000).map(|number| map(&format!("m{number}"), "one")).collect();
    case.write("many.yaml", &all);
    let addon = case.says("many", "True Applied").await;
    assert_eq!(message(&addon), "1000 objects applied");
    fs::remove_file(case.path("many.yaml")).unwrap();
    // The last of them; to ask for the AddOn again and again, which lists them all, takes longer.
    case.goes(&format!("{MAPS}/m999")).await;
    case.goes(&format!("{ADDONS}/many")).await;
}

#[tokio::test]
async fn a_file_is_read_when_it_is_closed() {
    use std::io::Write as _;
    let case = Case::start().await;
    case.write("web.yaml", &(map("a", "one") + &map("b", "one")));
    case.says("web", "True Applied").await;
    let mut file = fs::File::create(case.path("web.yaml")).unwrap();
    file.write_all(map("a", "two").as_bytes()).unwrap();
    case.write("other.yaml", &map("other", "one"));
    case.says("other", "True Applied").await;
    assert!(case.exists(&format!("{MAPS}/b")).await, "the rest of the file may be about to come");
    file.write_all(map("b", "two").as_bytes()).unwrap();
    drop(file);
    eventually("both have changed", async || {
        let b = case.comes(&format!("{MAPS}/b")).await;
        (b["data"]["key"] == "two").then_some(())
    })
    .await;
}
