//! Images of a node for the command line: the same requests, whether a server runs or not.
//!
//! Start at [`open`]. A server has the image store to itself and answers on a socket in its run
//! directory; without one, the store is opened here and asked directly. An answer is a JSON
//! document a line: progress, and last what came of it.

use super::config::{Layout, NodeConfig};
use super::socket;
use crate::runtime::images::{
    DefaultEndpoint, Images, ImagesConfig, ImportSource, LayerProgress, Phase, Progress, Proxy,
};
use crate::runtime::{ImageStatus, RuntimeError};
use crate::stdx::http::{HttpService, Request, Response, full, streamed};
use crate::stdx::{Clock, chain};
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Lines that wait for a slow reader. Progress beyond that is left out: the next says more.
const LINES_QUEUED_MAX: usize = 64;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    Progress {
        layer: String,
        bytes: u64,
        total: u64,
        done: bool,
    },
    /// The last line where all went well.
    Images(Vec<Listed>),
    /// The last line otherwise.
    Error(String),
}

/// An image, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub id: String,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub size_bytes: u64,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    List,
    Import(PathBuf),
    Pull(String),
    Remove(String),
}

impl Command {
    /// The request that asks a server for it.
    #[must_use]
    pub fn to_request(&self) -> Request {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (method, path) = match self {
            Self::List => (Method::GET, "/images".to_owned()),
            Self::Import(path) => {
                (Method::POST, format!("/images/import?{}", escaped(&path.to_string_lossy())))
            }
            Self::Pull(reference) => (Method::POST, format!("/images/pull?{}", escaped(reference))),
            Self::Remove(reference) => (Method::DELETE, format!("/images?{}", escaped(reference))),
        };
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("the path is escaped");
        request
    }

    fn of_request(request: &Request) -> Option<Self> {
        let uri = request.uri();
        let argument = percent_decode_str(uri.query().unwrap_or_default()).decode_utf8_lossy();
        match (request.method(), uri.path()) {
            (&Method::GET, "/images") => Some(Self::List),
            (&Method::POST, "/images/import") => Some(Self::Import(argument.as_ref().into())),
            (&Method::POST, "/images/pull") => Some(Self::Pull(argument.into_owned())),
            (&Method::DELETE, "/images") => Some(Self::Remove(argument.into_owned())),
            _ => None,
        }
    }
}

/// The image store of a server.
pub(super) async fn open_store(config: &NodeConfig, clock: &Clock) -> anyhow::Result<Images> {
    open_images(&config.data_dir, &config.registries_file, clock).await.context("the image store")
}

pub(super) async fn open_images(
    data_dir: &Path,
    registries_file: &Path,
    clock: &Clock,
) -> Result<Images, RuntimeError> {
    let config = ImagesConfig {
        data_dir: data_dir.to_owned(),
        registries_file: registries_file.to_owned(),
        default_endpoint: DefaultEndpoint::Fallback,
        proxy: Proxy::from_environment(),
        clock: clock.clone(),
    };
    Images::open(config).await
}

/// The images of a data directory: by its running server, or else directly.
///
/// # Errors
/// Where neither will do.
pub async fn open(data_dir: &Path, registries_file: &Path) -> anyhow::Result<Arc<dyn HttpService>> {
    let socket = Layout::of(data_dir).socket();
    if let Some(server) = socket::connect(&socket).await {
        return Ok(server);
    }
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make {}", data_dir.display()))?;
    let images = open_images(data_dir, registries_file, &Clock::system()).await?;
    // No kubelet works with this store.
    Ok(service(images, watch::Sender::default()))
}

/// Answers for a store. `changed` is told when an image has come or gone.
#[must_use]
pub fn service(images: Images, changed: watch::Sender<()>) -> Arc<dyn HttpService> {
    Arc::new(ImagesService { images, changed })
}

#[derive(Clone, Debug)]
struct ImagesService {
    images: Images,
    changed: watch::Sender<()>,
}

impl HttpService for ImagesService {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let Some(command) = Command::of_request(&request) else {
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return async { Ok(response) }.boxed();
        };
        let (lines, received) = mpsc::channel(LINES_QUEUED_MAX);
        let work = answer(self.clone(), command, lines);
        async { Ok(Response::new(streamed(lines_of(received, work)))) }.boxed()
    }
}

/// The lines as they come, while the work goes on; a reader that goes away ends it.
fn lines_of(
    received: mpsc::Receiver<Line>,
    work: impl Future<Output = ()> + Send + 'static,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let state = (received, work.boxed().fuse());
    futures_util::stream::unfold(state, |(mut received, mut work)| async move {
        let line = loop {
            tokio::select! {
                biased;
                line = received.recv() => break line?,
                () = &mut work => {}
            }
        };
        let mut json = serde_json::to_vec(&line).expect("plain data serializes");
        json.push(b'\n');
        Some((Ok(Bytes::from(json)), (received, work)))
    })
}

async fn answer(service: ImagesService, command: Command, lines: mpsc::Sender<Line>) {
    let listener = lines.clone();
    let progress = Progress::to(move |layer| {
        // A line that finds no room is not missed: see `LINES_QUEUED_MAX`.
        listener.try_send(line_of(layer)).ok();
    });
    let only_looks = matches!(command, Command::List);
    let last = match carry_out(&service.images, command, &progress).await {
        Ok(statuses) => {
            if !only_looks {
                service.changed.send_replace(());
            }
            Line::Images(statuses.into_iter().map(listed).collect())
        }
        Err(message) => Line::Error(message),
    };
    // Nobody reads any more: nobody minds.
    lines.send(last).await.ok();
}

async fn carry_out(
    images: &Images,
    command: Command,
    progress: &Progress,
) -> Result<Vec<ImageStatus>, String> {
    match command {
        Command::List => Ok(images.list()),
        Command::Import(path) => {
            images.import(ImportSource::Path(path), progress).await.map_err(|error| chain(&error))
        }
        Command::Pull(reference) => {
            let pulled = images.pull(&reference, &[], progress).await;
            pulled.map(|status| vec![status]).map_err(|error| chain(&error))
        }
        Command::Remove(reference) => {
            let Some(found) = images.resolve(&reference) else {
                return Err(format!("no image {reference} is on this node"));
            };
            images.remove(&reference).await.map_err(|error| chain(&error))?;
            Ok(vec![found])
        }
    }
}

fn line_of(progress: &LayerProgress) -> Line {
    Line::Progress {
        layer: progress.layer.to_string(),
        bytes: progress.bytes,
        total: progress.total_bytes,
        done: matches!(progress.phase, Phase::Done | Phase::Present),
    }
}

fn listed(status: ImageStatus) -> Listed {
    Listed {
        id: status.id.0,
        tags: status.tags,
        digests: status.digests,
        size_bytes: status.size_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_any_argument() {
        for command in [
            Command::List,
            Command::Import("/tmp/a b&c?d#e%.tar".into()),
            Command::Pull("localhost:5000/a/b:1@sha256:00".to_owned()),
            Command::Remove("sha256:00".to_owned()),
        ] {
            let parsed = Command::of_request(&command.to_request()).unwrap();
            assert_eq!(format!("{parsed:?}"), format!("{command:?}"));
        }
    }
}
