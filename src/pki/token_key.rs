//! The key that tokens of service accounts are signed with.
//!
//! Made on the first start and kept as `service.key`, as k3s has it. RSA with 2,048 bits: whoever
//! takes part in OpenID Connect has to understand RS256, and not everybody understands more. A key
//! for ECDSA P-256 that somebody has put there serves as well.

use super::{PkiError, read, write};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};
use std::fmt;
use std::path::Path;

const FILE: &str = "service.key";

/// A private key, and the name by which tokens say that they are signed with it.
#[derive(Clone)]
pub struct TokenKey {
    pem: String,
    id: String,
    algorithm: TokenAlgorithm,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// RSA and SHA-256.
    Rs256,
    /// ECDSA on P-256 and SHA-256.
    Es256,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Reads the key, or makes it on the first start, which takes a part of a second.
    ///
    /// # Errors
    /// Where it cannot be read or written, or is damaged: it is never replaced by itself, because
    /// every token that was signed with it would be worth nothing then.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let path = directory.join(FILE);
        if let Some(pem) = read(&path)? {
            return Self::parse(pem).map_err(|why| PkiError::DamagedKey { path, why });
        }
        let make = |source| PkiError::Make { name: FILE.to_owned(), source };
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048);
        let pem = key.map_err(make)?.serialize_pem();
        let key =
            Self::parse(pem).map_err(|why| PkiError::DamagedKey { path: path.clone(), why })?;
        write(&path, &key.pem, 0o600)?;
        Ok(key)
    }

    /// A key that lasts as long as the process, made at once.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn ephemeral() -> Result<Self, PkiError> {
        let make = |source| PkiError::Make { name: FILE.to_owned(), source };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make)?;
        Self::parse(key.serialize_pem())
            .map_err(|why| PkiError::DamagedKey { path: FILE.into(), why })
    }

    fn parse(pem: String) -> Result<Self, String> {
        let key = KeyPair::from_pem(&pem).map_err(|error| error.to_string())?;
        let algorithm = match key.algorithm() {
            algorithm if *algorithm == rcgen::PKCS_RSA_SHA256 => TokenAlgorithm::Rs256,
            algorithm if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 => TokenAlgorithm::Es256,
            _ => return Err("it is neither for RSA nor for ECDSA P-256".to_owned()),
        };
        // Upstream `keyIDFromPublicKey` (pkg/serviceaccount/jwt.go, v1.35).
        let hash = digest(&SHA256, &key.subject_public_key_info());
        let id = BASE64_URL_SAFE_NO_PAD.encode(hash);
        Ok(Self { pem, id, algorithm })
    }

    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_lasts_over_restarts_and_is_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = TokenKey::open(directory.path()).unwrap();
        assert_eq!(first.algorithm(), TokenAlgorithm::Rs256);
        assert_eq!(TokenKey::open(directory.path()).unwrap().id(), first.id());
        let path = directory.path().join(FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "garbage").unwrap();
        let error = TokenKey::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "garbage");
    }
}
