//! The keys that tokens are signed with, as they are on the disk.

use super::tls_directory::TlsDirectory;
use crate::apiserver;
use crate::pki::{TOKEN_KEY_FILE, TokenKey};
use crate::stdx::blocking;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Gives the API server its keys, and the new ones when the file changes. To make the first takes a
/// part of a second, which nobody has to wait for who needs no token.
pub(super) async fn keep_token_keys(
    api: Arc<apiserver::Server>,
    directory: PathBuf,
    shutdown: CancellationToken,
) {
    let mut files = TlsDirectory::watch(&directory);
    let mut known = Vec::new();
    loop {
        let own = directory.clone();
        let opened = blocking(move || TokenKey::open_all(&own)).await.map_err(anyhow::Error::from);
        match opened.and_then(|keys| use_keys(&api, &keys, &mut known)) {
            Ok(()) => {}
            Err(error) => error!(error = format!("{error:#}"), "keys for tokens cannot be used"),
        }
        tokio::select! {
            () = files.changed(|name| name == TOKEN_KEY_FILE) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn use_keys(
    api: &apiserver::Server,
    keys: &[TokenKey],
    known: &mut Vec<String>,
) -> anyhow::Result<()> {
    let ids: Vec<_> = keys.iter().map(|key| key.id().to_owned()).collect();
    if ids != *known {
        api.use_token_keys(keys)?;
        info!(keys = ids.len(), newest = ids.first(), "tokens are signed with the newest key");
        *known = ids;
    }
    Ok(())
}
