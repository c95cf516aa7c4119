//! `kinglet check`: what this host lacks, and how to get it.
//!
//! [`judge`] decides from plain [`Facts`](judge::Facts); [`gather`] finds them; here they are printed.

mod features;
mod gather;
mod judge;

use super::server::BackendArg;
use clap::ValueEnum;
use judge::{Finding, Verdict};
use std::collections::BTreeSet;
use std::fmt;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, for scripts
    #[arg(long, conflicts_with = "packages")]
    json: bool,
    /// Print only the packages that this host lacks, as a distribution calls them
    #[arg(long, value_name = "DISTRIBUTION")]
    packages: Option<Distribution>,
    #[command(flatten)]
    data: super::node::DataDir,
    /// Port of the API server
    #[arg(long, env = "KINGLET_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    https_listen_port: u16,
    /// Port of the kubelet
    #[arg(long, env = "KINGLET_KUBELET_PORT", default_value_t = 10250)]
    kubelet_port: u16,
    /// Ports of the ingress; 0: none
    #[arg(long, env = "KINGLET_INGRESS_HTTP_PORT", default_value_t = 80)]
    ingress_http_port: u16,
    #[arg(long, env = "KINGLET_INGRESS_HTTPS_PORT", default_value_t = 443)]
    ingress_https_port: u16,
    /// How packets are to get to pods of other nodes
    #[arg(long, env = "KINGLET_FLANNEL_BACKEND", default_value = "vxlan")]
    flannel_backend: BackendArg,
}

/// Whose names packages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Distribution {
    Debian,
    Alpine,
    Fedora,
}

/// Prints a line for each check; fails where something is missing.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = judge::judge(&gather::gather(args));
    if let Some(distribution) = args.packages {
        super::print(&wanted(&findings, distribution))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = if args.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    };
    super::print(&text)?;
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The packages that bring what is missing, on a line; nothing where there are none.
fn wanted(findings: &[Finding], distribution: Distribution) -> String {
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing);
    let packages = missing.filter_map(|finding| finding.packages);
    let names: BTreeSet<_> = packages
        .map(|packages| match distribution {
            Distribution::Debian => packages.debian,
            Distribution::Alpine => packages.alpine,
            Distribution::Fedora => packages.fedora,
        })
        .collect();
    match names.is_empty() {
        true => String::new(),
        false => names.into_iter().collect::<Vec<_>>().join(" ") + "\n",
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Missing => "missing",
        };
        write!(formatter, "{verdict}  {}", self.what)?;
        if !self.remedy.is_empty() {
            write!(formatter, ": {}", self.remedy)?;
        }
        if let Some(packages) = self.packages.filter(|_| self.verdict != Verdict::Ok) {
            let judge::Packages { debian, alpine, fedora } = packages;
            write!(formatter, "; package {debian} (Debian), {alpine} (Alpine), {fedora} (Fedora)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_what_is_missing_are_named_once() {
        let findings = judge::judge(&judge::tests::bare());
        assert_eq!(wanted(&findings, Distribution::Debian), "containerd nftables runc\n");
        assert_eq!(wanted(&judge::judge(&judge::tests::facts()), Distribution::Alpine), "");
        let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
        let expected = "missing  nft: applies network rules; package nftables (Debian), \
                        nftables (Alpine), nftables (Fedora)";
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }
}
