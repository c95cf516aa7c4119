//! What is said to the installer reaches kinglet as it was said, whatever characters it has.

use super::host::{Host, Init, SHELLS};
use super::text::unit_words;

/// What shells, systemd and sed each have a use of their own for.
const ODD: [&str; 14] = [
    "a b",
    "it's",
    "\"quoted\"",
    "$HOME",
    "${HOME}",
    "100%",
    "%n",
    "back\\slash\\",
    ";",
    "",
    "*",
    "`id`",
    "a&b|c>d#e!f",
    "ünïcode\ttab",
];

#[test]
fn words_reach_a_unit_as_they_were_said() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        let words: Vec<_> = ["--tls-san"].into_iter().chain(ODD).collect();
        host.install(&[], &words).ok();
        let unit = host.read("etc/systemd/system/kinglet.service");
        let expected: Vec<_> =
            ["/usr/local/bin/kinglet", "server"].into_iter().chain(words).collect();
        assert_eq!(unit_words(&unit), expected);
        // Killing and removing are told the same.
        host.calls();
        host.run(&["/usr/local/bin/kinglet-killall.sh"]).ok();
        let bracketed: String = expected[1..].iter().map(|word| format!(" <{word}>")).collect();
        let expected = format!("kinglet <killall> <-->{bracketed} token=\n");
        let calls = host.calls();
        assert!(calls.ends_with(&expected), "{calls}");
    }
}

#[test]
fn words_reach_an_openrc_script_as_they_were_said() {
    for shell in SHELLS {
        let host = Host::new(Init::OpenRc, shell);
        host.release("1");
        let words: Vec<_> = ["--tls-san"].into_iter().chain(ODD).collect();
        host.install(&[], &words).ok();
        // As supervise-daemon.sh of OpenRC runs it.
        let runs = "#!/bin/sh\nRC_SVCNAME=kinglet\n. /etc/init.d/kinglet\n\
                    eval printf \"'<%s>\\n'\" \"$command\" $command_args\n";
        host.executable("tmp/run.sh", runs);
        let said = host.run(&["/tmp/run.sh"]).ok();
        let expected: String = ["/usr/local/bin/kinglet", "server"]
            .into_iter()
            .chain(words)
            .map(|word| format!("<{word}>\n"))
            .collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn words_in_a_variable_are_split_as_a_shell_does_without_running_anything() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        let exec = "server --tls-san 'a b' --node-name=\"c d\" $(touch /tmp/x) \\ `id` *";
        host.install(&[("INSTALL_KINGLET_EXEC", exec)], &["--debug"]).ok();
        let unit = host.read("etc/systemd/system/kinglet.service");
        let expected = [
            "/usr/local/bin/kinglet",
            "server",
            "--tls-san",
            "a b",
            "--node-name=c d",
            "$(touch",
            "/tmp/x)",
            "\\",
            "`id`",
            "*",
            "--debug",
        ];
        assert_eq!(unit_words(&unit), expected);
        let before = host.files();
        host.install(&[("INSTALL_KINGLET_EXEC", "--node-name 'a")], &[])
            .refused("INSTALL_KINGLET_EXEC has a quote that does not end");
        host.install(&[], &["--node-name", "a\nb"]).refused("has several lines");
        host.install(&[("INSTALL_KINGLET_EXEC", "sevrer")], &[])
            .refused("'sevrer' is neither `server` nor `agent` nor a flag");
        assert_eq!(host.files(), before);
    }
}

/// By a shell here; systemd.exec(5) has the same rules for what is between double quotes.
#[test]
fn variables_reach_the_service_as_they_were_said() {
    for shell in SHELLS {
        let host = Host::new(Init::Systemd, shell);
        host.release("1");
        let names: Vec<_> = (0..ODD.len()).map(|index| format!("KINGLET_ODD_{index}")).collect();
        let mut variables: Vec<_> = names
            .iter()
            .map(String::as_str)
            .zip(ODD)
            .chain([("HTTPS_PROXY", "http://p:1")])
            .collect();
        variables.push(("KINGLET_LINES", "a\nKINGLET_NONE=b"));
        variables.push(("OTHER", "a\nKINGLET_GHOST=b"));
        let said = host.install(&variables, &[]).ok();
        assert!(said.contains("KINGLET_LINES has several lines and is left out"), "{said}");
        let file = "etc/systemd/system/kinglet.service.env";
        let text = host.read(file);
        assert!(!text.contains("OTHER") && !text.contains("GHOST") && !text.contains("NONE"));
        assert!(text.contains("HTTPS_PROXY=\"http://p:1\"\n"), "{text}");
        let mut script = format!("#!/bin/sh\nset -a\n. /{file}\n");
        for name in &names {
            script.push_str(&format!("printf '<%s>\\n' \"${name}\"\n"));
        }
        host.executable("tmp/show.sh", &script);
        let expected: String = ODD.iter().map(|value| format!("<{value}>\n")).collect();
        assert_eq!(host.run(&["/tmp/show.sh"]).ok(), expected);
    }
}
