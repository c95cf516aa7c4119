//! Three machines, and what befalls the wires between them: each fault heals by itself, in time.
//!
//! Delay is told by a narrow wire, as not every kernel has netem. A clock that is wrong cannot be had
//! for one namespace alone: what certificates say of it is tested beside their code.

use super::lan::{Fault, Lan};
use super::machine::{Machine, deadline};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After healing, everything works within this: long before anybody looks anew of his own accord. It
/// takes 1 to 6 s where nothing else runs.
pub const HEALED_WITHIN: Duration = Duration::from_secs(45);

/// For so long the kernel believes who had an address on the wire before it asks again: half as much
/// again as its `base_reachable_time`, and then some seconds of asking that machine.
const ADDRESS_HEALED_WITHIN: Duration = Duration::from_secs(60);

/// Says the address of a Service: programs of the image know addresses alone. (Its wget has a time-out of
/// its own, which static ones die of.)
const LOOK_UP: &str = r#"look_up() { busybox timeout 3 busybox nslookup -type=a $1.default.svc.cluster.local | busybox awk "/^Name/ {n=1} n && /^Address/ {print \$2}"; };"#;

/// A pod on `three` behind a Service, and one on `two` that asks it, by its name, all the time: the way
/// between nodes, Services and DNS in one.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec:
  nodeName: three
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: hello:1
    imagePullPolicy: Never
    command: [sh, -c, 'head -c 300000 /dev/zero > /www/big; exec httpd -f -p 8080 -h /www']
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {selector: {app: far}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 0
  containers:
  - name: asks
    image: hello:1
    imagePullPolicy: Never
    command: [sh, -c, 'LOOK_UP while :; do busybox timeout 3 wget -q -O - http://$(look_up far)/ >/dev/null 2>&1 && echo yes || echo no; sleep 0.2; done']
  - name: knows
    image: hello:1
    imagePullPolicy: Never
    command: [sh, -c, 'while :; do busybox timeout 3 wget -q -O - http://$FAR_SERVICE_HOST/ >/dev/null 2>&1 && echo yes || echo no; sleep 0.2; done']
";

/// Three nodes, of which the first is a server, with [`PODS`].
pub struct World {
    pub lan: Arc<Lan>,
    pub server: Machine,
    pub two: Machine,
    pub three: Machine,
    /// How many Services were made to be heard of.
    news: usize,
}

impl World {
    /// What is different about the machines is told before anything runs on them.
    pub fn start(prepare: impl FnOnce([&mut Machine; 3])) -> Self {
        let lan = Arc::new(Lan::new());
        let mut server = Machine::on(&lan, "one", "192.0.2.10");
        let mut two = Machine::on(&lan, "two", "192.0.2.11");
        let mut three = Machine::on(&lan, "three", "192.0.2.12");
        for machine in [&server, &two, &three] {
            machine.import_example_images();
        }
        prepare([&mut server, &mut two, &mut three]);
        server.start();
        for agent in [&mut two, &mut three] {
            agent.join(&server);
        }
        server.apply(&PODS.replace("LOOK_UP", LOOK_UP));
        server.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"]);
        let world = Self { lan, server, two, three, news: 0 };
        world.server.eventually("the pod hears the other", || world.answers() > 0);
        world
    }

    /// How often the pod that asks has been answered. Its log is on the machine: no server is asked.
    fn answers(&self) -> usize {
        self.answers_to("asks")
    }

    fn answers_to(&self, container: &str) -> usize {
        let mut count = 0;
        for directory in std::fs::read_dir(self.two.path("logs")).unwrap().flatten() {
            let is_it = directory.file_name().to_string_lossy().starts_with("default_asks_");
            let files = std::fs::read_dir(directory.path().join(container)).into_iter().flatten();
            for file in files.flatten().filter(|_| is_it) {
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                count += text.lines().filter(|line| line.ends_with(" yes")).count();
            }
        }
        count
    }

    /// The pod that asks gets answers by the address of the Service: DNS is not needed for it.
    #[track_caller]
    pub fn rules_go_on(&self, when: &str) {
        let before = self.answers_to("knows");
        self.server.eventually(when, || self.answers_to("knows") > before + 1);
    }

    #[track_caller]
    pub fn pods_go_on(&self, when: &str) {
        let before = self.answers();
        self.server.eventually(when, || self.answers() > before + 1);
    }

    /// Whether everything works: kubelets are asked, nodes hear of what is new, and pods of each other.
    pub fn works(&self) -> bool {
        let server = &self.server;
        let run = |words: &[&str]| server.try_run("kubectl", words).status.success();
        let news = self.news;
        let hears =
            format!("{LOOK_UP} busybox timeout 3 wget -q -O - http://$(look_up news-{news})/");
        run(&["exec", "far", "--", "true"])
            && run(&["exec", "asks", "-c", "asks", "--", "sh", "-c", &hears])
            && server.is_ready("two")
            && server.is_ready("three")
    }

    /// Something that nodes have to hear of: a Service that none of them knows.
    pub fn make_news(&mut self) {
        self.news += 1;
        let name = format!("--name=news-{}", self.news);
        self.server.kubectl(&["expose", "pod", "far", &name, "--port=80", "--target-port=8080"]);
    }

    #[track_caller]
    pub fn heals(&mut self, what: &str, (began, within): (Instant, Duration)) {
        self.make_news();
        while !self.works() {
            let log = |machine: &Machine| machine.server_log();
            assert!(
                began.elapsed() < deadline(),
                "never healed: {what}\none:\n{}\ntwo:\n{}",
                log(&self.server),
                log(&self.two)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = began.elapsed();
        eprintln!("{what}: healed after {took:?}");
        assert!(took < within * super::machine::patience(), "{what}: {took:?}");
        self.pods_go_on(what);
    }

    pub fn end(mut self) {
        for machine in [&mut self.two, &mut self.three, &mut self.server] {
            machine.stop(Signal::SIGTERM);
            machine.killall();
            let left = machine.run("ip", &["-o", "link", "show"]);
            assert!(!left.contains("kinglet"), "{left}");
        }
    }
}

pub fn now() -> Instant {
    kinglet::stdx::monotonic()
}

#[test]
fn what_befalls_wires_heals_by_itself() {
    // One wire is narrower than the others.
    let narrow = |[_, _, three]: [&mut Machine; 3]| {
        three.run("ip", &["link", "set", "up0", "mtu", "1280"]);
    };
    let mut world = World::start(narrow);
    wide_packets_fit_narrow_wires(&world);
    wires_fail(&mut world);
    wires_lose(&mut world);
    an_address_is_taken_twice(&mut world);
    world.end();
}

/// The pods of a node know what its wire takes: what is large arrives.
fn wide_packets_fit_narrow_wires(world: &World) {
    let get = format!(
        "{LOOK_UP} busybox timeout 9 wget -q -O - http://$(look_up far)/big | busybox wc -c"
    );
    let got = world.server.kubectl(&["exec", "asks", "-c", "asks", "--", "sh", "-c", &get]);
    assert_eq!(got.trim(), "300000");
}

fn wires_fail(world: &mut World) {
    // Shorter than what is noticed, and longer.
    for (machine, fault, seconds) in [
        ("two", Fault::Deaf, 6),
        ("two", Fault::Mute, 12),
        ("three", Fault::Cut, 18),
        ("one", Fault::Cut, 8),
    ] {
        world.lan.disturb(machine, fault);
        std::thread::sleep(Duration::from_secs(seconds));
        world.lan.disturb(machine, None);
        world.heals(&format!("{machine} {fault:?}"), (now(), HEALED_WITHIN));
    }
}

fn wires_lose(world: &mut World) {
    world.lan.disturb("two", Fault::Loses(10));
    world.make_news();
    world.server.eventually("it works while frames are lost", || world.works());
    world.lan.disturb("two", None);
    world.heals("no frames are lost any more", (now(), HEALED_WITHIN));
}

/// Whoever has the address of another answers for it, or not.
fn an_address_is_taken_twice(world: &mut World) {
    let thief = Machine::on(&world.lan, "thief", "192.0.2.11");
    for _ in 0..10 {
        // Everybody on the wire hears whose the address is now.
        for to in ["192.0.2.10:6443", "192.0.2.12:10250"] {
            thief.get(to, "/");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    thief.run("ip", &["link", "set", "up0", "down"]);
    world.heals("the address is one machine's again", (now(), ADDRESS_HEALED_WITHIN));
}
