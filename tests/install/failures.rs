//! Whatever goes wrong, nothing is half installed.

use super::host::{Host, Init, SHELLS, executable};
use std::path::Path;

/// A machine without kinglet, or with its version 1, on which version 2 can be installed.
fn both(shell: &'static str) -> [Host; 2] {
    [false, true].map(|is_installed| {
        let host = Host::new(Init::Systemd, shell);
        if is_installed {
            host.release("1");
            host.install(&[("KINGLET_NODE_NAME", "one")], &[]).ok();
        }
        host.release("2");
        host.calls();
        host
    })
}

/// Installing on a machine that `prepare` has changed is refused for this reason, and changes nothing.
#[track_caller]
fn check(prepare: impl Fn(&Host), environment: &[(&str, &str)], words: &[&str], why: &str) {
    for host in SHELLS.into_iter().flat_map(both) {
        prepare(&host);
        let before = host.files();
        let said = host.install(environment, words);
        assert!(said.text.contains("nothing was installed"), "{}", said.text);
        said.refused(why);
        assert_eq!(host.files(), before);
        assert!(!host.calls().contains("systemctl restart"));
    }
}

#[test]
fn what_is_fetched_has_to_be_whole() {
    let damaged = |host: &Host| {
        host.write(&format!("release/{}", executable()), "#!/bin/sh\necho kinglet 3\n")
    };
    check(damaged, &[], &[], "is damaged: its SHA-256 is");
    let without_sum = |host: &Host| host.write("release/sha256sums.txt", "00  kinglet-other\n");
    check(without_sum, &[], &[], "sha256sums.txt has no sum of kinglet-");
    check(
        |_| {},
        &[("INSTALL_KINGLET_VERSION", "v9")],
        &[],
        "there is no /release/v9/sha256sums.txt",
    );
    let away = [("INSTALL_KINGLET_URL", "ftp://a")];
    check(|_| {}, &away, &[], "INSTALL_KINGLET_URL begins with none of");
    let nowhere = [("INSTALL_KINGLET_URL", "")];
    check(|_| {}, &nowhere, &[], "say where kinglet is");
    let other = [("INSTALL_KINGLET_PATH", "/release/kinglet-riscv64")];
    check(|_| {}, &other, &[], "there is no /release/kinglet-riscv64");
    let directory = [("INSTALL_KINGLET_PATH", "/etc")];
    check(|_| {}, &directory, &[], "/etc has no sha256sums.txt");
}

#[test]
fn what_cannot_run_here_is_not_installed() {
    let foreign = |host: &Host| {
        host.write("tmp/foreign", "\x7fELF");
    };
    let path = [("INSTALL_KINGLET_PATH", "/tmp/foreign")];
    check(foreign, &path, &[], "the executable does not run on this machine");
    // busybox asks itself who it is.
    let [host, _] = both("dash");
    host.program("uname", "#!/bin/sh\necho riscv64\n");
    host.install(&[], &[]).refused("this machine is riscv64");
    let [host, _] = both("dash");
    host.program("id", "#!/bin/sh\necho 1000\n");
    host.install(&[], &[]).refused("only root can install it");
}

#[test]
fn what_is_said_has_to_make_sense() {
    check(|_| {}, &[("KINGLET_URL", "one:6443")], &[], "KINGLET_URL is not https://");
    check(|_| {}, &[], &["agent"], "an agent needs KINGLET_URL");
    check(
        |_| {},
        &[("INSTALL_KINGLET_NAME", "a b")],
        &[],
        "INSTALL_KINGLET_NAME has other characters",
    );
    check(|_| {}, &[("INSTALL_KINGLET_BIN_DIR", "bin")], &[], "'bin' is not an absolute path");
    check(|_| {}, &[("INSTALL_KINGLET_BIN_DIR", "/a b")], &[], "'/a b' has other characters");
    let file = [("KINGLET_URL", "https://a"), ("KINGLET_TOKEN_FILE", "/nothing")];
    check(|_| {}, &file, &[], "KINGLET_TOKEN_FILE cannot be read");
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_anything_is_changed() {
    let units = [("INSTALL_KINGLET_SYSTEMD_DIR", "/proc/units"), ("KINGLET_DEBUG", "true")];
    check(|_| {}, &units, &[], "/proc/units cannot be made");
    check(|_| {}, &[("INSTALL_KINGLET_BIN_DIR", "/proc/bin")], &[], "/proc/bin cannot be made");
}

#[test]
fn an_interrupted_installation_changes_nothing() {
    check(|host| host.answer("interrupt", ""), &[], &[], "interrupted");
}

/// A download may end anywhere: of each beginning of the script, nothing is done.
#[test]
fn a_script_that_was_cut_off_does_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh");
    let text = std::fs::read_to_string(script).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let host = Host::new(Init::Systemd, "dash");
    host.release("1");
    let before = host.files();
    let url = [("INSTALL_KINGLET_URL", "file:///release")];
    let cut = tempfile::NamedTempFile::new().unwrap();
    for count in (1..lines.len()).rev().step_by(23) {
        let half = lines[count].len() / 2;
        let text = [&lines[..count].concat(), &lines[count][..half]].concat();
        std::fs::write(cut.path(), text).unwrap();
        host.pipe(cut.path(), &url, &[]);
        assert_eq!(host.files(), before, "cut off in line {count}");
    }
}

#[test]
fn a_service_that_does_not_start_is_said_and_tried_again() {
    for shell in SHELLS {
        let [host, _] = both(shell);
        host.answer("systemctl-restart-fails", "");
        let said = host.install(&[], &[]);
        let why = "kinglet 2 is installed, but the service kinglet did not start: `journalctl -u kinglet`";
        said.refused(why);
        host.answer_well("systemctl-restart-fails");
        host.calls();
        host.install(&[], &[]).ok();
        assert!(host.calls().contains("systemctl restart kinglet.service\n"));
        host.install(&[], &[]).ok();
        assert!(!host.calls().contains("systemctl restart"));
    }
}

#[test]
fn what_an_earlier_attempt_has_left_is_cleared_away() {
    for shell in SHELLS {
        let [host, _] = both(shell);
        host.write("local/bin/.kinglet-install.abc/kinglet", "half");
        host.write("local/bin/kinglet.new", "half");
        host.install(&[], &[]).ok();
        let left: Vec<_> = host.files().into_keys().filter(|it| it.contains(".new")).collect();
        assert!(left.is_empty() && !host.path("local/bin/.kinglet-install.abc").exists());
    }
}

#[test]
fn without_a_service_manager_only_what_is_asked_for_is_installed() {
    for shell in SHELLS {
        let host = Host::new(Init::None, shell);
        host.release("1");
        let before = host.files();
        host.install(&[], &[]).refused("neither systemd nor openrc is here");
        assert_eq!(host.files(), before);
        host.install(&[("INSTALL_KINGLET_SKIP_ENABLE", "true")], &[]).ok();
        assert_eq!(super::text::mode(&host, "local/bin/kinglet"), "755");
        assert!(!host.path("etc/systemd").exists());
        host.run(&["/usr/local/bin/kinglet-uninstall.sh"]).ok();
        let after = host.files();
        assert_eq!(after, before);
    }
}
