//! `kinglet packaged`: the files that belong beside the executable are in it, so that whoever has the
//! one has the others, of the same version.
//!
//! What is to be filled in (paths, the command line) stands alone on lines `KEY=...`, for install.sh.

use clap::builder::PossibleValuesParser;
use std::process::ExitCode;

/// By their names.
const FILES: [(&str, &str); 5] = [
    ("kinglet.service", include_str!("../../systemd/kinglet.service")),
    ("kinglet-agent.service", include_str!("../../systemd/kinglet-agent.service")),
    ("openrc", include_str!("../../packaging/openrc/kinglet")),
    ("killall.sh", include_str!("../../packaging/killall.sh")),
    ("uninstall.sh", include_str!("../../packaging/uninstall.sh")),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which one
    #[arg(value_parser = PossibleValuesParser::new(FILES.map(|(name, _)| name)))]
    name: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = FILES.iter().find(|(name, _)| *name == args.name);
    let (_, text) = file.expect("clap takes no other name");
    super::print(text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What install.sh replaces, and what `kinglet uninstall` relies on.
    #[test]
    fn each_place_to_fill_in_is_there_once() {
        let fills: [&[&str]; 5] = [
            &[
                "ExecStart=/usr/local/bin/kinglet server",
                "EnvironmentFile=-/etc/systemd/system/kinglet.service.env",
            ],
            &[
                "ExecStart=/usr/local/bin/kinglet agent",
                "EnvironmentFile=-/etc/systemd/system/kinglet-agent.service.env",
            ],
            &[
                "command=/usr/local/bin/kinglet",
                "command_args=server",
                "environment_file=/etc/kinglet/kinglet.env",
            ],
            &["bin_dir=/usr/local/bin", "systemd_dir=/etc/systemd/system"],
            &["bin_dir=/usr/local/bin", "systemd_dir=/etc/systemd/system"],
        ];
        for ((name, text), fills) in FILES.iter().zip(fills) {
            for fill in fills {
                let (key, _) = fill.split_once('=').unwrap();
                let found: Vec<_> = text
                    .lines()
                    .filter(|line| line.split_once('=').is_some_and(|(it, _)| it == key))
                    .collect();
                assert_eq!(found, [*fill], "{name}");
            }
        }
    }
}
