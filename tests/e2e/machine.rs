//! A machine for one test: a network namespace with no way out, a data directory, a registry, and
//! the real kinglet and kubectl in it.

use super::lan::Lan;
use kinglet::client::remote::Remote;
use kinglet::client::{Client, Kubeconfig};
use kinglet::sys::namespace::{self, Kind};
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything here takes seconds at most; a machine that is busy with builds takes longer.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How long a server may take to end when it is told to.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How much longer than [`DEADLINE`] and the like a slow machine may take, as one that is emulated.
pub fn patience() -> u32 {
    let asked = std::env::var("KINGLET_TEST_PATIENCE");
    asked.ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// How long a test waits for anything.
pub fn deadline() -> Duration {
    DEADLINE * patience()
}

/// An argument of kubectl, with its patience as ours.
fn patient(argument: &str) -> String {
    let seconds =
        argument.strip_prefix("--timeout=").and_then(|it| it.strip_suffix('s')?.parse().ok());
    seconds.map_or(argument.to_owned(), |it: u32| format!("--timeout={}s", it * patience()))
}

/// See the module.
pub struct Machine {
    /// Of its node.
    pub name: &'static str,
    /// Of its node, too.
    pub address: &'static str,
    directory: tempfile::TempDir,
    network: PathBuf,
    /// What it shares with others, where it is not alone.
    lan: Option<Arc<Lan>>,
    /// Keeps the machine's own mount namespace, where it has one.
    mounts: Option<Child>,
    server: Option<Child>,
    /// Arguments of the server, besides the usual.
    pub further: Vec<&'static str>,
    /// Of the server's or agent's process, besides the usual.
    pub environment: Vec<(&'static str, String)>,
    /// What this machine's agent calls its server, where that is not its address.
    pub server_url: Option<&'static str>,
    registry: Option<Child>,
}

impl Machine {
    pub fn new() -> Self {
        Self::build("one", "192.0.2.10", None)
    }

    /// One with another address, perhaps of IPv6.
    pub fn at(address: &'static str) -> Self {
        Self::build("one", address, None)
    }

    /// One of several on a wire. Its name has ten bytes at most; its address is in 192.0.2.0/24.
    pub fn on(lan: &Arc<Lan>, name: &'static str, address: &'static str) -> Self {
        Self::build(name, address, Some(Arc::clone(lan)))
    }

    fn build(name: &'static str, address: &'static str, lan: Option<Arc<Lan>>) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "needs root: run `make test` as root");
        let directory = tempfile::Builder::new().prefix("kinglet-e2e.").tempdir().unwrap();
        let network = directory.path().join("net");
        let machine = Self {
            name,
            address,
            directory,
            network,
            lan,
            mounts: None,
            server: None,
            further: Vec::new(),
            environment: Vec::new(),
            server_url: None,
            registry: None,
        };
        machine.make_network();
        machine
    }

    /// One with mounts of its own: what is mounted in it goes with it.
    pub fn apart() -> Self {
        let mut machine = Self::new();
        machine.part();
        machine
    }

    /// Gives it mounts of its own from now on.
    pub fn part(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "the child is what keeps the namespace")]
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "sleep", "infinity"]);
        let holder = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let name = format!("/proc/{}/comm", holder.id());
        self.mounts = Some(holder);
        self.eventually("a mount namespace is there", || {
            std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
        });
    }

    fn make_network(&self) {
        let pins = [(Kind::Network, self.network.clone())];
        namespace::make_pinned(&pins, namespace::loopback_up).unwrap();
        let is_ipv6 = self.address.contains(':');
        let address = format!("{}/{}", self.address, if is_ipv6 { 64 } else { 24 });
        if let Some(lan) = &self.lan {
            lan.plug(self.name, &self.network, &[&address]);
            return;
        }
        // The node's address. A veth pair stands in for a network card: it leads nowhere.
        self.run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
        self.add_address(&address);
        self.run("ip", &["link", "set", "up0", "up"]);
        self.run("ip", &["link", "set", "up1", "up"]);
    }

    /// Gives the machine a further address, such as `192.0.2.10/24`.
    pub fn add_address(&self, address: &str) {
        // No time is spent on asking whether somebody else has it.
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        self.run("ip", &[&["addr", "add", address, "dev", "up0"], nodad].concat());
    }

    /// Where a file of the machine is seen from outside, also below what is mounted in it alone.
    pub fn seen(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        match &self.mounts {
            Some(holder) => Path::new("/proc")
                .join(holder.id().to_string())
                .join("root")
                .join(path.strip_prefix("/").unwrap()),
            None => path,
        }
    }

    /// The mounts that the machine sees.
    pub fn mount_table(&self) -> String {
        let process =
            self.mounts.as_ref().map_or("self".to_owned(), |holder| holder.id().to_string());
        std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap()
    }

    /// Pulls the plug and starts the machine again: no process has a last word, what was in memory is
    /// gone, and it is another running time. Only for machines [`apart`](Self::apart).
    pub fn reboot(&mut self) {
        self.stop(nix::sys::signal::Signal::SIGKILL);
        let layout = kinglet::daemon::Layout::of(&self.path("data"));
        let cgroups = kinglet::sys::cgroup::Cgroups::detect().unwrap();
        let pods = format!("/kinglet-{}", layout.id()).parse().unwrap();
        cgroups.kill(&pods).unwrap();
        for mut child in self.registry.take().into_iter().chain(self.mounts.take()) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        cgroups.remove(&pods).unwrap();
        namespace::unpin(&self.network).unwrap();
        std::fs::remove_dir_all(layout.run()).unwrap();
        self.make_network();
        self.part();
        let boot_id = self.path("boot-id");
        std::fs::write(&boot_id, "00000000-0000-4000-8000-000000000000\n").unwrap();
        let words = ["--bind", boot_id.to_str().unwrap(), "/proc/sys/kernel/random/boot_id"];
        self.run("mount", &words);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A command that runs in the machine's network.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "tests need the child's id and its pipes")]
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.display()));
        if let Some(holder) = &self.mounts {
            command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id()));
        }
        command.arg("--").arg(program);
        let arguments = arguments.iter().map(|argument| patient(argument));
        command.args(arguments).env("KUBECONFIG", self.path("kinglet.yaml")).stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and says what it printed.
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().unwrap()
    }

    /// As [`Machine::try_run`], with something to read.
    pub fn try_run_with(&self, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(program, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A program may end without reading all of it.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output().unwrap()
        })
    }

    /// Starts a program and does not wait for it.
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Background {
        let mut command = self.command(program, arguments);
        Background(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.try_run(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.run("kubectl", arguments)
    }

    /// What kubectl complains about, where it has to.
    #[track_caller]
    pub fn kubectl_refused(&self, arguments: &[&str]) -> String {
        let output = self.try_run("kubectl", arguments);
        assert!(!output.status.success(), "kubectl {arguments:?} was not refused");
        String::from_utf8(output.stderr).unwrap()
    }

    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let path = self.path("manifest.yaml");
        std::fs::write(&path, manifest).unwrap();
        self.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }

    /// What this machine's kinglet is told, whether it is a server or an agent.
    fn node_arguments(&self) -> Vec<String> {
        let file = |name: &str| self.path(name).to_str().unwrap().to_owned();
        [
            ("--data-dir", file("data")),
            ("--pod-logs-dir", file("logs")),
            ("--private-registry", file("registries.yaml")),
            ("--config", "/dev/null".to_owned()),
            ("--node-name", self.name.to_owned()),
            ("--node-ip", self.address.to_owned()),
            // How full the disk of the machine is that the tests run on is nothing to them.
            ("--eviction-hard", "nodefs.available<0%".to_owned()),
            ("--image-gc-high-threshold", "100".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    /// The arguments of this machine's server.
    fn server_arguments(&self) -> Vec<String> {
        let mut arguments = self.node_arguments();
        arguments.push("--write-kubeconfig".to_owned());
        arguments.push(self.path("kinglet.yaml").to_str().unwrap().to_owned());
        arguments
    }

    /// A token by which machines join the cluster of this one's server.
    pub fn token(&self) -> String {
        let printed = self.run(&executable(), &["token", "create"]);
        printed.lines().last().unwrap().to_owned()
    }

    /// Starts an agent, which joins with `token` where one is given, and waits for nothing.
    pub fn spawn_agent(&mut self, server: &Self, token: Option<&str>) {
        let url = match (self.server_url, server.address.contains(':')) {
            (Some(url), _) => url.to_owned(),
            (None, true) => format!("https://[{}]:6443", server.address),
            (None, false) => format!("https://{}:6443", server.address),
        };
        let mut arguments = self.node_arguments();
        arguments.extend(["--server".to_owned(), url]);
        arguments.extend(token.into_iter().flat_map(|it| ["--token".to_owned(), it.to_owned()]));
        let mut words = vec!["agent"];
        words.extend(arguments.iter().map(String::as_str));
        words.extend(&self.further);
        self.spawn_kinglet(&words);
    }

    /// As [`Machine::spawn_agent`], and waits until the node is ready.
    pub fn join(&mut self, server: &Self) {
        let token = server.token();
        self.spawn_agent(server, Some(&token));
        let what = format!("node {} is ready; {}", self.name, self.path("server.log").display());
        server.eventually(&what, || server.is_ready(self.name));
    }

    pub fn kinglet(&self, arguments: &[&str]) -> Output {
        self.try_run(&executable(), arguments)
    }

    /// A further server on this machine, which is expected to end by itself.
    pub fn second_server(&self, further: &[&str]) -> Output {
        let arguments = self.server_arguments();
        let mut words = vec!["server"];
        words.extend(arguments.iter().map(String::as_str));
        words.extend(further);
        self.kinglet(&words)
    }

    /// Starts the server and waits until its node is ready.
    pub fn start(&mut self) {
        self.start_timed();
    }

    /// As [`Machine::start`]; says when the API answered and when the node was ready. Looks often
    /// and without starting programs, so that it tells times.
    pub fn start_timed(&mut self) -> (Instant, Instant) {
        self.spawn_server();
        self.await_node()
    }

    /// Waits until the server answers, then until its node is ready.
    pub fn await_node(&self) -> (Instant, Instant) {
        let look = |path: &str| self.asked(path);
        self.eventually("the server answers", || look("/readyz").is_some());
        let answers = now();
        self.eventually("the node is ready", || self.is_ready(self.name));
        (answers, now())
    }

    /// Whether the API server of this machine says that a node is ready.
    pub fn is_ready(&self, node: &str) -> bool {
        let node = self.asked(&format!("/api/v1/nodes/{node}"));
        let node = node.and_then(|body| serde_json::from_slice(&body).ok());
        let node: serde_json::Value = node.unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
    }

    /// Asks the API server as the administrator; `None` where it says no or nothing.
    pub fn asked(&self, path: &str) -> Option<Vec<u8>> {
        let kubeconfig = Kubeconfig::read(&self.path("kinglet.yaml")).ok()?;
        let service = std::sync::Arc::new(Remote::new(&kubeconfig).ok()?);
        let answer = self.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let client = Client::new(service, "test");
            runtime.unwrap().block_on(client.request(http::Method::GET, path, None))
        });
        answer.ok().map(|body| body.to_vec())
    }

    /// Runs `work` on a thread in the machine's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::run_in_network(&self.network, work).unwrap()
    }

    /// Starts the server and waits for nothing.
    pub fn spawn_server(&mut self) {
        let arguments = self.server_arguments();
        let mut words = vec!["server"];
        words.extend(arguments.iter().map(String::as_str));
        words.extend(&self.further);
        self.spawn_kinglet(&words);
    }

    fn spawn_kinglet(&mut self, words: &[&str]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("server.log"))
            .unwrap();
        // Whoever leads to the program is not to have what is meant for the program.
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let executable = executable();
        let all = environment.iter().chain([&executable]).map(String::as_str);
        let all: Vec<_> = all.chain(words.iter().copied()).collect();
        let mut command = self.command("env", &all);
        // Tests may have it end in the middle of things: see `stdx::fault`.
        command.env("KINGLET_FAULT_FILE", self.path("fault"));
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().unwrap());
    }

    /// The server's process; nsenter becomes it.
    pub fn server_pid(&self) -> i32 {
        self.server.as_ref().unwrap().id().try_into().unwrap()
    }

    /// Ends the server as `signal` does and waits until it has.
    pub fn stop(&mut self, signal: nix::sys::signal::Signal) {
        let Some(mut server) = self.server.take() else { return };
        let pid = nix::unistd::Pid::from_raw(server.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
        let ended = wait(&mut server, STOP_DEADLINE * patience());
        assert!(ended.is_some(), "the server did not end on {signal}:\n{}", self.server_log());
        let status = ended.unwrap();
        if signal != nix::sys::signal::Signal::SIGKILL {
            assert_eq!(status.code(), Some(0), "{:?}:\n{}", status.signal(), self.server_log());
        }
    }

    /// The processes of web servers in pods of this machine.
    pub fn web_servers(&self) -> Vec<String> {
        let id = kinglet::daemon::Layout::of(&self.path("data")).id();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let found = processes.filter(|process| {
            let read = |name: &str| std::fs::read_to_string(process.path().join(name));
            read("cgroup").is_ok_and(|text| text.contains(&format!("kinglet-{id}/")))
                && read("cmdline").is_ok_and(|text| text.starts_with("httpd"))
        });
        found.map(|process| process.file_name().into_string().unwrap()).collect()
    }

    /// Sends a signal to the server and waits for nothing.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.server_pid()), signal).unwrap();
    }

    /// Whether the server has ended by itself, or been killed, since it was started.
    pub fn has_ended(&mut self) -> bool {
        let ended = |server: &mut Child| server.try_wait().unwrap().is_some();
        if self.server.as_mut().is_some_and(ended) {
            self.server = None;
        }
        self.server.is_none()
    }

    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// Starts a registry on 127.0.0.1:5000 and puts the test image into it under `tags`.
    pub fn start_registry(&mut self, tags: &[&str]) {
        let root = self.path("registry");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:5000\n",
            root.display()
        );
        std::fs::write(self.path("registry.yml"), config).unwrap();
        let path = self.path("registry.yml");
        let mut command = self.command("docker-registry", &["serve", path.to_str().unwrap()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.registry = Some(command.spawn().unwrap());
        self.eventually("the registry answers", || self.get("127.0.0.1:5000", "/v2/").is_some());
        let archive = self.path("image.tar");
        example_image(&archive, &[]);
        let image = super::push::Image::of_docker_archive(&archive);
        for tag in tags {
            image.push(self, "hello", tag);
        }
    }

    /// Puts the images of examples/ where the server imports them when it starts.
    pub fn import_example_images(&self) {
        let images = self.path("data/agent/images");
        std::fs::create_dir_all(&images).unwrap();
        example_image(&images.join("hello.tar"), &[]);
        let further = ["docker.io/library/kubectl:1", "kubectl"];
        example_image(&images.join("kubectl.tar"), &further);
    }

    /// Gets `path` from inside the machine's network; `None` where nobody listens.
    pub fn get(&self, address: &str, path: &str) -> Option<Answer> {
        self.ask(address, &Ask { method: "GET", path, content_type: "", body: b"" })
    }

    /// One request from inside the machine's network; `None` where nobody listens.
    pub fn ask(&self, address: &str, ask: &Ask<'_>) -> Option<Answer> {
        let Ask { method, path, content_type, body } = ask;
        let address: SocketAddr = address.parse().unwrap();
        let length = body.len();
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
        request.push_str(&format!("Content-Type: {content_type}\r\n"));
        request.push_str(&format!("Content-Length: {length}\r\n\r\n"));
        self.inside(|| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
            stream.write_all(request.as_bytes()).ok()?;
            stream.write_all(body).ok()?;
            Answer::read(&mut BufReader::new(stream))
        })
    }

    #[track_caller]
    pub fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let (within, begun) = (deadline(), now());
        while !holds() {
            assert!(begun.elapsed() < within, "not in {within:?}: {what}\n{}", self.server_log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes what the machine's pods left behind, as `make run` does at its end.
    pub fn killall(&self) {
        let data = self.path("data");
        let output = self.kinglet(&["killall", "--data-dir", data.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "killall: {said}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for mut child in self.server.take().into_iter().chain(self.registry.take()) {
            // A child that has ended already is what is wanted here.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let data = self.path("data");
            self.kinglet(&["killall", "--data-dir", data.to_str().unwrap()]);
            // The log is all there is to find out by.
            std::io::stderr().write_all(self.server_log().as_bytes()).ok();
        }
        if let Some(mut holder) = self.mounts.take() {
            holder.kill().ok();
            holder.wait().ok();
        }
        namespace::unpin(&self.network).ok();
    }
}

/// A program that is ended with this.
pub struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // One that has ended already is what is wanted here.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A request.
#[derive(Debug)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

/// What a server answered.
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut impl std::io::BufRead) -> Option<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let mut body = Vec::new();
        stream.read_to_end(&mut body).ok()?;
        let code = head.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { code, head, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| {
            line.split_once(": ").is_some_and(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let line = self.head.lines().find(|line| named(line))?;
        line.split_once(": ").map(|(_, value)| value.trim())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is tested: the executable of this build, or the one that `KINGLET_EXECUTABLE` names, as a
/// release or a static build.
pub fn executable() -> String {
    std::env::var("KINGLET_EXECUTABLE").unwrap_or(env!("CARGO_BIN_EXE_kinglet").to_owned())
}

fn example_image(archive: &Path, name_and_programs: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/example-image.sh");
    #[expect(clippy::disallowed_methods, reason = "a script of this repository")]
    let status = Command::new(script).arg(archive).args(name_and_programs).status().unwrap();
    assert!(status.success());
}

fn wait(child: &mut Child, deadline: Duration) -> Option<std::process::ExitStatus> {
    let end = now() + deadline;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn now() -> Instant {
    kinglet::stdx::monotonic()
}
