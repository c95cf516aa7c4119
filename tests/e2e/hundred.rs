//! A hundred streams at once through the API server, what they leave behind, and how they end where
//! one side goes away.

use super::leftovers::{Traces, vanish};
use super::machine::Machine;
use super::old_kubectl;
use super::talk::{Ended, Talk};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c, 'trap exit TERM; busybox nc -ll -p 9000 -e /bin/cat & while :; do sleep 1; done']
";

const PROGRAMS: [&str; 2] = ["kubectl", old_kubectl::PROGRAM];

/// Commands of each program, and connections through each program's forwarded port: together they
/// are a hundred.
const COMMANDS: usize = 30;
const CONNECTIONS: usize = 20;

/// What is sent on each of them.
const PIECE_BYTES: usize = 256 << 10;

/// What the server may need for all of them together. They are read and written in pieces, whatever
/// passes.
const MEMORY_BYTES_MAX: u64 = 96 << 20;

/// What no command line but those of these commands has in it.
const MARK: &str = "a-hundred-at-once";

/// What a server holds.
#[derive(Debug)]
struct Held {
    files: usize,
    pipes: usize,
    resident_bytes: u64,
}

impl Held {
    fn by(machine: &Machine) -> Self {
        let pid = machine.server_pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let files: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .collect();
        let is_pipe = |path: &&std::path::PathBuf| {
            let text = path.to_string_lossy();
            text.ends_with("-in") || text.ends_with("-out") || text.ends_with("-err")
        };
        let pipes = files.iter().filter(is_pipe).count();
        Self { files: files.len(), pipes, resident_bytes: kibibytes << 10 }
    }
}

fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| ((at * 31 + number * 7) / 5).to_le_bytes()[0]).collect()
}

#[test]
fn a_hundred_streams_at_once_leave_nothing_behind() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(POD);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=90s"]);
    machine.kubectl(&["exec", "web", "--", "true"]);
    all_at_once(&machine);
    for program in PROGRAMS {
        who_vanishes_ends_the_input(&machine, program);
    }
    vanish(&machine, || Traces::of(&[MARK]));
    a_server_that_stops_ends_streams(&mut machine);
    machine.start();
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

fn all_at_once(machine: &Machine) {
    let before = Held::by(machine);
    let ports = [19_001_u16, 19_002];
    let forwarding: Vec<_> = PROGRAMS
        .iter()
        .zip(ports)
        .map(|(program, port)| {
            let talk = Talk::start(
                machine,
                program,
                &["port-forward", "pod/web", &format!("{port}:9000")],
            );
            talk.expect("Forwarding from 127.0.0.1");
            talk
        })
        .collect();
    let commands: Vec<_> = PROGRAMS
        .iter()
        .flat_map(|program| (0..COMMANDS).map(|number| begin(machine, program, number)))
        .collect();
    for command in &commands {
        command.expect("ready\n");
    }
    // One after another: the server in the pod lets two wait.
    let connections: Vec<_> = ports
        .iter()
        .flat_map(|port| (0..CONNECTIONS).map(|_| machine.inside(|| connect(*port))))
        .collect();
    let during = Held::by(machine);
    std::thread::scope(|scope| {
        for (number, command) in commands.into_iter().enumerate() {
            scope.spawn(move || finish(command, number % COMMANDS));
        }
        for (number, connection) in connections.into_iter().enumerate() {
            scope.spawn(move || echo(connection, number));
        }
    });
    let together = PROGRAMS.len() * COMMANDS * 3;
    assert!(during.pipes >= together, "they were not there at once: {during:?}");
    drop(forwarding);
    vanish(machine, || Traces::of(&[MARK]));
    machine.eventually("all that was opened is closed", || {
        let held = Held::by(machine);
        held.pipes == 0 && held.files <= before.files
    });
    let after = Held::by(machine);
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
    assert!(grown < MEMORY_BYTES_MAX, "{before:?} {during:?} {after:?}");
    let bundles = machine.run("find", &["/run/kinglet", "-name", "*-in"]);
    assert_eq!(bundles, "", "pipes are left");
}

fn begin(machine: &Machine, program: &str, number: usize) -> Talk {
    let script = format!(": {MARK}; echo ready; cat; echo over >&2; exit {}", number % 3);
    Talk::start(machine, program, &["exec", "-i", "web", "--", "sh", "-c", &script])
}

/// What the command repeats is what was said, to the end of it, and how it ends is its own.
fn finish(mut command: Talk, number: usize) {
    let piece = piece(number);
    command.say(&piece);
    command.close();
    let ended = command.end();
    let repeated = ended.said.strip_prefix(b"ready\n").unwrap();
    assert!(repeated == piece, "{number}: {} bytes, {}", repeated.len(), ended.complained);
    let code = i32::try_from(number % 3).unwrap();
    assert_eq!(ended.status.code(), Some(code), "{}", ended.complained);
    assert!(ended.complained.starts_with("over\n"), "{}", ended.complained);
}

/// A connection to the pod, which has answered.
fn connect(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answer = [0];
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut answer).unwrap();
    stream
}

/// Half of the connection is closed, and the other half says all the same, to its end.
fn echo(mut stream: TcpStream, number: usize) {
    let (sent, mut received) = (piece(number), Vec::new());
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "connection {number}");
}

fn who_vanishes_ends_the_input(machine: &Machine, program: &str) {
    let exec = |script: &str| machine.kubectl(&["exec", "web", "--", "sh", "-c", script]);
    let script = format!(": {MARK}; echo ready; cat >/tmp/read; mv /tmp/read /tmp/over");
    let mut reader =
        Talk::start(machine, program, &["exec", "-i", "web", "--", "sh", "-c", &script]);
    reader.expect("ready");
    reader.say(b"last words");
    machine.eventually("it has been read", || exec("cat /tmp/read 2>&1 || true") == "last words");
    reader.kill();
    machine
        .eventually("the input has ended", || exec("cat /tmp/over 2>&1 || true") == "last words");
    exec("rm /tmp/over");
    let inner = format!(
        "trap \"touch /tmp/hung-up; exit\" HUP; : {MARK}; echo ready; while :; do sleep 0.1; done"
    );
    let terminal =
        Talk::on_terminal(machine, &format!("{program} exec -it web -- sh -c '{inner}'"));
    terminal.expect("ready");
    terminal.kill();
    machine.eventually("the terminal has hung up", || {
        !exec("ls /tmp/hung-up 2>&1 || true").contains("No such")
    });
    exec("rm /tmp/hung-up");
}

fn a_server_that_stops_ends_streams(machine: &mut Machine) {
    let (mut commands, mut forwarded) = (Vec::new(), Vec::new());
    for program in PROGRAMS {
        let script = "echo ready; cat; echo over";
        let words = ["exec", "-i", "web", "--", "sh", "-c", script];
        let command = Talk::start(machine, program, &words);
        command.expect("ready");
        commands.push(command);
        let follows = Talk::start(machine, program, &["port-forward", "pod/web", ":9000"]);
        follows.expect("Forwarding from");
        forwarded.push(follows);
    }
    machine.stop(Signal::SIGTERM);
    for command in commands {
        let Ended { status, said, complained } = command.end();
        assert_eq!((status.code(), &said[..]), (Some(1), &b"ready\n"[..]), "{complained}");
        assert!(complained.contains("the runtime was closed"), "{complained}");
    }
    for follows in forwarded {
        let ended = follows.end();
        assert!(ended.complained.contains("lost connection to pod"), "{ended:?}");
    }
}
