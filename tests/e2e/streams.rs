//! Getting into pods, with the machine's kubectl, which speaks WebSockets, and an old one, which
//! speaks SPDY: exec, attach, cp, port-forward, logs, debug.

use super::machine::Machine;
use super::old_kubectl;
use std::fs;
use std::process::Output;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: 127.0.0.1:5000/hello:1
  - name: side
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1; done']
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - name: asks
    image: 127.0.0.1:5000/hello:1
    stdin: true
    stdinOnce: true
    command: [sh, -c, 'while read line; do echo got $line; done; echo bye']
";

/// More than any buffer on the way holds.
const MEGABYTES: usize = 6;

/// One of the two programs, on a machine.
struct Kubectl<'a> {
    machine: &'a Machine,
    program: &'static str,
}

impl Kubectl<'_> {
    fn ask(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.machine.try_run_with(self.program, arguments, input)
    }

    /// What a command in the container prints, where it ends with `code`.
    #[track_caller]
    fn exec(&self, script: &str, input: Option<&[u8]>, code: i32) -> (Vec<u8>, String) {
        let flags = if input.is_some() { vec!["-i"] } else { vec![] };
        let arguments =
            [&["exec"], &flags[..], &["web", "-c", "web", "--", "sh", "-c", script]].concat();
        let output = self.ask(&arguments, input.unwrap_or_default());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{}: {script}: {said}", self.program);
        (output.stdout, said)
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.ask(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments:?}: {said}", self.program);
        String::from_utf8(output.stdout).unwrap()
    }
}

fn bytes() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(MEGABYTES << 20).collect()
}

#[test]
fn pods_are_talked_to() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(PODS);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/web", "pod/asks", "--timeout=90s"]);
    for program in ["kubectl", old_kubectl::PROGRAM] {
        let kubectl = Kubectl { machine: &machine, program };
        commands_end_as_they_do(&kubectl);
        everything_passes_untouched(&kubectl);
        files_are_copied(&kubectl);
        a_terminal_is_as_large_as_ours(&kubectl);
        ports_are_forwarded(&kubectl);
        many_at_once(&kubectl);
    }
    containers_are_attached_to(&machine);
    what_is_not_there_is_named(&machine);
    logs_have_options(&machine);
    the_kubelet_asks_who_it_is(&machine);
    what_is_used_is_shown(&machine);
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    machine.stop(nix::sys::signal::Signal::SIGTERM);
    machine.killall();
}

fn commands_end_as_they_do(kubectl: &Kubectl<'_>) {
    let (stdout, stderr) = kubectl.exec("echo out; echo err >&2", None, 0);
    // Words of kubectl's own, where it reads before it has made its streams (1.32).
    let is_said = |line: &&str| !line.ends_with("Unknown stream id 1, discarding message");
    let stderr: Vec<_> = stderr.lines().filter(is_said).collect();
    assert_eq!((&stdout[..], &stderr[..]), (&b"out\n"[..], &["err"][..]));
    let (_, stderr) = kubectl.exec("exit 42", None, 42);
    assert!(stderr.contains("exit code 42"), "{stderr}");
    kubectl.exec("kill -9 $$", None, 137);
    // A command that reads to the end of its input, ends with it.
    let (stdout, _) = kubectl.exec("cat; echo done", Some(b"hello\n"), 0);
    assert_eq!(stdout, b"hello\ndone\n");
    let missing = kubectl.ask(&["exec", "web", "-c", "web", "--", "/nothing"], b"");
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("/nothing"), "{said}");
}

fn everything_passes_untouched(kubectl: &Kubectl<'_>) {
    let sent = bytes();
    let (received, _) = kubectl.exec("cat", Some(&sent), 0);
    assert!(received == sent, "{}: {} bytes", kubectl.program, received.len());
    let (sum, _) = kubectl.exec("sha256sum", Some(&sent), 0);
    fs::write(kubectl.machine.path("sent"), &sent).unwrap();
    let ours = kubectl.machine.path("sent");
    let ours = kubectl.machine.run("sha256sum", &[ours.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&sum).split(' ').next(), ours.split(' ').next());
}

fn files_are_copied(kubectl: &Kubectl<'_>) {
    let (from, back) = (kubectl.machine.path("sent"), kubectl.machine.path("back"));
    kubectl.run(&["cp", from.to_str().unwrap(), "web:/tmp/there", "-c", "web"], b"");
    kubectl.run(&["cp", "web:/tmp/there", back.to_str().unwrap(), "-c", "web"], b"");
    assert!(fs::read(from).unwrap() == fs::read(back).unwrap(), "{}", kubectl.program);
}

fn a_terminal_is_as_large_as_ours(kubectl: &Kubectl<'_>) {
    // The terminal's size is told beside the command, which may look first.
    let inner = "while :; do s=$(stty size); [ \"$s\" = \"33 99\" ] && break; sleep 0.1; done; echo it is $s; tty";
    let exec = format!("{} exec -it web -c web -- sh -c '{inner}'", kubectl.program);
    let outer = format!("stty rows 33 cols 99; {exec}");
    let output = kubectl.machine.try_run_with("script", &["-qec", &outer, "/dev/null"], b"");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("it is 33 99") && said.contains("/dev/pts/"), "{said}");
}

