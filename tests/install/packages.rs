//! What a host lacks is installed where it can be, and named where it cannot.

use super::host::{Host, Init, SHELLS};

fn lacking(shell: &'static str) -> Host {
    let host = Host::new(Init::Systemd, shell);
    host.release("1");
    host.answer("packages", "containerd nftables");
    host
}

#[test]
fn packages_are_installed_without_the_daemon_that_one_of_them_brings() {
    for shell in SHELLS {
        let host = lacking(shell);
        host.answer("systemctl-cat-fails", "");
        let said = host.install(&[], &[]).ok();
        assert!(said.contains("installing packages: containerd nftables"), "{said}");
        let calls = host.calls();
        let expected = "systemctl cat containerd.service\n\
                        systemctl mask --runtime --quiet containerd.service\n\
                        apt-get install -y -qq --no-install-recommends containerd nftables\n\
                        systemctl unmask --runtime --quiet containerd.service\n\
                        systemctl disable --now --quiet containerd.service\n";
        assert!(calls.starts_with(expected), "{calls}");
    }
}

#[test]
fn a_daemon_that_was_there_before_stays_as_it_is() {
    for shell in SHELLS {
        let host = lacking(shell);
        host.install(&[], &[]).ok();
        let calls = host.calls();
        assert!(!calls.contains("mask") && !calls.contains("disable"), "{calls}");
    }
}

#[test]
fn the_list_of_packages_is_fetched_where_the_old_one_does_not_do() {
    for shell in SHELLS {
        let host = lacking(shell);
        host.answer("apt-get-install-fails", "");
        let before = host.files();
        host.install(&[], &[])
            .refused("these packages could not be installed: containerd nftables");
        let calls = host.calls();
        let install = "apt-get install -y -qq --no-install-recommends containerd nftables\n";
        assert!(calls.contains(&format!("{install}apt-get update -qq\n{install}")), "{calls}");
        assert_eq!(host.files(), before);
    }
}

#[test]
fn packages_are_left_alone_where_that_is_asked_for() {
    for shell in SHELLS {
        let host = lacking(shell);
        host.install(&[("INSTALL_KINGLET_SKIP_PACKAGES", "true")], &[]).ok();
        assert!(!host.calls().contains("apt-get"));
    }
}

#[test]
fn what_is_missing_then_is_named_and_nothing_is_installed() {
    for shell in SHELLS {
        let host = lacking(shell);
        host.answer("lacks", "missing  cgroup memory: boot with cgroup_enable=memory");
        let before = host.files();
        let said = host.install(&[], &[]);
        assert!(said.text.contains("missing  cgroup memory: boot"), "{}", said.text);
        assert!(!said.text.contains("ok  "), "{}", said.text);
        said.refused("this host lacks what is said above");
        assert_eq!(host.files(), before);
        // An image of a machine is made elsewhere than where it runs.
        host.install(&[("INSTALL_KINGLET_SKIP_START", "true")], &[]).ok();
        host.install(&[("INSTALL_KINGLET_SKIP_CHECK", "true")], &[]).ok();
    }
}
