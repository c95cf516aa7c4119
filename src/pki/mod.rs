//! The cluster's certificates: authorities, leaves, and the kubeconfigs made of them.
//!
//! Start at [`Pki::open`]. Made on the first start and kept in `server/tls` under the names that
//! k3s's users know. An authority is never replaced by itself: everybody trusts it. A leaf is made
//! anew whenever it is damaged, foreign, lacks a name or comes near its end, which needs nobody's
//! trust but the authority's. Keys are ECDSA P-256, in files of mode 0600.

mod any_server;
mod authority;
mod der;
mod foreign;
mod inventory;
mod issue;
mod join_token;
mod kubeconfig;
mod leaf;
mod node_key;
mod request;
mod subject;
mod tls;
mod token_key;
mod trust;
mod untimely;
mod wireguard_key;

pub use any_server::AnyServer;
pub use foreign::{CertifiedKey, certified_key, names_in, self_signed};
pub use inventory::{Held, HeldFacts, discard_leaves, inventory, not_after};
pub use issue::{IssueError, Issuer, Terms, Usage};
pub use join_token::{AuthorityHash, BadToken, BootstrapToken, JoinToken};
pub use kubeconfig::kubeconfig;
pub use leaf::{Leaf, Purpose};
pub use node_key::NodeKey;
pub use request::{BadRequest, CertificateRequest};
pub use subject::{BadCertificate, CertificateUser};
pub use tls::{Acceptor, ClientProof, ServerTls, TlsError};
pub use token_key::{TOKEN_KEY_FILE, TokenAlgorithm, TokenKey};
pub use trust::trusted_by_default;
pub use untimely::Untimely;
pub use wireguard_key::WireGuardKey;

use authority::Authority;
use jiff::Timestamp;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The certificates of a cluster.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    server: Arc<Authority>,
    client: Arc<Authority>,
}

/// Why a certificate cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Of an authority only: the rest is made anew.
    #[error(
        "{} is not a usable certificate authority: {why}; restore it from a backup, or remove {} to \
         begin with new authorities, which every client then has to learn", path.display(),
        directory.display()
    )]
    Damaged { path: PathBuf, directory: PathBuf, why: String },
    #[error(
        "{} is good from {begin} to {end}, and the clock of this machine says that it is {now}: if \
         the clock is right, the certificate has to be replaced, which every client then has to \
         learn; if not, set the clock", path.display()
    )]
    Untimely { path: PathBuf, begin: Timestamp, end: Timestamp, now: Timestamp },
    #[error(
        "{} is not a usable key: {why}; restore it from a backup, or remove it, and every token that \
         was signed with it is worth nothing", path.display()
    )]
    DamagedKey { path: PathBuf, why: String },
    #[error(
        "{} has {keys_max} keys already: remove the last of them, with which the oldest tokens were \
         signed", path.display()
    )]
    TooManyKeys { path: PathBuf, keys_max: usize },
    #[error(
        "{} is not a key: {why}; it is what this machine is known by: restore it, or remove it and \
         delete the Node object, and the machine can join again", path.display()
    )]
    DamagedNodeKey { path: PathBuf, why: String },
    #[error(
        "{} is not a key of WireGuard: {why}; remove it, and this node gets a new one, which the \
         others are told", path.display()
    )]
    DamagedWireGuardKey { path: PathBuf, why: String },
    #[error("failed to make {name}")]
    Make {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("failed to make {name}")]
    Issue {
        name: String,
        #[source]
        source: IssueError,
    },
}

/// Whom a client certificate speaks for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub user: &'a str,
    pub groups: &'a [&'a str],
}

impl Pki {
    /// Reads the authorities, or makes them on the first start.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or an authority is damaged.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        fs::create_dir_all(directory)
            .map_err(|source| PkiError::Write { path: directory.to_owned(), source })?;
        Ok(Self {
            directory: directory.to_owned(),
            server: Arc::new(Authority::open(directory, "server-ca", now)?),
            client: Arc::new(Authority::open(directory, "client-ca", now)?),
        })
    }

    /// The certificate that the API server shows, good for all of `names`: host names and
    /// addresses.
    ///
    /// # Errors
    /// Where it cannot be read, made or written.
    pub fn serving(&self, names: &[String], now: Timestamp) -> Result<Leaf, PkiError> {
        let file = "serving-kube-apiserver";
        leaf::open(&self.directory, file, &self.server, &Purpose::Server { names }, now)
    }

    /// The certificate that a kubelet shows, good for all of `names`.
    ///
    /// # Errors
    /// Where it cannot be read, made or written.
    pub fn serving_kubelet(&self, names: &[String], now: Timestamp) -> Result<Leaf, PkiError> {
        leaf::open(
            &self.directory,
            "serving-kubelet",
            &self.server,
            &Purpose::Server { names },
            now,
        )
    }

    /// A client certificate, kept under the name `file`.
    ///
    /// # Errors
    /// Where it cannot be read, made or written.
    pub fn client(
        &self,
        file: &str,
        subject: Subject<'_>,
        now: Timestamp,
    ) -> Result<Leaf, PkiError> {
        leaf::open(&self.directory, file, &self.client, &Purpose::Client(subject), now)
    }

    /// Makes certificates that the API server believes.
    #[must_use]
    pub fn client_issuer(&self) -> Issuer {
        Issuer(Arc::clone(&self.client))
    }

    /// Makes certificates that clients of servers trust.
    #[must_use]
    pub fn server_issuer(&self) -> Issuer {
        Issuer(Arc::clone(&self.server))
    }

    /// Whom clients trust, as PEM.
    #[must_use]
    pub fn server_ca(&self) -> &str {
        self.server.certificate()
    }

    /// Whose client certificates the API server believes, as PEM.
    #[must_use]
    pub fn client_ca(&self) -> &str {
        self.client.certificate()
    }
}

