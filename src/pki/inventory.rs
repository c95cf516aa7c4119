//! What certificates there are on the disk, for who looks after them.

use super::{PkiError, read};
use jiff::Timestamp;
use std::fs;
use std::path::Path;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

/// The keys of authorities are never thrown away.
const AUTHORITY_SUFFIX: &str = "-ca";

/// A certificate in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The file's name without its ending.
    pub name: String,
    pub is_authority: bool,
    /// Whose it is and until when it is good; `None` where it cannot be read.
    pub facts: Option<HeldFacts>,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFacts {
    pub subject: String,
    pub end: Timestamp,
}

/// The moment at which the first certificate of `pem` ends.
#[must_use]
pub fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = parse_x509_pem(pem).ok()?;
    let (_, certificate) = parse_x509_certificate(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// All certificates of a directory, by name.
///
/// # Errors
/// Where the directory or a file cannot be read.
pub fn inventory(directory: &Path) -> Result<Vec<Held>, PkiError> {
    let unreadable = |source| PkiError::Read { path: directory.to_owned(), source };
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_none_or(|ending| ending != "crt") {
            continue;
        }
        let text = read(&path)?.unwrap_or_default();
        let facts = facts(text.as_bytes());
        all.push(Held { is_authority: name.ends_with(AUTHORITY_SUFFIX), name, facts });
    }
    all.sort_by(|a, b| (b.is_authority, &a.name).cmp(&(a.is_authority, &b.name)));
    Ok(all)
}

fn facts(pem: &[u8]) -> Option<HeldFacts> {
    let (_, block) = parse_x509_pem(pem).ok()?;
    let (_, certificate) = parse_x509_certificate(&block.contents).ok()?;
    Some(HeldFacts { subject: certificate.subject().to_string(), end: not_after(pem)? })
}

/// Throws every certificate away that the authorities can make anew, with its key. Says which.
///
/// # Errors
/// Where one of them cannot be removed.
pub fn discard_leaves(directory: &Path) -> Result<Vec<String>, PkiError> {
    let mut discarded = Vec::new();
    for held in inventory(directory)?.into_iter().filter(|held| !held.is_authority) {
        // The certificate first: a key alone is never used.
        for ending in ["crt", "key"] {
            let path = directory.join(format!("{}.{ending}", held.name));
            match fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PkiError::Write { path, source });
                }
                _ => {}
            }
        }
        discarded.push(held.name);
    }
    Ok(discarded)
}

#[cfg(test)]
mod tests {
    use super::super::{Pki, Subject};
    use super::*;

    #[test]
    fn leaves_can_be_thrown_away_and_authorities_stay() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let pki = Pki::open(directory.path(), now).unwrap();
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        let first = pki.client("client-admin", subject, now).unwrap();
        fs::write(directory.path().join("odd.crt"), "garbage").unwrap();
        let names = |all: Vec<Held>| -> Vec<String> {
            all.into_iter().map(|held| format!("{} {}", held.name, held.facts.is_some())).collect()
        };
        let all = inventory(directory.path()).unwrap();
        assert_eq!(
            names(all),
            ["client-ca true", "server-ca true", "client-admin true", "odd false"]
        );
        assert_eq!(discard_leaves(directory.path()).unwrap(), ["client-admin", "odd"]);
        let all = inventory(directory.path()).unwrap();
        assert_eq!(names(all), ["client-ca true", "server-ca true"]);
        let second = pki.client("client-admin", subject, now).unwrap();
        assert_ne!(first.certificate, second.certificate);
    }
}
