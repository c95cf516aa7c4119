//! Talking to processes in containers: commands that are started for it, and containers' own.

use super::rig::{DEADLINE, Rig, eventually};
use kinglet::runtime::{
    ContainerConfig, ContainerId, Control, ExecRequest, Output, Runtime as _, Session,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// A hundred commands take as long as a hundred starts of the OCI runtime, one after another.
const MANY_DEADLINE: Duration = Duration::from_secs(180);

/// What this rig's containers do unless a test wants something else.
const SLEEP: &str = "trap exit TERM; while :; do sleep 1; done";

fn command(script: &str) -> ExecRequest {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ExecRequest { command, stdin: true, tty: false }
}

async fn read(output: &mut Output) -> String {
    let mut text = Vec::new();
    timeout(DEADLINE, output.read_to_end(&mut text)).await.expect("an output ends").unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until `wanted` has come.
async fn read_until(output: &mut Output, wanted: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(wanted) {
            assert!(output.read_buf(&mut text).await.unwrap() > 0, "it ended before {wanted:?}");
        }
    };
    let in_time = timeout(DEADLINE, reading).await.is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(in_time, "no {wanted:?} in {text:?}");
    text
}

async fn close_input(session: &mut Session) {
    session.stdin = None;
    session.process.control(Control::CloseInput).await;
}

async fn exit(session: &mut Session) -> i32 {
    timeout(DEADLINE, session.process.ended()).await.expect("it ends").unwrap()
}

async fn running(rig: &Rig) -> ContainerId {
    let sandbox = rig.run_sandbox("a").await;
    rig.run(&sandbox, rig.container_config("c", SLEEP)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_talked_to() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let mut session =
        rig.runtime().open_exec(&id, command("cat; echo bye >&2; exit 7")).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    read_until(&mut session.stdout, "hello\n").await;
    session.stdin.as_mut().unwrap().write_all(b"there\n").await.unwrap();
    close_input(&mut session).await;
    assert_eq!(read(&mut session.stdout).await, "there\n");
    assert_eq!(read(session.stderr.as_mut().unwrap()).await, "bye\n");
    assert_eq!(exit(&mut session).await, 7);
    let missing = ExecRequest { command: vec!["/nothing".to_owned()], ..ExecRequest::default() };
    let error = rig.runtime().open_exec(&id, missing).await.unwrap_err().to_string();
    assert!(error.contains("/nothing"), "{error}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_pass_both_ways_untouched() {
    const BYTES: usize = 8 << 20;
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let mut session = rig.runtime().open_exec(&id, command("cat")).await.unwrap();
    let sent: Vec<u8> = (0..BYTES).map(|at| (at * 31 / 7).to_le_bytes()[0]).collect();
    let mut stdin = session.stdin.take().unwrap();
    let writing = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
        session.process.control(Control::CloseInput).await;
    };
    let mut received = Vec::new();
    let reading = async {
        // A reader that comes late loses nothing.
        tokio::time::sleep(Duration::from_millis(300)).await;
        session.stdout.read_to_end(&mut received).await.unwrap();
    };
    timeout(DEADLINE, async { tokio::join!(writing, reading) }).await.unwrap();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
    assert_eq!(exit(&mut session).await, 0);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_last_is_read_also_later() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let mut session = rig.runtime().open_exec(&id, command(script)).await.unwrap();
    // The shim gives up on outputs two seconds after it is told to forget a process.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(read(&mut session.stdout).await.ends_with("\n19999\n"));
    // What a command leaves behind holds its output; it ends all the same.
    let mut session = rig.runtime().open_exec(&id, command("sleep 60 & echo x")).await.unwrap();
    assert_eq!(read(&mut session.stdout).await, "x\n");
    assert_eq!(exit(&mut session).await, 0);
    rig.finish().await;
}

/// Whether no thread of the process runs any more.
fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

/// On a busy machine a shim may be late by any time.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_is_whole_however_late_the_shim_passes_it_on() {
    // More than a pipe holds, and less than that with what the shim has.
    const BYTES: usize = 80_000;
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let script = format!("head -c {BYTES} /dev/zero");
    let mut session = rig.runtime().open_exec(&id, command(&script)).await.unwrap();
    assert_eq!(exit(&mut session).await, 0);
    let signal = |signal| {
        for shim in rig.shims() {
            kill(Pid::from_raw(shim.try_into().unwrap()), signal).unwrap();
        }
    };
    signal(Signal::SIGSTOP);
    eventually("every thread of the shim has stopped", async || {
        let moving: Vec<_> = rig.shims().into_iter().filter(|pid| !is_stopped(*pid)).collect();
        if moving.is_empty() { Ok(()) } else { Err(format!("{moving:?}")) }
    })
    .await;
    let mut said = Vec::new();
    let mut reading = Box::pin(session.stdout.read_to_end(&mut said));
    let early = timeout(Duration::from_secs(5), &mut reading).await;
    signal(Signal::SIGCONT);
    assert!(early.is_err(), "it ended while the shim was silent: {early:?}");
    timeout(DEADLINE, reading).await.expect("it ends").unwrap();
    assert_eq!(said.len(), BYTES);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_hangs_up() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let request = ExecRequest {
        tty: true,
        ..command("trap 'stty size' WINCH; tty; while :; do sleep 0.1; done")
    };
    let mut session = rig.runtime().open_exec(&id, request).await.unwrap();
    assert!(session.stderr.is_none());
    read_until(&mut session.stdout, "/dev/pts/").await;
    session.process.control(Control::Resize { width: 123, height: 45 }).await;
    read_until(&mut session.stdout, "45 123").await;
    let shells = async || rig.exec(&id, "ps | grep -c '[W]INCH' || true").await;
    assert_eq!(shells().await, "1");
    drop(session);
    eventually("the shell is hung up", async || match shells().await.as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_reader_is_gone_ends_when_it_writes() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let silent = "sleep 1; touch /tmp/silent";
    // Its input has ended, too, after what was said.
    let reader = "cat >/tmp/read; mv /tmp/read /tmp/all";
    for script in ["while :; do echo noise; done", silent, reader] {
        let mut session = rig.runtime().open_exec(&id, command(script)).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(b"last words").await.unwrap();
        drop(session);
    }
    eventually("one has ended, the others have done their work", async || {
        let noisy = rig.exec(&id, "ps | grep -c '[n]oise' || true").await;
        let done = "ls /tmp/silent 2>/dev/null; cat /tmp/all 2>/dev/null || true";
        let done = rig.exec(&id, done).await;
        let is_done = done.contains("silent") && done.contains("last words");
        if noisy == "0" && is_done { Ok(()) } else { Err(format!("{noisy} {done}")) }
    })
    .await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_commands_are_talked_to_at_once() {
    let rig = Rig::start().await;
    let id = running(&rig).await;
    let one = async |number: usize| {
        let mut session = rig.runtime().open_exec(&id, command("cat")).await.unwrap();
        let text = format!("number {number}\n");
        session.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
        close_input(&mut session).await;
        let mut said = String::new();
        session.stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, text);
        assert_eq!(session.process.ended().await.unwrap(), 0);
    };
    let all = futures_util::future::join_all((0..100).map(one));
    timeout(MANY_DEADLINE, all).await.unwrap();
    rig.finish().await;
}

fn with_input(rig: &Rig, name: &str, script: &str, tty: bool) -> ContainerConfig {
    ContainerConfig { stdin: true, tty, ..rig.container_config(name, script) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_attached_to_and_logs_all_the_same() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("a").await;
    let script = "while read line; do echo got $line; echo err $line >&2; done; echo end";
    let config = ContainerConfig { stdin_once: true, ..with_input(&rig, "c", script, false) };
    let id = rig.run(&sandbox, config).await;
    let mut watcher = rig.runtime().attach(&id, false).await.unwrap();
    // Ours is an other process's life from here on: the container does not notice.
    rig.close().await;
    rig.open().await;
    drop(watcher.stdin.take());
    let mut watcher = rig.runtime().attach(&id, false).await.unwrap();
    let mut session = rig.runtime().attach(&id, true).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"one\n").await.unwrap();
    read_until(&mut session.stdout, "got one\n").await;
    read_until(session.stderr.as_mut().unwrap(), "err one\n").await;
    session.stdin.as_mut().unwrap().write_all(b"two\n").await.unwrap();
    close_input(&mut session).await;
    assert_eq!(read(&mut session.stdout).await, "got two\nend\n");
    assert_eq!(read(&mut watcher.stdout).await, "got one\ngot two\nend\n");
    assert_eq!(rig.exit_of(&id).await.0, 0);
    let log = ["stdout F got one", "stderr F err one", "stdout F got two", "stderr F err two"];
    eventually("the log has it all", async || {
        let mut lines = rig.log("c");
        lines.sort();
        let mut expected = [&log[..], &["stdout F end"]].concat();
        expected.sort_unstable();
        if lines == expected { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_attached_to_again_and_again() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("a").await;
    let script = "while read line; do stty size; echo got $line; done";
    let id = rig.run(&sandbox, with_input(&rig, "c", script, true)).await;
    for (text, width) in [("one", 100), ("two", 101)] {
        let mut session = rig.runtime().attach(&id, true).await.unwrap();
        session.process.control(Control::Resize { width, height: 30 }).await;
        // Controls and input go different ways.
        let size = format!("30 {width}");
        let mut said = String::new();
        eventually("the size is taken", async || {
            session
                .stdin
                .as_mut()
                .unwrap()
                .write_all(format!("{text}\n").as_bytes())
                .await
                .unwrap();
            said = read_until(&mut session.stdout, &format!("got {text}")).await;
            if said.contains(&size) { Ok(()) } else { Err(said.clone()) }
        })
        .await;
    }
    rig.finish().await;
}