/// Reads a file; `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Not text: as good as damaged, and told as such by whoever parses it.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(source) => Err(PkiError::Read { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    crate::stdx::write_atomically(path, text.as_bytes(), mode)
        .map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const DAY_SECONDS: i64 = 24 * 60 * 60;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + number * DAY_SECONDS).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn certificates_last_over_restarts_and_are_renewed_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let serving = |names: &[String], now| {
            Pki::open(directory.path(), now).unwrap().serving(names, now).unwrap().certificate
        };
        let two = names(&["kubernetes", "192.0.2.1"]);
        let first = serving(&two, day(0));
        assert_eq!(serving(&two, day(1)), first);
        assert_eq!(serving(&two[..1], day(1)), first, "more names than needed do no harm");
        let renewed = serving(&two, day(300));
        assert_ne!(renewed, first);
        let three = names(&["kubernetes", "192.0.2.1", "edge.example"]);
        assert_ne!(serving(&three, day(301)), renewed);
    }

    #[test]
    fn an_authority_outside_its_time_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Pki::open(directory.path(), day(0)).unwrap();
        let open = |now| Pki::open(directory.path(), now).map(drop);
        open(day(3_640)).unwrap();
        for now in [day(-1), day(3_660)] {
            let error = open(now).unwrap_err().to_string();
            let clock = format!("the clock of this machine says that it is {now}");
            assert!(error.contains("server-ca.crt") && error.contains(&clock), "{error}");
        }
    }

    #[test]
    fn a_leaf_is_due_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), day(0)).unwrap();
        let leaf = pki.serving(&names(&["a"]), day(0)).unwrap();
        assert_eq!(leaf.due(), day(245));
        let same = pki.serving(&names(&["a"]), day(244)).unwrap();
        assert_eq!(same.certificate, leaf.certificate);
        let renewed = pki.serving(&names(&["a"]), leaf.due()).unwrap();
        assert_ne!(renewed.certificate, leaf.certificate);
    }

    #[test]
    fn keys_are_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), day(0)).unwrap();
        pki.serving(&names(&["a"]), day(0)).unwrap();
        let files: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
        assert_eq!(files.len(), 6);
        for file in files.iter().filter(|file| file.path().extension().unwrap() == "key") {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }

    #[test]
    fn a_damaged_authority_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        Pki::open(directory.path(), day(0)).unwrap();
        for name in ["server-ca.crt", "client-ca.key"] {
            let path = directory.path().join(name);
            let good = fs::read(&path).unwrap();
            fs::write(&path, b"\xffgarbage").unwrap();
            let error = Pki::open(directory.path(), day(0)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert_eq!(fs::read(&path).unwrap(), b"\xffgarbage");
            fs::write(&path, good).unwrap();
        }
        let foreign = tempfile::tempdir().unwrap();
        Pki::open(foreign.path(), day(0)).unwrap();
        let stolen = fs::read(foreign.path().join("server-ca.key")).unwrap();
        fs::write(directory.path().join("server-ca.key"), stolen).unwrap();
        let error = Pki::open(directory.path(), day(0)).unwrap_err().to_string();
        assert!(error.contains("does not belong"), "{error}");
    }

    #[test]
    fn a_damaged_or_foreign_leaf_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), day(0)).unwrap();
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        let first = pki.client("client-admin", subject, day(0)).unwrap();
        let path = directory.path().join("client-admin.crt");
        fs::write(&path, "garbage").unwrap();
        let second = pki.client("client-admin", subject, day(0)).unwrap();
        assert_ne!(second.certificate, first.certificate);
        let foreign = tempfile::tempdir().unwrap();
        let other = Pki::open(foreign.path(), day(0)).unwrap();
        let theirs = other.client("client-admin", subject, day(0)).unwrap();
        fs::write(&path, &theirs.certificate).unwrap();
        let third = pki.client("client-admin", subject, day(0)).unwrap();
        assert_ne!(third.certificate, theirs.certificate);
    }
}
