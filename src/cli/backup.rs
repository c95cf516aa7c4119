//! `kinglet backup`: a server in one file, and back.

use super::columns::columns;
use super::node::{absolute, host_name};
use crate::daemon::Layout;
use crate::daemon::backup::{self, Existing, Listed, Restored, Retention, Saved, Saving, Trigger};
use crate::stdx::{Clock, chain};
use crate::storage::sqlite::Halt;
use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// So much of a cluster's hash tells clusters apart.
const CLUSTER_DIGITS: usize = 12;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Configuration file of the server [default: /etc/kinglet/config.yaml]
    #[arg(long, short = 'c', global = true, env = "KINGLET_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Where the server keeps everything that has to last
    #[arg(
        long,
        short = 'd',
        global = true,
        env = "KINGLET_DATA_DIR",
        default_value = "/var/lib/kinglet"
    )]
    data_dir: PathBuf,
    /// Where backups are [default: server/backups in the data directory]
    #[arg(long, global = true, env = "KINGLET_BACKUP_DIR", value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// Name of this node [default: the host's name]
    #[arg(long, global = true, env = "KINGLET_NODE_NAME")]
    node_name: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a backup, whether a server runs or not
    Save,
    /// List the backups
    Ls {
        #[arg(long, short = 'o', value_enum, default_value = "table")]
        output: Output,
    },
    /// Remove the oldest backups of each server
    Prune {
        /// So many are kept
        #[arg(long, value_name = "N")]
        keep: usize,
    },
    /// Make this machine the server of a backup; no server may run on the data directory
    Restore {
        /// The file, or its name in the directory of backups
        file: PathBuf,
        /// Replace the cluster that is there; it is kept beside
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let data_dir = absolute(&args.data_dir)?;
    let layout = Layout::of(&data_dir);
    let directory = match &args.backup_dir {
        Some(directory) => absolute(directory)?,
        None => layout.backups(),
    };
    let now = Clock::system().now();
    let text = match args.action {
        Action::Save => {
            let node = args.node_name.map_or_else(host_name, Ok)?;
            let server = layout.server();
            backup::be_nice();
            let saving = Saving { server, directory, node, trigger: Trigger::Command };
            told(&backup::save(&saving, now, &Halt::default())?)
        }
        Action::Ls { output: Output::Table } => table(&backup::list(&directory)?),
        Action::Ls { output: Output::Json } => {
            format!("{:#}\n", Value::from_iter(backup::list(&directory)?.iter().map(described)))
        }
        Action::Prune { keep } => {
            let removed = backup::prune(&directory, Retention { keep, scheduled_only: false })?;
            removed.iter().map(|name| format!("{name}: removed\n")).collect()
        }
        Action::Restore { file, force } => {
            let existing = if force { Existing::KeepBeside } else { Existing::Refuse };
            let file = find(&file, &directory)?;
            restored(&backup::restore(&file, &data_dir, existing, now)?, &data_dir)
        }
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A file that is there, or that is one of the directory's.
fn find(file: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let kept = directory.join(file);
    match [absolute(file)?, kept].into_iter().find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => bail!("{} is not there, and not in {}", file.display(), directory.display()),
    }
}

fn told(saved: &Saved) -> String {
    let Saved { path, bytes, head } = saved;
    let (path, size, store) = (path.display(), megabytes(*bytes), &head.store);
    format!("{path}\n{size}, {} objects at revision {}\n", store.objects, store.revision)
}

fn restored(restored: &Restored, data_dir: &Path) -> String {
    let Restored { head, kept, last } = restored;
    let mut text = format!(
        "{} is node {} of {}: {} objects, which go on after revision {last}\n",
        data_dir.display(),
        head.node,
        head.taken,
        head.store.objects
    );
    if let Some(kept) = kept {
        text.push_str(&format!("what was there is in {}\n", kept.display()));
    }
    text.push_str("start the server now\n");
    text
}

fn name(listed: &Listed) -> String {
    listed.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn described(listed: &Listed) -> Value {
    let mut value = match &listed.head {
        Ok(head) => json!({
            "cluster": head.cluster,
            "node": head.node,
            "taken": head.taken.to_string(),
            "trigger": head.trigger,
            "kinglet": head.kinglet,
            "store": head.store,
        }),
        Err(error) => json!({"error": chain(error)}),
    };
    value["name"] = name(listed).into();
    value["path"] = listed.path.to_string_lossy().into();
    value["bytes"] = listed.bytes.into();
    value
}

fn table(all: &[Listed]) -> String {
    let head = ["NAME", "NODE", "TAKEN", "BY", "SIZE", "OBJECTS", "CLUSTER", "KINGLET"];
    let mut rows = vec![head.map(str::to_owned)];
    let mut unreadable = String::new();
    for listed in all {
        match &listed.head {
            Ok(head) => rows.push([
                name(listed),
                head.node.clone(),
                moment(head.taken),
                match head.trigger {
                    Trigger::Command => "command".to_owned(),
                    Trigger::Schedule => "schedule".to_owned(),
                },
                megabytes(listed.bytes),
                head.store.objects.to_string(),
                head.cluster.chars().take(CLUSTER_DIGITS).collect(),
                head.kinglet.clone(),
            ]),
            Err(error) => {
                unreadable.push_str(&format!("{}: {}\n", name(listed), chain(error)));
            }
        }
    }
    columns(&rows) + &unreadable
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::backup::{BadBackup, Head, StoreFacts};
    use clap::Parser as _;

    fn listed(name: &str, is_good: bool) -> Listed {
        let head = Head {
            format: 1,
            kinglet: "0.1.0".to_owned(),
            cluster: "0123456789abcdef".to_owned(),
            node: "one".to_owned(),
            taken: "2026-11-22T18:00:00.5Z".parse().unwrap(),
            trigger: Trigger::Schedule,
            store: StoreFacts { schema: 1, revision: 7, reserved: 9, objects: 3 },
            members: Vec::new(),
        };
        let head = if is_good { Ok(head) } else { Err(BadBackup::Foreign) };
        Listed { path: Path::new("/backups").join(name), bytes: 12_345, head }
    }

    #[test]
    fn backups_are_listed() {
        let text = table(&[listed("kinglet-one-1.tar.zst", true), listed("odd", false)]);
        let expected = "\
NAME                    NODE   TAKEN                  BY         SIZE    OBJECTS   CLUSTER        KINGLET
kinglet-one-1.tar.zst   one    2026-11-22T18:00:00Z   schedule   13 kB   3         0123456789ab   0.1.0
odd: it is no backup that kinglet has made
";
        assert_eq!(text, expected);
    }

    #[test]
    fn scripts_are_told_everything() {
        let value = described(&listed("a", true));
        assert_eq!(
            (&value["path"], &value["store"]["revision"]),
            (&"/backups/a".into(), &7.into())
        );
        assert_eq!((&value["trigger"], &value["bytes"]), (&"schedule".into(), &12_345.into()));
        let value = described(&listed("a", false));
        assert_eq!(value["error"], "it is no backup that kinglet has made");
    }

    #[test]
    fn where_backups_are_is_said_before_or_behind_what_is_done() {
        for words in [["--backup-dir", "/b", "save"], ["save", "--backup-dir", "/b"]] {
            let words = ["kinglet", "backup"].iter().chain(&words);
            let parsed = crate::cli::Cli::try_parse_from(words).unwrap();
            let crate::cli::Command::Backup(args) = parsed.command else { panic!("no backup") };
            assert_eq!(args.backup_dir.as_deref(), Some(Path::new("/b")));
        }
    }
}