fn ports_are_forwarded(kubectl: &Kubectl<'_>) {
    let machine = kubectl.machine;
    let _forwarding =
        machine.spawn(kubectl.program, &["port-forward", "pod/web", "18080:8080", "18081:81"]);
    machine.eventually("the port is forwarded", || {
        let answer = machine.get("127.0.0.1:18080", "/");
        answer.is_some_and(|answer| answer.text().contains("Hello"))
    });
    // Each connection is two streams. The server in the image lets nine wait.
    std::thread::scope(|scope| {
        let ask =
            || machine.get("127.0.0.1:18080", "/").is_some_and(|it| it.text().contains("Hello"));
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        let answered = asked.into_iter().filter_map(|it| it.join().ok()).filter(|yes| *yes).count();
        assert_eq!(answered, 8, "{}", kubectl.program);
    });
    // Nobody listens there; the others go on.
    assert!(machine.get("127.0.0.1:18081", "/").is_none());
}

fn many_at_once(kubectl: &Kubectl<'_>) {
    std::thread::scope(|scope| {
        let ask = |number: usize| {
            let text = format!("number {number}");
            let (stdout, _) = kubectl.exec("cat", Some(text.as_bytes()), 0);
            String::from_utf8(stdout).unwrap() == text
        };
        let asked: Vec<_> = (0..10).map(|number| scope.spawn(move || ask(number))).collect();
        assert!(asked.into_iter().all(|it| it.join().unwrap()), "{}", kubectl.program);
    });
}

fn containers_are_attached_to(machine: &Machine) {
    let kubectl = Kubectl { machine, program: "kubectl" };
    let said = kubectl.run(&["attach", "-i", "asks"], b"one\ntwo\n");
    assert!(said.contains("got one\ngot two\nbye\n"), "{said}");
    assert_eq!(machine.kubectl(&["logs", "asks"]), "got one\ngot two\nbye\n");
    let run = ["run", "once", "-i", "--rm", "--quiet", "--restart=Never"];
    let image = ["--image=127.0.0.1:5000/hello:1", "--", "sh", "-c", "cat; exit 3"];
    let output = kubectl.ask(&[&run[..], &image[..]].concat(), b"hello\n");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("hello") && output.status.code() == Some(3), "{said}{why}");
}

fn what_is_not_there_is_named(machine: &Machine) {
    for (arguments, expected) in [
        (
            &["exec", "web", "-c", "nobody", "--", "true"][..],
            "container nobody is not valid for pod web",
        ),
        (&["exec", "asks", "--", "true"], "completed pod"),
        (&["exec", "nothing", "--", "true"], "pods \"nothing\" not found"),
        (&["attach", "asks"], "current phase is Succeeded"),
    ] {
        let said = machine.kubectl_refused(arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

fn logs_have_options(machine: &Machine) {
    assert_eq!(machine.kubectl(&["logs", "asks", "--tail=1"]), "bye\n");
    assert_eq!(machine.kubectl(&["logs", "asks", "--limit-bytes=7"]), "got one");
    assert_eq!(machine.kubectl(&["logs", "asks", "--since=1h", "--tail=1"]), "bye\n");
    assert_eq!(machine.kubectl(&["logs", "asks", "--prefix", "--tail=1"]), "[pod/asks/asks] bye\n");
    let timed = machine.kubectl(&["logs", "asks", "--timestamps", "--tail=1"]);
    assert!(timed.ends_with("Z bye\n"), "{timed}");
    let all = machine.kubectl(&["logs", "web", "--all-containers", "--tail=5"]);
    assert!(all.contains("GET") || all.contains("url") || all.contains("response"), "{all}");
    let said = machine.kubectl_refused(&["logs", "asks", "--previous"]);
    assert!(
        said.contains("previous terminated container \"asks\" in pod \"asks\" not found"),
        "{said}"
    );
    let said = machine.kubectl_refused(&["logs", "web", "-c", "nobody"]);
    assert!(said.contains("container nobody is not valid for pod web"), "{said}");
}

fn what_is_used_is_shown(machine: &Machine) {
    let nodes = machine.kubectl(&["top", "node"]);
    assert!(
        nodes.contains("CPU(cores)") && nodes.contains("one ") && nodes.contains("Mi"),
        "{nodes}"
    );
    let pods = machine.kubectl(&["top", "pod", "web", "--containers"]);
    assert!(pods.contains("side") && pods.contains("Mi"), "{pods}");
    let path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dnone";
    let none = machine.kubectl(&["get", "--raw", path]);
    assert!(none.contains("\"items\":[]"), "{none}");
}

fn the_kubelet_asks_who_it_is(machine: &Machine) {
    let kubelet = "https://192.0.2.10:10250";
    let ask = |arguments: &[&str]| {
        let flags = ["--insecure-skip-tls-verify", "--server", kubelet];
        machine.try_run("kubectl", &[arguments, &flags].concat())
    };
    let summary = ask(&["get", "--raw", "/stats/summary"]);
    let said = String::from_utf8_lossy(&summary.stdout).into_owned();
    assert!(said.contains("\"nodeName\":\"one\"") && said.contains("rxBytes"), "{said}");
    let token = machine.kubectl(&["create", "token", "default"]);
    let bearer = format!("--token={}", token.trim());
    let nobody = ["--client-certificate=", "--client-key=", "--kubeconfig=/dev/null"];
    let as_account = ask(&[&["get", "--raw", "/metrics", &*bearer], &nobody[..]].concat());
    let said = String::from_utf8_lossy(&as_account.stderr).into_owned();
    assert!(!as_account.status.success() && said.contains("orbidden"), "{said}");
    let proxied = machine.kubectl(&["get", "--raw", "/api/v1/nodes/one/proxy/metrics/resource"]);
    assert!(proxied.contains("node_memory_working_set_bytes"), "{proxied}");
    let proxied =
        machine.kubectl(&["get", "--raw", "/api/v1/namespaces/default/pods/web:8080/proxy/"]);
    assert!(proxied.contains("Hello"), "{proxied}");
}
