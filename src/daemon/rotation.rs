//! `kinglet certificate rotate`: certificates are thrown away, and a server that runs makes others.

use super::config::Layout;
use super::socket;
use super::tls_directory::TlsDirectory;
use crate::pki::{Held, TokenKey, discard_leaves, inventory};
use std::path::Path;
use std::time::Duration;

/// A running server that has not made new certificates after this long is not waited for.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(15);

/// Certificates that a running server always has; others it makes when it needs them.
const ALWAYS: [&str; 3] = ["client-admin", "serving-kube-apiserver", "serving-kubelet"];

/// What has become of certificates and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The certificates that were thrown away, by name.
    pub discarded: Vec<String>,
    /// The keys that tokens are believed by, where one was added.
    pub token_keys: Option<usize>,
    pub renewal: Renewal,
}

/// Who makes new certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The running server has.
    Done,
    /// A server runs, and has not yet: its log says why.
    Late,
    /// A server, when it starts.
    AtStart,
}

/// Throws every certificate of a data directory away that can be made anew, and adds a key for
/// tokens where that is asked for. Waits until a running server shows new ones.
///
/// # Errors
/// Where a file cannot be read, written or removed.
pub fn rotate_certificates(data_dir: &Path, with_token_key: bool) -> anyhow::Result<Rotated> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rotate(&Layout::of(data_dir), with_token_key))
}

async fn rotate(layout: &Layout, with_token_key: bool) -> anyhow::Result<Rotated> {
    let directory = layout.tls();
    // Before anything changes, so that nothing is missed.
    let files = TlsDirectory::watch(&directory);
    let is_running = socket::connect(&layout.socket()).await.is_some();
    let token_keys = match with_token_key {
        true => Some(TokenKey::add(&directory)?.len()),
        false => None,
    };
    let discarded = discard_leaves(&directory)?;
    let renewal = match is_running {
        false => Renewal::AtStart,
        true => {
            let renewed = wait_until_renewed(files, &directory);
            match tokio::time::timeout(RENEWAL_TIME_MAX, renewed).await {
                Ok(renewed) => renewed.map(|()| Renewal::Done)?,
                Err(_elapsed) => Renewal::Late,
            }
        }
    };
    Ok(Rotated { discarded, token_keys, renewal })
}

async fn wait_until_renewed(mut files: TlsDirectory, directory: &Path) -> anyhow::Result<()> {
    while !has_all(&inventory(directory)?) {
        files.changed(|_any| true).await;
    }
    Ok(())
}

fn has_all(held: &[Held]) -> bool {
    let is_there = |name: &&str| held.iter().any(|one| one.name == *name && one.facts.is_some());
    ALWAYS.iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Pki, Subject, TOKEN_KEY_FILE};
    use jiff::Timestamp;

    #[tokio::test]
    async fn without_a_server_new_ones_are_made_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::of(directory.path());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let pki = Pki::open(&layout.tls(), now).unwrap();
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        pki.client("client-admin", subject, now).unwrap();
        let rotated = rotate(&layout, false).await.unwrap();
        let discarded = vec!["client-admin".to_owned()];
        let expected = Rotated { discarded, token_keys: None, renewal: Renewal::AtStart };
        assert_eq!(rotated, expected);
        assert!(!layout.tls().join(TOKEN_KEY_FILE).exists());
        let keys = rotate(&layout, true).await.unwrap().token_keys;
        assert_eq!(keys, Some(2), "the first one is made, and another");
    }

    #[tokio::test]
    async fn new_ones_are_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let pki = Pki::open(directory.path(), now).unwrap();
        let names = ["one".to_owned()];
        let make = async {
            pki.serving(&names, now).unwrap();
            pki.serving_kubelet(&names, now).unwrap();
            tokio::task::yield_now().await;
            let subject = Subject { user: "system:admin", groups: &[] };
            pki.client("client-admin", subject, now).unwrap();
        };
        let files = TlsDirectory::watch(directory.path());
        let waited = tokio::time::timeout(RENEWAL_TIME_MAX, async {
            tokio::join!(wait_until_renewed(files, directory.path()), make).0
        });
        waited.await.unwrap().unwrap();
    }
}
