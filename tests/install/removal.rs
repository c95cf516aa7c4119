//! What is left when kinglet is stopped for good, or removed.

use super::host::{Host, Init, SHELLS};
use std::path::Path;
use std::process::Command;

#[test]
fn nothing_is_left_of_a_server() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        let before = host.files();
        host.install(&[], &["--data-dir", "/data"]).ok();
        host.write("etc/kinglet/config.yaml", "");
        host.write("etc/systemd/system/kinglet.service.d/more.conf", "");
        host.calls();
        let said = host.run(&["/usr/local/bin/kinglet-uninstall.sh"]).ok();
        assert!(said.contains("nothing of it is left"), "{said}");
        let expected = "systemctl stop kinglet.service\n\
                        kinglet <killall> <--purge> <--> <server> <--data-dir> </data> token=\n\
                        systemctl disable --quiet kinglet.service\n\
                        systemctl daemon-reload\n\
                        systemctl reset-failed kinglet.service\n";
        assert_eq!(host.calls(), expected);
        assert_eq!(host.files(), before);
    }
}

#[test]
fn one_service_goes_and_the_other_stays() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        host.install(&[("KINGLET_DEBUG", "true")], &[]).ok();
        let before = host.files();
        host.install(&[("KINGLET_URL", "https://one:6443"), ("KINGLET_TOKEN", "a.b")], &[]).ok();
        let both = "there are several services, say which";
        host.run(&["/usr/local/bin/kinglet-uninstall.sh"]).refused(both);
        let unknown = ["/usr/local/bin/kinglet-uninstall.sh", "kinglet-two"];
        host.run(&unknown).refused("there is no service kinglet-two");
        host.calls();
        host.run(&["/usr/local/bin/kinglet-uninstall.sh", "kinglet-agent"]).ok();
        assert!(host.calls().contains("<--purge> <--> <agent> token=a.b\n"));
        let mut after = host.files();
        after.remove("run/kinglet");
        let mut before = before;
        before.remove("run/kinglet");
        assert_eq!(after, before);
        host.run(&["/usr/local/bin/kinglet-uninstall.sh"]).ok();
        assert!(!host.path("local/bin/kinglet").exists());
    }
}

#[test]
fn what_cannot_be_removed_keeps_all_that_is_needed_to_try_again() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        host.install(&[], &[]).ok();
        let before = host.files();
        host.answer("killall-fails", "");
        host.run(&["/usr/local/bin/kinglet-uninstall.sh"])
            .refused("not all of kinglet could be removed");
        assert_eq!(host.files(), before);
        host.answer_well("killall-fails");
        host.run(&["/usr/local/bin/kinglet-uninstall.sh"]).ok();
    }
}

#[test]
fn killing_stops_all_services_and_keeps_their_files() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        host.install(&[("KINGLET_DEBUG", "true")], &[]).ok();
        host.install(&[("KINGLET_URL", "https://one:6443"), ("KINGLET_TOKEN", "a.b")], &[]).ok();
        let before = host.files();
        host.calls();
        host.run(&["/usr/local/bin/kinglet-killall.sh"]).ok();
        let expected = "systemctl stop kinglet.service\nsystemctl stop kinglet-agent.service\n\
                        kinglet <killall> <--> <agent> token=a.b\n\
                        kinglet <killall> <--> <server> token=\n";
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&host.calls()), sorted(expected));
        assert_eq!(host.files(), before);
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for script in ["install.sh", "killall.sh", "uninstall.sh", "openrc/kinglet"] {
        let path = packaging.join(script);
        let Ok(output) = Command::new("shellcheck").args(["--shell", "sh"]).arg(path).output()
        else {
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
