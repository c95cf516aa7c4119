//! Services of OpenRC.

use super::host::{Host, Init, SHELLS};
use super::text::mode;

#[test]
fn a_service_is_installed_started_and_upgraded() {
    for shell in SHELLS {
        let host = Host::new(Init::OpenRc, shell);
        host.release("1");
        host.install(&[("KINGLET_TOKEN", "a.b")], &["--debug"]).ok();
        let calls = host.calls();
        let expected = "rc-update add kinglet default\nrc-service --quiet kinglet restart\n";
        assert!(calls.ends_with(expected), "{calls}");
        let script = host.read("etc/init.d/kinglet");
        assert!(script.starts_with("#!/sbin/openrc-run\n"));
        assert!(script.contains("\ncommand=/usr/local/bin/kinglet\n"), "{script}");
        assert!(script.contains("\ncommand_args='server --debug'\n"), "{script}");
        assert!(script.contains("\nenvironment_file=/etc/kinglet/kinglet.env\n"), "{script}");
        assert_eq!(mode(&host, "etc/init.d/kinglet"), "755");
        assert_eq!(mode(&host, "etc/kinglet/kinglet.env"), "600");
        assert!(host.read("etc/logrotate.d/kinglet").starts_with("/var/log/kinglet.log {\n"));
        host.install(&[], &[]).ok();
        assert!(!host.calls().contains("restart"));
        host.release("2");
        host.install(&[], &[]).ok();
        assert!(host.calls().contains("rc-service --quiet kinglet restart\n"));
    }
}

#[test]
fn the_script_gives_the_service_its_environment() {
    for shell in SHELLS {
        let host = Host::new(Init::OpenRc, shell);
        host.release("1");
        host.install(&[("KINGLET_NODE_NAME", "one $two")], &[]).ok();
        let text = "#!/bin/sh\nRC_SVCNAME=kinglet\n. /etc/init.d/kinglet\nstart_pre\n\
                    env | grep ^KINGLET_\n";
        host.executable("tmp/start.sh", text);
        assert_eq!(host.run(&["/tmp/start.sh"]).ok(), "KINGLET_NODE_NAME=one $two\n");
    }
}

#[test]
fn nothing_is_left_of_a_service() {
    for shell in SHELLS {
        let host = Host::new(Init::OpenRc, shell);
        host.release("1");
        let before = host.files();
        host.install(&[("KINGLET_TOKEN", "a.b")], &["--debug"]).ok();
        host.write("var/log/kinglet.log", "");
        host.calls();
        host.run(&["/usr/local/bin/kinglet-uninstall.sh"]).ok();
        let calls = host.calls();
        let expected = "rc-service --quiet --ifstarted kinglet stop\n\
                        kinglet <killall> <--purge> <--> <server> <--debug> token=a.b\n\
                        rc-update --quiet delete kinglet default\n";
        assert_eq!(calls, expected);
        assert_eq!(host.files(), before);
    }
}
