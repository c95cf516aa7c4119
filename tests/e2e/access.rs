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

/// What lets `clara` approve for every signer of Kubernetes.
const SIGNERS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: signers}
rules:
- {apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: ['kubernetes.io/*'], verbs: [approve]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: signers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: signers}
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
    roles_are_made(&machine);
    roles_are_reconciled(&machine);
    let key = certificates_are_approved(&machine);
    a_certificate_is_used(&machine, &key);
    machine.stop(Signal::SIGTERM);
}

fn roles_are_made(machine: &Machine) {
    for words in [
        "create role maker --verb=create,get --resource=configmaps",
        "create rolebinding maker --role=maker --user=mike",
        "create clusterrole nodes --verb=list --resource=nodes",
        "create clusterrole logs --verb=get --non-resource-url=/logs/*",
        "create clusterrolebinding nodes --clusterrole=nodes --user=mike",
        "create configmap a --as mike",
        "get nodes --as mike",
    ] {
        machine.kubectl(&words.split(' ').collect::<Vec<_>>());
    }
    let list = machine.kubectl(&["auth", "can-i", "--list", "--as", "mike"]);
    for expected in ["configmaps", "nodes", "selfsubjectaccessreviews", "/healthz"] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    assert!(!list.contains("secrets"), "{list}");
    let who = machine.kubectl(&["auth", "whoami", "--as", "mike", "--as-group", "ops"]);
    assert!(who.contains("mike") && who.contains("ops"), "{who}");
}

fn roles_are_reconciled(machine: &Machine) {
    let path = machine.path("reconciled.yaml");
    std::fs::write(&path, RECONCILED).unwrap();
    let reconcile = ["auth", "reconcile", "-f", path.to_str().unwrap()];
    let told = machine.kubectl(&reconcile);
    assert!(told.contains("clusterrole.rbac.authorization.k8s.io/clerk reconciled"), "{told}");
    let rules = "[{\"op\": \"remove\", \"path\": \"/rules/1\"}]";
    machine.kubectl(&["patch", "clusterrole", "clerk", "--type=json", "-p", rules]);
    machine.kubectl(&reconcile);
    let verbs = ["get", "clusterrole", "clerk", "-o", "jsonpath={.rules[*].verbs}"];
    let rules = machine.kubectl(&verbs);
    assert!(rules.contains("update"), "what was taken away is back: {rules}");
}

/// Returns the key of the one that is approved.
fn certificates_are_approved(machine: &Machine) -> String {
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
    machine.apply(SIGNERS);
    machine.kubectl(&approve);
    machine.kubectl(&["certificate", "deny", "other", "--as", "clara"]);
    let requests = machine.kubectl(&["get", "csr"]);
    assert!(requests.contains("Denied"), "{requests}");
    key
}

fn a_certificate_is_used(machine: &Machine, key: &str) {
    let certificate = ["get", "csr", "jane", "-o", "jsonpath={.status.certificate}"];
    machine.eventually("the certificate is signed", || !machine.kubectl(&certificate).is_empty());
    let pem = BASE64_STANDARD.decode(machine.kubectl(&certificate)).unwrap();
    let path = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (certificate, key_file, jane) = (path("jane.crt"), path("jane.key"), path("jane.yaml"));
    std::fs::write(&certificate, pem).unwrap();
    std::fs::write(&key_file, key).unwrap();
    std::fs::copy(machine.path("kinglet.yaml"), &jane).unwrap();
    let as_jane = |words: &[&str]| {
        let mut all = vec!["--kubeconfig", &jane];
        all.extend(words);
        machine.kubectl(&all)
    };
    let credentials = ["--client-certificate", &certificate, "--client-key", &key_file];
    as_jane(&[&["config", "set-credentials", "jane"], &credentials[..]].concat());
    as_jane(&["config", "set-context", "--current", "--user", "jane"]);
    assert!(as_jane(&["auth", "whoami"]).contains("jane"));
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
