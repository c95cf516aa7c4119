//! Takes away all that a data directory, its pods and its server have left on this host.
//!
//! Start at [`purge`]. Nothing is removed that was not made by this data directory: not the logs of
//! other pods, not a kubeconfig of another cluster, not a directory that is no data directory.

use super::config::Layout;
use super::removal::{gone, remove_everything};
use crate::client::Kubeconfig;
use crate::sys::mount;
use anyhow::{Context as _, bail};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tracing::info;

/// Where a server or an agent has its things. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub data_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    /// The administrator's, where this is a server.
    pub kubeconfig: Option<PathBuf>,
}

/// Parts that only a data directory has. One without any of them is somebody else's.
const PARTS: [&str; 3] = ["server/tls", "server/db", "agent"];

/// Removes the pods with all they have, their logs, the data directory and the kubeconfig. Succeeds
/// where there is nothing.
///
/// # Errors
/// Where a server runs on the directory, the directory is not one of kinglet's, something foreign is
/// mounted in it, or the kernel refuses; what is left can be removed by another call.
pub fn purge(places: &Places) -> anyhow::Result<()> {
    let Places { data_dir, pod_logs_dir, kubeconfig } = places;
    let is_empty = gone_or(fs::read_dir(data_dir).map(|mut it| it.next().is_none()), true)?;
    if !is_empty && !PARTS.iter().any(|part| data_dir.join(part).exists()) {
        bail!("{} is no data directory of kinglet: nothing is removed", data_dir.display());
    }
    let pods = pods(&Layout::of(data_dir).agent().join("pods"))?;
    remove_everything(data_dir)?;
    remove_logs(pod_logs_dir, &pods)
        .with_context(|| format!("removing logs of pods in {}", pod_logs_dir.display()))?;
    // By what is in the data directory, which is therefore still there.
    if let Some(kubeconfig) = kubeconfig.as_deref().filter(|it| is_of(it, data_dir)) {
        gone(fs::remove_file(kubeconfig))
            .with_context(|| format!("removing {}", kubeconfig.display()))?;
        info!("removed {}", kubeconfig.display());
    }
    remove_data(data_dir)
}

/// The pods that this node has or had: each has a directory until its logs are gone.
fn pods(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut pods = BTreeSet::new();
    let Some(entries) = gone_or(fs::read_dir(directory).map(Some), None)? else { return Ok(pods) };
    for entry in entries {
        pods.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(pods)
}

/// What `<namespace>_<name>_<uid>` says of whose logs these are.
fn uid_of(name: &OsStr) -> Option<&str> {
    name.to_str()?.rsplit_once('_').map(|(_, uid)| uid)
}

fn remove_logs(directory: &Path, pods: &BTreeSet<String>) -> io::Result<()> {
    let Some(entries) = gone_or(fs::read_dir(directory).map(Some), None)? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if uid_of(&entry.file_name()).is_some_and(|uid| pods.contains(uid)) {
            gone(fs::remove_dir_all(entry.path()))?;
        }
    }
    remove_if_empty(directory)
}

/// Whether a kubeconfig leads to the server of this data directory: both name one authority.
fn is_of(kubeconfig: &Path, data_dir: &Path) -> bool {
    let own = fs::read(Layout::of(data_dir).tls().join("server-ca.crt"));
    let named = Kubeconfig::read(kubeconfig).map(|it| it.certificate_authority);
    match (own, named) {
        (Ok(own), Ok(named)) => own.trim_ascii() == named.trim_ascii(),
        _ => false,
    }
}

/// The directory itself stays where it is the place of a mount, as of a disk of its own.
fn remove_data(data_dir: &Path) -> anyhow::Result<()> {
    let Some(real) = gone_or(fs::canonicalize(data_dir).map(Some), None)? else { return Ok(()) };
    let mounted = mount::mounted().context("reading what is mounted")?;
    let foreign = mounted.iter().find(|it| it.target != real && it.target.starts_with(&real));
    if let Some(foreign) = foreign {
        let place = foreign.target.display();
        bail!("something is mounted at {place}: unmount it first, it would be emptied");
    }
    let removing = || format!("removing {}", data_dir.display());
    for entry in fs::read_dir(&real).with_context(removing)? {
        let entry = entry.with_context(removing)?;
        let is_directory = entry.file_type().with_context(removing)?.is_dir();
        let path = entry.path();
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone(removed).with_context(|| format!("removing {}", path.display()))?;
    }
    info!("removed {}", data_dir.display());
    remove_if_empty(&real).with_context(removing)?;
    match fs::symlink_metadata(data_dir) {
        Ok(facts) if facts.is_symlink() => gone(fs::remove_file(data_dir)).with_context(removing),
        _ => Ok(()),
    }
}

/// What others have something in stays.
fn remove_if_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// `otherwise` where there is no such file.
fn gone_or<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(otherwise),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Pki, Subject, kubeconfig};
    use crate::stdx::Clock;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A data directory that has had a server, without anything of a node: its pods are the node
    /// tests' business. Returns its administrator's kubeconfig.
    fn server(data_dir: &Path) -> String {
        let now = Clock::system().now();
        let pki = Pki::open(&data_dir.join("server/tls"), now).unwrap();
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        let admin = pki.client("client-admin", subject, now).unwrap();
        write(&data_dir.join("storage/pvc-1/data"), "1");
        kubeconfig("https://192.0.2.1:6443", pki.server_ca(), &admin)
    }

    #[test]
    fn a_server_leaves_nothing_and_takes_nothing_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (own, other) = (server(&path("data")), server(&path("other")));
        write(&path("own.yaml"), &own);
        write(&path("other.yaml"), &other);
        let places = |kubeconfig| Places {
            data_dir: path("data"),
            pod_logs_dir: path("logs"),
            kubeconfig: Some(path(kubeconfig)),
        };
        purge(&places("other.yaml")).unwrap();
        assert!(path("other.yaml").exists() && !path("data").exists());
        let own = server(&path("data"));
        write(&path("own.yaml"), &own);
        purge(&places("own.yaml")).unwrap();
        assert!(!path("own.yaml").exists() && !path("data").exists() && path("other").exists());
        // Once more is no error.
        purge(&places("own.yaml")).unwrap();
    }

    #[test]
    fn only_logs_of_own_pods_go() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        write(&logs.join("default_web_1234/web/0.log"), "");
        write(&logs.join("default_web_5678/web/0.log"), "");
        remove_logs(&logs, &BTreeSet::from(["1234".to_owned()])).unwrap();
        assert!(!logs.join("default_web_1234").exists() && logs.join("default_web_5678").exists());
        remove_logs(&logs, &BTreeSet::from(["5678".to_owned()])).unwrap();
        assert!(!logs.exists());
    }

    #[test]
    fn a_directory_of_somebody_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("photos/1.jpg"), "");
        let places = Places {
            data_dir: directory.path().to_owned(),
            pod_logs_dir: directory.path().join("logs"),
            kubeconfig: None,
        };
        let error = purge(&places).unwrap_err().to_string();
        assert!(error.contains("is no data directory of kinglet"), "{error}");
        assert!(directory.path().join("photos/1.jpg").exists());
    }

    #[test]
    fn a_link_goes_with_what_it_leads_to() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("disk"), directory.path().join("data"));
        server(&real);
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let pod_logs_dir = directory.path().join("logs");
        purge(&Places { data_dir: link.clone(), pod_logs_dir, kubeconfig: None }).unwrap();
        assert!(fs::symlink_metadata(&link).is_err() && !real.exists());
    }
}
