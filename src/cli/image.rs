//! `kinglet image`: the images of this node.

use crate::daemon::images::{self, Command, Line, Listed};
use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// A line of a server's answer is never longer.
const LINE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Args)]
struct Place {
    #[command(flatten)]
    data: super::node::DataDir,
    /// Mirrors and credentials of image registries, where no server runs
    #[arg(
        long,
        env = "KINGLET_PRIVATE_REGISTRY",
        default_value = "/etc/kinglet/registries.yaml",
        value_name = "FILE"
    )]
    private_registry: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Import all images of an OCI or docker archive
    Import {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Fetch an image from its registry
    Pull {
        reference: String,
        #[command(flatten)]
        place: Place,
    },
    /// List the images
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Remove an image, by name, digest or id
    Rm {
        reference: String,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (command, place) = match args.action {
        Action::Import { file, place } => (Command::Import(readable(&file)?), place),
        Action::Pull { reference, place } => (Command::Pull(reference), place),
        Action::Ls { place } => (Command::List, place),
        Action::Rm { reference, place } => (Command::Remove(reference), place),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let images = runtime.block_on(ask(&command, &place))?;
    super::print(&match command {
        Command::List => table(&images),
        _ => images.iter().map(|image| format!("{}\n", name(image))).collect(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The server may run in another directory.
fn readable(file: &PathBuf) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(file).with_context(|| format!("{} cannot be read", file.display()))
}

async fn ask(command: &Command, place: &Place) -> anyhow::Result<Vec<Listed>> {
    let data_dir = std::path::absolute(&place.data.data_dir)?;
    let images = images::open(&data_dir, &place.private_registry).await?;
    let response = images.call(command.to_request()).await.context("the server went away")?;
    let mut pieces = response.into_body().into_data_stream();
    let mut bars = Bars::new();
    let mut begun = Vec::new();
    while let Some(piece) = pieces.next().await {
        begun.extend_from_slice(&piece.context("the server went away")?);
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = begun.drain(..=end).collect();
            match serde_json::from_slice(&line)? {
                Line::Progress { layer, bytes, total, done } => {
                    bars.show(&layer, bytes, total, done);
                }
                Line::Images(images) => return Ok(images),
                Line::Error(message) => bail!(message),
            }
        }
        if begun.len() > LINE_BYTES_MAX {
            bail!("the server answers in a way that this version does not understand");
        }
    }
    bail!("the server went away before it was done")
}

/// A bar for each layer, where somebody looks.
struct Bars {
    all: Option<MultiProgress>,
    layers: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = io::stderr().is_terminal().then(MultiProgress::new);
        Self { all, layers: BTreeMap::new() }
    }

    fn show(&mut self, layer: &str, bytes: u64, total: u64, done: bool) {
        let Some(all) = &self.all else { return };
        let bar = self.layers.entry(layer.to_owned()).or_insert_with(|| {
            let short = layer.trim_start_matches("sha256:");
            let short = short.get(..12).unwrap_or(short);
            let style =
                ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {msg}");
            let style = style.expect("the template is well-formed");
            all.add(ProgressBar::new(total).with_style(style).with_prefix(short.to_owned()))
        });
        bar.set_length(total);
        bar.set_position(bytes);
        if done {
            bar.finish_with_message("done");
        }
    }
}

fn name(image: &Listed) -> &str {
    image.tags.first().or(image.digests.first()).unwrap_or(&image.id)
}

/// One line a name, as people know it from other tools.
fn table(images: &[Listed]) -> String {
    let mut rows = vec![["IMAGE", "ID", "SIZE"].map(str::to_owned)];
    for image in images {
        let id = image.id.trim_start_matches("sha256:");
        let id = id.get(..12).unwrap_or(id).to_owned();
        let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
        let unnamed = ["<none>".to_owned()];
        for name in if names.is_empty() { &unnamed[..] } else { &names[..] } {
            rows.push([name.clone(), id.clone(), megabytes(image.size_bytes)]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (names, ids) = (width(0), width(1));
    rows.iter().map(|[name, id, size]| format!("{name:names$}   {id:ids$}   {size}\n")).collect()
}

/// Registries count in powers of ten.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_all_their_names() {
        let image = |id: &str, tags: &[&str]| Listed {
            id: format!("sha256:{id}"),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: Vec::new(),
            size_bytes: 12_345_678,
        };
        let id = "0123456789abcdef";
        let expected = "IMAGE     ID             SIZE\n\
                        a:1       0123456789ab   12.3 MB\n\
                        long:22   0123456789ab   12.3 MB\n\
                        <none>    0123456789ab   12.3 MB\n";
        assert_eq!(table(&[image(id, &["a:1", "long:22"]), image(id, &[])]), expected);
    }
}
