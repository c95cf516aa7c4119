//! Pods that are run from files of this node, whether or not there is an API server.
//!
//! Start at [`StaticPods`]; [`render`] makes pods of manifests. The API shows each as a mirror: a
//! pod of its own, which nobody runs. Its status is that of the static pod, which has a uid of its
//! own that changes with its file.

mod render;

pub(super) use render::{is_static, mirrored};

use crate::stdx::{Backoff, blocking, chain, hex};
use crate::sys::directory_watch::DirectoryWatch;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use render::Manifest;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::warn;

/// A manifest is not read any further.
const MANIFEST_BYTES_MAX: u64 = 3 << 20;

/// Who writes several files is read once: changes are looked at so much after the first.
const SETTLE: Duration = Duration::from_millis(100);

const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// The static pods of this node, by uid.
#[derive(Debug)]
pub(super) struct StaticPods {
    directory: PathBuf,
    node: String,
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// What was reported of them last, whether or not there is an API server.
    statuses: Mutex<BTreeMap<String, PodStatus>>,
}

impl StaticPods {
    /// Those whose manifests are in `directory` now.
    ///
    /// # Errors
    /// Where the directory cannot be made or read: it is not known then what is to run.
    pub(super) fn load(directory: PathBuf, node: &str) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let pods = read(&directory, node)?;
        let (node, pods, statuses) = (node.to_owned(), Mutex::new(pods), Mutex::default());
        Ok(Self { directory, node, pods, statuses })
    }

    pub(super) fn get(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods.lock().expect("no panics under this lock").get(uid).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<Pod>> {
        self.pods.lock().expect("no panics under this lock").values().cloned().collect()
    }

    /// As [`StaticPods::list`], each with what was reported of it last.
    pub(super) fn list_with_status(&self) -> Vec<Arc<Pod>> {
        let statuses = self.statuses.lock().expect("no panics under this lock");
        let with_status = |object: Arc<Pod>| {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            match statuses.get(uid) {
                Some(status) => {
                    Arc::new(Pod { status: Some(status.clone()), ..Pod::clone(&object) })
                }
                None => object,
            }
        };
        self.list().into_iter().map(with_status).collect()
    }

    /// Notes what is reported of a static pod.
    pub(super) fn note_status(&self, uid: &str, status: &PodStatus) {
        let mut statuses = self.statuses.lock().expect("no panics under this lock");
        statuses.insert(uid.to_owned(), status.clone());
    }

    /// Nothing is left of the pod.
    pub(super) fn forget(&self, uid: &str) {
        self.statuses.lock().expect("no panics under this lock").remove(uid);
    }

    /// What is to stand in the API for a static pod.
    pub(super) fn mirror(pod: &Pod, node: &Node) -> Pod {
        render::mirror(pod, node)
    }

    /// Follows the directory for as long as it is asked to. `ring` has a pod looked at.
    pub(super) async fn follow(&self, ring: impl Fn(&str)) {
        let mut failures = 0;
        loop {
            let Err(error) = self.follow_once(&ring).await;
            failures += 1;
            let directory = self.directory.display();
            warn!(%directory, error = chain(&error), "cannot follow the manifests of static pods");
            tokio::time::sleep(RETRY.delay(failures)).await;
        }
    }

    async fn follow_once(&self, ring: &impl Fn(&str)) -> io::Result<std::convert::Infallible> {
        let watch = DirectoryWatch::open(&self.directory)?;
        loop {
            self.look(ring).await?;
            watch.changed().await?;
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn look(&self, ring: &impl Fn(&str)) -> io::Result<()> {
        let (directory, node) = (self.directory.clone(), self.node.clone());
        let now = blocking(move || read(&directory, &node)).await?;
        let before = {
            let mut pods = self.pods.lock().expect("no panics under this lock");
            std::mem::replace(&mut *pods, now.clone())
        };
        let came = now.keys().filter(|uid| !before.contains_key(*uid));
        let went = before.keys().filter(|uid| !now.contains_key(*uid));
        came.chain(went).for_each(|uid| ring(uid));
        Ok(())
    }
}

/// Hidden files are those that somebody is writing.
fn read(directory: &Path, node: &str) -> io::Result<BTreeMap<String, Arc<Pod>>> {
    let mut pods = BTreeMap::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_manifest = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if is_manifest && !name.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        match read_one(&path, node) {
            Ok(pod) => {
                pods.insert(pod.metadata.uid.clone().unwrap_or_default(), Arc::new(pod));
            }
            Err(why) => warn!(path = %path.display(), why, "a static pod is left out"),
        }
    }
    Ok(pods)
}

fn read_one(path: &Path, node: &str) -> Result<Pod, String> {
    let facts = fs::metadata(path).map_err(|error| error.to_string())?;
    if facts.len() > MANIFEST_BYTES_MAX {
        return Err(format!("it has more than {MANIFEST_BYTES_MAX} bytes"));
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let seen = facts.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    let seen = seen.unwrap_or(Timestamp::UNIX_EPOCH).to_string();
    let whole = [node.as_bytes(), path.as_os_str().as_encoded_bytes(), &text].join(&0);
    let uid = hex(&digest(&SHA256, &whole).as_ref()[..16]);
    render::pod(Manifest { text: &text, uid: &uid, seen: &seen }, node)
}
