//! Installing, upgrading and reconfiguring a service of systemd.

use super::host::{Host, Init, SHELLS};
use super::text::{mode, unit_words};

fn fresh(shell: &'static str) -> Host {
    let host = Host::new(Init::Systemd, shell);
    host.release("1");
    host
}

const UNIT: &str = "etc/systemd/system/kinglet.service";
const ENVIRONMENT: &str = "etc/systemd/system/kinglet.service.env";

#[test]
fn a_server_is_installed_enabled_and_started() {
    for shell in SHELLS {
        let host = fresh(shell);
        let said = host.install(&[], &[]).ok();
        assert!(said.contains("installed kinglet 1 as /usr/local/bin/kinglet"), "{said}");
        let calls = host.calls();
        let expected = "systemctl daemon-reload\nsystemctl enable --quiet kinglet.service\n\
                        systemctl restart kinglet.service\n";
        assert!(calls.ends_with(expected), "{calls}");
        let names: Vec<_> = host.files().into_keys().collect();
        assert_eq!(
            names,
            [
                "etc/systemd",
                "etc/systemd/system",
                UNIT,
                ENVIRONMENT,
                "local/bin",
                "local/bin/kinglet",
                "local/bin/kinglet-killall.sh",
                "local/bin/kinglet-uninstall.sh",
                "local/sbin",
                "run/kinglet",
                "run/systemd",
                "run/systemd/system",
                "var/log"
            ]
        );
        assert_eq!(mode(&host, "local/bin/kinglet"), "755");
        assert_eq!(mode(&host, "local/bin/kinglet-uninstall.sh"), "755");
        assert_eq!(mode(&host, UNIT), "644");
        assert_eq!(mode(&host, ENVIRONMENT), "600");
        assert_eq!(unit_words(&host.read(UNIT)), ["/usr/local/bin/kinglet", "server"]);
    }
}

#[test]
fn units_are_well_formed() {
    let host = fresh("dash");
    host.install(&[], &["--node-label", "a=b c", "--tls-san=100%"]).ok();
    host.install(&[("KINGLET_URL", "https://one:6443")], &[]).ok();
    for unit in ["kinglet.service", "kinglet-agent.service"] {
        if !std::path::Path::new("/usr/bin/systemd-analyze").exists() {
            return;
        }
        let path = format!("/etc/systemd/system/{unit}");
        let said = host.run(&["/usr/bin/systemd-analyze", "verify", "--man=no", &path]);
        assert!(said.is_ok && !said.text.contains(unit), "{}", said.text);
    }
}

#[test]
fn nothing_is_done_where_nothing_has_changed() {
    for shell in SHELLS {
        let host = fresh(shell);
        host.install(&[], &["--disable", "ingress"]).ok();
        let before = host.files();
        host.calls();
        for words in [&["--disable", "ingress"][..], &[]] {
            let said = host.install(&[], words).ok();
            assert!(said.contains("kinglet runs, and nothing has changed"), "{said}");
            assert!(!host.calls().contains("restart"));
            assert_eq!(host.files(), before);
        }
        host.install(&[("INSTALL_KINGLET_FORCE_RESTART", "true")], &[]).ok();
        assert!(host.calls().contains("systemctl restart kinglet.service\n"));
        // A service that does not run is started.
        host.answer("systemctl-is-active-fails", "");
        host.install(&[], &[]).ok();
        assert!(host.calls().contains("systemctl restart kinglet.service\n"));
    }
}

#[test]
fn an_upgrade_keeps_the_settings() {
    for shell in SHELLS {
        let host = fresh(shell);
        host.install(&[("KINGLET_NODE_NAME", "one")], &["--disable", "ingress"]).ok();
        let (unit, environment) = (host.read(UNIT), host.read(ENVIRONMENT));
        host.calls();
        host.release("2");
        let said = host.install(&[], &[]).ok();
        assert!(said.contains("installed kinglet 2"), "{said}");
        assert_eq!((host.read(UNIT), host.read(ENVIRONMENT)), (unit, environment));
        assert!(host.calls().contains("systemctl restart kinglet.service\n"));
        // The service of an agent is found too.
        let host = fresh(shell);
        host.install(&[("KINGLET_URL", "https://one:6443"), ("KINGLET_TOKEN", "a.b")], &[]).ok();
        let before = host.files();
        host.install(&[], &[]).ok();
        assert_eq!(host.files(), before);
    }
}

