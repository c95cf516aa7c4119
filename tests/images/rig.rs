//! A store in a directory of its own, and how to look into it.

use kinglet::runtime::images::{
    DefaultEndpoint, Images, ImagesConfig, ImportSource, LayerProgress, Phase, Progress, Proxy,
    Rootfs,
};
use kinglet::runtime::{ContainerId, Credentials, ImageId, ImageStatus, PullError, RuntimeError};
use kinglet::stdx::{Clock, chain};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Fails with what to do about it, instead of passing without having tested anything.
pub(crate) fn require_root() {
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root, "these tests make devices and mounts: run them as root (make test)");
}

/// A store below a temporary directory.
pub(crate) struct Rig {
    pub(crate) directory: Arc<tempfile::TempDir>,
    pub(crate) images: Images,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With a `registries.yaml`.
    pub(crate) async fn with(registries: &str) -> Self {
        require_root();
        let directory = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(directory.path().join("registries.yaml"), registries).unwrap();
        let images = open(directory.path()).await.unwrap();
        Self { directory, images }
    }

    /// Closes the store and opens it again, as another process would.
    pub(crate) async fn reopened(self) -> Self {
        let directory = Arc::clone(&self.directory);
        drop(self);
        let images = open(directory.path()).await.unwrap();
        Self { directory, images }
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<ImageStatus, PullError> {
        self.images.pull(reference, &[], &Progress::none()).await
    }

    pub(crate) async fn pull_as(
        &self,
        reference: &str,
        logins: &[(&str, &str)],
    ) -> Result<ImageStatus, PullError> {
        let credentials: Vec<_> = logins
            .iter()
            .map(|(username, password)| Credentials {
                username: (*username).to_owned(),
                password: (*password).to_owned(),
            })
            .collect();
        self.images.pull(reference, &credentials, &Progress::none()).await
    }

    pub(crate) async fn import(&self, archive: &[u8]) -> Result<Vec<ImageStatus>, String> {
        let reader = Box::new(std::io::Cursor::new(archive.to_vec()));
        let source = ImportSource::Reader { name: "test.tar".to_owned(), reader };
        let result = self.images.import(source, &Progress::none()).await;
        result.map_err(|error| chain(&error))
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// Everything in a directory of the store, by name.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(below)) else {
            return Vec::new();
        };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Unpacked layers.
    pub(crate) fn layers(&self) -> usize {
        self.names("agent/snapshots").len() - 2
    }

    pub(crate) fn blobs(&self) -> usize {
        self.names("agent/content/blobs/sha256").len()
    }

    /// Checks that nothing half done is left, once threads that nobody waits for have noticed.
    pub(crate) async fn assert_tidy(&self) {
        let new = || self.names("agent/snapshots/new");
        eventually("half unpacked layers are gone", || new().is_empty()).await;
        assert!(self.names("agent/content/partial").is_empty());
    }

    /// Checks that nothing at all is here.
    pub(crate) async fn assert_empty(&self) {
        self.assert_tidy().await;
        assert!(self.images.list().is_empty());
        assert_eq!((self.layers(), self.blobs()), (0, 0));
    }

    /// A container's root file system, mounted until it is dropped.
    pub(crate) async fn mounted(&self, image: &str, container: &str) -> Mounted {
        let container = ContainerId(container.to_owned());
        let image = ImageId(image.to_owned());
        let rootfs = self.images.prepare_rootfs(&image, &container).await.unwrap();
        let target = self.path(&format!("mnt-{container}"));
        std::fs::create_dir_all(&target).unwrap();
        rootfs.mount(&target).unwrap();
        Mounted { target }
    }
}

pub(crate) struct Mounted {
    pub(crate) target: PathBuf,
}

impl Mounted {
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.target.join(path)).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Rootfs::unmount(&self.target).unwrap();
    }
}

pub(crate) async fn open(directory: &Path) -> Result<Images, RuntimeError> {
    Images::open(ImagesConfig {
        data_dir: directory.to_path_buf(),
        registries_file: directory.join("registries.yaml"),
        default_endpoint: DefaultEndpoint::Fallback,
        proxy: Proxy::none(),
        clock: Clock::system(),
    })
    .await
}

/// Waits until something is so, and fails after a minute.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Duration::from_secs(60);
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(deadline, look).await.unwrap_or_else(|_| panic!("not so: {what}"));
}

/// Notes what is reported.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<LayerProgress>>>);

impl Recorder {
    pub(crate) fn progress(&self) -> Progress {
        let events = Arc::clone(&self.0);
        Progress::to(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub(crate) fn events(&self) -> Vec<LayerProgress> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, phase: Phase) -> usize {
        self.events().iter().filter(|event| event.phase == phase).count()
    }
}
