//! Who may do what, as users of kubectl see it.

use super::machine::Machine;
use nix::sys::signal::Signal;

const ACCESS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: bot}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [get, list, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: ServiceAccount, name: bot}
";

/// A machine with one more kubeconfig: that of the account `bot`.
struct Bot<'a> {
    machine: &'a Machine,
    kubeconfig: String,
}

impl<'a> Bot<'a> {
    fn new(machine: &'a Machine) -> Self {
        let kubeconfig = machine.path("bot.yaml").to_str().unwrap().to_owned();
        std::fs::copy(machine.path("kinglet.yaml"), &kubeconfig).unwrap();
        let token = machine.kubectl(&["create", "token", "bot"]);
        let bot = Self { machine, kubeconfig };
        bot.ok(&["config", "set-credentials", "bot", "--token", token.trim()]);
        bot.ok(&["config", "set-context", "--current", "--user", "bot"]);
        bot
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut words = vec!["--kubeconfig", self.kubeconfig.as_str()];
        words.extend(arguments);
        let output = self.machine.try_run("kubectl", &words);
        let told = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let (succeeded, told) = self.run(arguments);
        assert!(succeeded, "{arguments:?}: {told}");
        told
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let (succeeded, told) = self.run(arguments);
        assert!(!succeeded, "{arguments:?} was not refused: {told}");
        told
    }
}

#[test]
fn an_account_does_what_its_role_says() {
    let mut machine = Machine::new();
    machine.start();
    machine.apply(ACCESS);
    let bot = Bot::new(&machine);
    let who = bot.ok(&["auth", "whoami"]);
    assert!(who.contains("system:serviceaccount:default:bot"), "{who}");
    bot.ok(&["create", "configmap", "made", "--from-literal=a=b"]);
    assert!(bot.ok(&["get", "configmaps"]).contains("made"));
    let told = bot.refused(&["delete", "configmap", "made"]);
    assert!(
        told.contains(
            "User \"system:serviceaccount:default:bot\" cannot delete resource \"configmaps\" in \
             API group \"\" in the namespace \"default\""
        ),
        "{told}"
    );
    assert_eq!(bot.ok(&["auth", "can-i", "list", "configmaps"]).trim(), "yes");
    assert_eq!(
        machine.try_run("kubectl", &["auth", "can-i", "delete", "pods", "--as", "bob"]).stdout,
        b"no\n"
    );
    let list = bot.ok(&["auth", "can-i", "--list"]);
    assert!(list.contains("configmaps") && list.contains("selfsubjectreviews"), "{list}");
    let as_bot = ["get", "pods", "--as", "system:serviceaccount:default:bot"];
    let told = machine.kubectl_refused(&as_bot);
    assert!(told.contains("cannot list resource \"pods\""), "{told}");
    bot.refused(&["get", "configmaps", "--as", "system:admin"]);
    machine.kubectl(&["create", "clusterrolebinding", "v", "--clusterrole=view", "--user=alice"]);
    machine.kubectl(&["get", "pods", "--as", "alice"]);
    machine.kubectl_refused(&["get", "secrets", "--as", "alice"]);
    machine.kubectl(&["delete", "serviceaccount", "bot"]);
    let told = bot.refused(&["get", "configmaps"]);
    assert!(told.contains("You must be logged in") || told.contains("Unauthorized"), "{told}");
    let log = machine.server_log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("was refused")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    machine.stop(Signal::SIGTERM);
}
