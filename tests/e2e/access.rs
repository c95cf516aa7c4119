//! Who may do what, as users of kubectl see it.

use super::machine::Machine;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, DnType, KeyPair};

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

/// What `kubectl auth reconcile` makes, and what becomes of it when somebody has changed it.
const RECONCILED: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: clerk}
rules:
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [get, list]}
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/approval], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: clerk}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: clerk}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: clara}
";

/// A request for a certificate of `jane`, with the key it is for.
fn signing_request(name: &str) -> (String, String) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "jane");
    let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let request = BASE64_STANDARD.encode(pem);
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\n\
         metadata: {{name: {name}}}\nspec:\n  signerName: kubernetes.io/kube-apiserver-client\n  \
         request: {request}\n  usages: [client auth]\n"
    );
    (manifest, key.serialize_pem())
}

#[test]
fn roles_are_made_and_reconciled_and_certificates_approved() {
    let mut machine = Machine::new();
    machine.start();
    machine.kubectl(&["create", "role", "maker", "--verb=create,get", "--resource=configmaps"]);
    machine.kubectl(&["create", "rolebinding", "maker", "--role=maker", "--user=mike"]);
    let rule = ["create", "clusterrole", "nodes", "--verb=list", "--resource=nodes"];
    machine.kubectl(&rule);
    machine.kubectl(&["create", "clusterrole", "logs", "--verb=get", "--non-resource-url=/logs/*"]);
    machine.kubectl(&[
        "create",
        "clusterrolebinding",
        "nodes",
        "--clusterrole=nodes",
        "--user=mike",
    ]);
    machine.kubectl(&["create", "configmap", "a", "--as", "mike"]);
    machine.kubectl(&["get", "nodes", "--as", "mike"]);
    let list = machine.kubectl(&["auth", "can-i", "--list", "--as", "mike"]);
    for expected in ["configmaps", "nodes", "selfsubjectaccessreviews", "/healthz"] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    assert!(!list.contains("secrets"), "{list}");
    let who = machine.kubectl(&["auth", "whoami", "--as", "mike", "--as-group", "ops"]);
    assert!(who.contains("mike") && who.contains("ops"), "{who}");

    let path = machine.path("reconciled.yaml");
    std::fs::write(&path, RECONCILED).unwrap();
    let reconcile = ["auth", "reconcile", "-f", path.to_str().unwrap()];
    let told = machine.kubectl(&reconcile);
    assert!(told.contains("clusterrole.rbac.authorization.k8s.io/clerk reconciled"), "{told}");
    let rules = "[{\"op\": \"remove\", \"path\": \"/rules/1\"}]";
    machine.kubectl(&["patch", "clusterrole", "clerk", "--type=json", "-p", rules]);
    machine.kubectl(&reconcile);
    let rules =
        machine.kubectl(&["get", "clusterrole", "clerk", "-o", "jsonpath={.rules[*].verbs}"]);
    assert!(rules.contains("update"), "what was taken away is back: {rules}");

    let (manifest, key) = signing_request("jane");
    machine.apply(&manifest);
    machine.apply(&signing_request("other").0);
    let approve = ["certificate", "approve", "jane", "--as", "clara"];
    let told = machine.kubectl_refused(&approve);
    assert!(
        told.contains(
            "user not permitted to approve requests with signerName \
             \"kubernetes.io/kube-apiserver-client\""
        ),
        "{told}"
    );
    let signers = [
        "create",
        "clusterrole",
        "signers",
        "--verb=approve",
        "--resource=signers.certificates.k8s.io",
        "--resource-name=kubernetes.io/*",
    ];
    machine.kubectl(&signers);
    machine.kubectl(&[
        "create",
        "clusterrolebinding",
        "s",
        "--clusterrole=signers",
        "--user=clara",
    ]);
    machine.kubectl(&approve);
    machine.kubectl(&["certificate", "deny", "other", "--as", "clara"]);
    let requests = machine.kubectl(&["get", "csr"]);
    assert!(requests.contains("Denied"), "{requests}");
    let certificate = ["get", "csr", "jane", "-o", "jsonpath={.status.certificate}"];
    machine.eventually("the certificate is signed", || !machine.kubectl(&certificate).is_empty());
    let pem = BASE64_STANDARD.decode(machine.kubectl(&certificate)).unwrap();
    let (certificate, key_file) = (machine.path("jane.crt"), machine.path("jane.key"));
    std::fs::write(&certificate, pem).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let jane = machine.path("jane.yaml");
    std::fs::copy(machine.path("kinglet.yaml"), &jane).unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let jane = text(&jane);
    let as_jane = |words: &[&str]| {
        let mut all = vec!["--kubeconfig", &jane];
        all.extend(words);
        machine.kubectl(&all)
    };
    let (certificate, key_file) = (text(&certificate), text(&key_file));
    as_jane(&[
        "config",
        "set-credentials",
        "jane",
        "--client-certificate",
        &certificate,
        "--client-key",
        &key_file,
    ]);
    as_jane(&["config", "set-context", "--current", "--user", "jane"]);
    assert!(as_jane(&["auth", "whoami"]).contains("jane"));
    machine.stop(Signal::SIGTERM);
}

/// The serial number of the certificate that is shown at a port of the machine.
fn serial(machine: &Machine, port: u16) -> String {
    let address = format!("192.0.2.10:{port}");
    let shown = machine.run("openssl", &["s_client", "-connect", &address]);
    let parsed = machine.try_run_with("openssl", &["x509", "-noout", "-serial"], shown.as_bytes());
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    String::from_utf8(parsed.stdout).unwrap()
}

#[test]
fn certificates_and_keys_are_renewed_while_the_server_runs() {
    let mut machine = Machine::new();
    machine.start();
    machine.apply(ACCESS);
    let bot = Bot::new(&machine);
    let data = machine.path("data").to_str().unwrap().to_owned();
    let certificate = |words: &[&str]| {
        let mut all = vec!["certificate"];
        all.extend(words);
        all.extend(["--data-dir", &data]);
        let output = machine.kinglet(&all);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        told
    };
    let checked = certificate(&["check"]);
    assert!(checked.contains("serving-kube-apiserver") && checked.contains("good"), "{checked}");
    let before = (serial(&machine, 6443), serial(&machine, 10_250));
    let log = machine.path("watch.log");
    let watch = format!("exec kubectl get configmaps --watch > {}", log.display());
    let _watch = machine.spawn("sh", &["-c", &watch]);
    machine.kubectl(&["create", "configmap", "first"]);
    let is_seen = |name: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(name);
    machine.eventually("the watch has begun", || is_seen("first"));

    let told = certificate(&["rotate", "--service-account-key"]);
    assert!(told.contains("the running server has made new ones and shows them"), "{told}");
    assert!(told.contains("tokens are signed with a new key"), "{told}");
    machine.eventually("new certificates are shown", || {
        serial(&machine, 6443) != before.0 && serial(&machine, 10_250) != before.1
    });
    assert_eq!(certificate(&["check"]).lines().count(), checked.lines().count());
    machine.kubectl(&["create", "configmap", "second"]);
    machine.eventually("the watch goes on", || is_seen("second"));
    bot.ok(&["get", "configmaps"]);
    machine.eventually("both keys are told", || {
        machine.kubectl(&["get", "--raw", "/openid/v1/jwks"]).matches("kid").count() == 2
    });
    let token = machine.kubectl(&["create", "token", "bot", "--duration", "10m"]);
    bot.ok(&["get", "configmaps", "--token", token.trim()]);
    machine.stop(Signal::SIGTERM);
}
