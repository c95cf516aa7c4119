//! `kinglet killall`: nothing of the pods of a machine is left, and with `--purge` nothing of kinglet.

use super::Command;
use super::logs::LogArgs;
use super::node::absolute;
use super::service::ServiceArgs;
use crate::daemon::{self, Places};
use anyhow::bail;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where everything is kept [default: what the configuration says, or /var/lib/kinglet]
    #[arg(long, short = 'd')]
    data_dir: Option<PathBuf>,
    /// Remove the data too, with the logs of pods and the administrator's kubeconfig
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    service: ServiceArgs,
    #[command(flatten)]
    logs: LogArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.logs.start();
    match (args.purge, &args.data_dir) {
        // A configuration that cannot be read must not keep this from its work.
        (false, Some(data_dir)) => daemon::remove_everything(&absolute(data_dir)?)?,
        (false, None) => daemon::remove_everything(&args.places()?.data_dir)?,
        (true, _) => daemon::purge(&args.places()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn places(&self) -> anyhow::Result<Places> {
        let places = match self.service.read()? {
            Command::Server(args) => args.places()?,
            Command::Agent(args) => args.places()?,
            _ => bail!("only a server or an agent has places of its own"),
        };
        Ok(match &self.data_dir {
            Some(data_dir) => Places { data_dir: absolute(data_dir)?, ..places },
            None => places,
        })
    }
}
