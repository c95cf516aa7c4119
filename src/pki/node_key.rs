//! The key of a machine that has joined: what its certificates are asked for with, and what guards its
//! name.

use super::{Leaf, PkiError, Subject, read, write};
use crate::stdx::hex;
use aws_lc_rs::digest;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A name under which no certificate is asked for, only shown until one has come.
const NOBODY: &str = "kinglet";

/// See the module.
pub struct NodeKey {
    path: PathBuf,
    key: KeyPair,
}

/// Stands for a public key, in hexadecimal digits.
pub(super) fn fingerprint(public_key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, public_key);
    hex(hash.as_ref())
}

impl NodeKey {
    /// Reads the key in `directory`, or makes it on the first start.
    ///
    /// # Errors
    /// Where it cannot be read or written, or what is there is no key.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let path = directory.join("node.key");
        if let Some(pem) = read(&path)? {
            let key = KeyPair::from_pem(&pem).map_err(|error| PkiError::DamagedNodeKey {
                path: path.clone(),
                why: error.to_string(),
            })?;
            return Ok(Self { path, key });
        }
        fs::create_dir_all(directory)
            .map_err(|source| PkiError::Write { path: directory.to_owned(), source })?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        let key = key.map_err(|source| PkiError::Make { name: "node.key".to_owned(), source })?;
        write(&path, &key.serialize_pem(), 0o600)?;
        Ok(Self { path, key })
    }

    /// Stands for it where it is told: it is the same in each request made with it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key.subject_public_key_info())
    }

    /// The key itself, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A request for a certificate of `subject`, as PEM, that is good for servers of `names`: host
    /// names and addresses.
    ///
    /// # Errors
    /// Where a name cannot be in a certificate.
    pub fn request(&self, subject: Subject<'_>, names: &[String]) -> Result<String, PkiError> {
        let made = CertificateParams::new(names.to_vec()).and_then(|mut parameters| {
            parameters.distinguished_name.push(DnType::CommonName, subject.user);
            for group in subject.groups {
                parameters.distinguished_name.push(DnType::OrganizationName, *group);
            }
            parameters.serialize_request(&self.key)?.pem()
        });
        made.map_err(|source| PkiError::Make { name: subject.user.to_owned(), source })
    }

    /// What a server of `names` can show that has no certificate of an authority yet.
    ///
    /// # Errors
    /// Where a name cannot be in a certificate.
    pub fn self_signed(&self, names: &[String]) -> Result<Leaf, PkiError> {
        let made = CertificateParams::new(names.to_vec()).and_then(|mut parameters| {
            parameters.distinguished_name.push(DnType::CommonName, NOBODY);
            parameters.self_signed(&self.key)
        });
        let made = made.map_err(|source| PkiError::Make { name: NOBODY.to_owned(), source })?;
        Ok(Leaf { certificate: made.pem(), key: self.pem() })
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodeKey").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::CertificateRequest;
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let key = NodeKey::open(directory.path()).unwrap();
        let again = NodeKey::open(directory.path()).unwrap();
        assert_eq!(key.fingerprint(), again.fingerprint());
        let subject = Subject { user: "system:node:a", groups: &["system:nodes"] };
        let names = ["a".to_owned(), "192.0.2.1".to_owned()];
        let parse = |pem: String| CertificateRequest::parse(pem.as_bytes()).unwrap();
        let client = parse(key.request(subject, &[]).unwrap());
        assert_eq!(client.common_name, "system:node:a");
        assert_eq!(client.organizations, ["system:nodes"]);
        assert_eq!(client.fingerprint(), key.fingerprint());
        assert_eq!(client.alternative_names, None);
        let serving = parse(again.request(subject, &names).unwrap());
        assert_eq!(serving.fingerprint(), key.fingerprint());
        assert_eq!(serving.dns_names, ["a"]);
        assert_eq!(serving.ip_addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(NodeKey::open(other.path()).unwrap().fingerprint(), key.fingerprint());
    }

    #[test]
    fn what_is_no_key_is_kept_and_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("node.key"), "garbage").unwrap();
        let error = NodeKey::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("node.key"), "{error}");
    }
}