#[test]
fn other_settings_take_the_place_of_what_was_said_before() {
    for shell in SHELLS {
        let host = fresh(shell);
        host.install(&[("KINGLET_NODE_NAME", "one")], &["--disable", "ingress"]).ok();
        host.calls();
        host.install(&[], &["--debug"]).ok();
        let words = unit_words(&host.read(UNIT));
        assert_eq!(words, ["/usr/local/bin/kinglet", "server", "--debug"]);
        assert!(!host.read(ENVIRONMENT).contains("KINGLET_NODE_NAME"));
        assert!(host.calls().contains("systemctl restart kinglet.service\n"));
    }
}

#[test]
fn a_url_makes_an_agent() {
    for shell in SHELLS {
        let host = fresh(shell);
        host.install(&[("KINGLET_URL", "https://one:6443"), ("KINGLET_TOKEN", "K10a::b.c")], &[])
            .ok();
        let unit = host.read("etc/systemd/system/kinglet-agent.service");
        assert_eq!(unit_words(&unit), ["/usr/local/bin/kinglet", "agent"]);
        assert!(unit.contains("EnvironmentFile=-/etc/systemd/system/kinglet-agent.service.env\n"));
        let environment = host.read("etc/systemd/system/kinglet-agent.service.env");
        assert!(environment.contains("\nKINGLET_TOKEN=\"K10a::b.c\"\n"), "{environment}");
        assert!(environment.contains("\nKINGLET_URL=\"https://one:6443\"\n"), "{environment}");
        assert!(host.calls().ends_with("systemctl restart kinglet-agent.service\n"));
        // A token on the command line is nothing for everybody to read.
        for words in [["--token", "K10d::e.f"], ["--token=K10d::e.f", "--debug"]] {
            host.install(&[("KINGLET_URL", "https://one:6443")], &words).ok();
            let unit = host.read("etc/systemd/system/kinglet-agent.service");
            let environment = host.read("etc/systemd/system/kinglet-agent.service.env");
            assert!(!unit.contains("K10d") && environment.contains("\"K10d::e.f\""), "{unit}");
        }
    }
}

#[test]
fn names_and_places_can_be_chosen() {
    for shell in SHELLS {
        let host = fresh(shell);
        let chosen = [
            ("INSTALL_KINGLET_NAME", "two"),
            ("INSTALL_KINGLET_BIN_DIR", "/opt/kinglet/bin"),
            ("INSTALL_KINGLET_SYSTEMD_DIR", "/etc/units"),
            ("INSTALL_KINGLET_SKIP_START", "true"),
            ("INSTALL_KINGLET_EXEC", "server --debug"),
        ];
        host.install(&chosen, &["--tls-san", "edge"]).ok();
        let unit = host.read("etc/units/kinglet-two.service");
        let expected = ["/opt/kinglet/bin/kinglet", "server", "--debug", "--tls-san", "edge"];
        assert_eq!(unit_words(&unit), expected);
        assert!(unit.contains("EnvironmentFile=-/etc/units/kinglet-two.service.env\n"), "{unit}");
        let script = host.read("opt/kinglet/bin/kinglet-uninstall.sh");
        assert!(script.contains("\nbin_dir=/opt/kinglet/bin\nsystemd_dir=/etc/units\n"));
        let calls = host.calls();
        assert!(calls.contains("enable --quiet kinglet-two.service"), "{calls}");
        assert!(!calls.contains("restart"), "{calls}");
        host.install(&[("INSTALL_KINGLET_SKIP_ENABLE", "true")], &[]).ok();
        assert!(!host.calls().contains("enable"));
    }
}
