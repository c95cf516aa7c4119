//! The keys that tokens of service accounts are signed with.
//!
//! The first is made on the first start and kept in `service.key`, as k3s has it. RSA with 2,048
//! bits: whoever takes part in OpenID Connect has to understand RS256, and not everybody understands
//! more. A key for ECDSA P-256 that somebody has put there serves as well. The file may hold several
//! keys, the newest first: new tokens are signed with that one, and those that were signed with
//! another of them stay good ([`TokenKey::add`]).

use super::{PkiError, read, write};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};
use std::fmt;
use std::path::Path;

/// In the directory of the certificates.
pub const TOKEN_KEY_FILE: &str = "service.key";

/// A key is not added to so many: whoever verifies tokens tries them one after the other.
const KEYS_MAX: usize = 16;

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
    /// Reads the keys, or makes the first one, which takes a part of a second. The newest is the
    /// first; there is at least one.
    ///
    /// # Errors
    /// Where they cannot be read or written, or one is damaged: it is never replaced by itself,
    /// because every token that was signed with it would be worth nothing then.
    pub fn open_all(directory: &Path) -> Result<Vec<Self>, PkiError> {
        let path = directory.join(TOKEN_KEY_FILE);
        if let Some(text) = read(&path)? {
            return parse_all(&text).map_err(|why| PkiError::DamagedKey { path, why });
        }
        let key = make(&path)?;
        write(&path, &key.pem, 0o600)?;
        Ok(vec![key])
    }

    /// Makes another key, with which tokens are signed from now on. Those before stay good for what
    /// was signed with them. Returns all.
    ///
    /// # Errors
    /// As [`TokenKey::open_all`], and where there are too many already.
    pub fn add(directory: &Path) -> Result<Vec<Self>, PkiError> {
        let path = directory.join(TOKEN_KEY_FILE);
        let mut keys = Self::open_all(directory)?;
        if keys.len() >= KEYS_MAX {
            return Err(PkiError::TooManyKeys { path, keys_max: KEYS_MAX });
        }
        keys.insert(0, make(&path)?);
        let text: String = keys.iter().map(|key| key.pem.as_str()).collect();
        write(&path, &text, 0o600)?;
        Ok(keys)
    }

    /// A key that lasts as long as the process, made at once.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn ephemeral() -> Result<Self, PkiError> {
        let make = |source| PkiError::Make { name: TOKEN_KEY_FILE.to_owned(), source };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make)?;
        Self::parse(key.serialize_pem())
            .map_err(|why| PkiError::DamagedKey { path: TOKEN_KEY_FILE.into(), why })
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

fn make(path: &Path) -> Result<TokenKey, PkiError> {
    let made = |source| PkiError::Make { name: TOKEN_KEY_FILE.to_owned(), source };
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048);
    let pem = key.map_err(made)?.serialize_pem();
    TokenKey::parse(pem).map_err(|why| PkiError::DamagedKey { path: path.to_owned(), why })
}

/// All private keys of a file, in its order.
fn parse_all(text: &str) -> Result<Vec<TokenKey>, String> {
    let mut keys = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines().map(str::trim_end) {
        if line.starts_with("-----BEGIN ") {
            block = line.ends_with("PRIVATE KEY-----").then(String::new);
        }
        if let Some(block) = &mut block {
            block.push_str(line);
            block.push('\n');
        }
        if line.starts_with("-----END ")
            && let Some(pem) = block.take()
        {
            keys.push(TokenKey::parse(pem)?);
        }
    }
    if keys.is_empty() { Err("there is no private key in it".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn ids(keys: &[TokenKey]) -> Vec<&str> {
        keys.iter().map(TokenKey::id).collect()
    }

    #[test]
    fn keys_last_over_restarts_and_are_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = TokenKey::open_all(directory.path()).unwrap();
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].algorithm(), TokenAlgorithm::Rs256);
        assert_eq!(ids(&TokenKey::open_all(directory.path()).unwrap()), ids(&first));
        let path = directory.path().join(TOKEN_KEY_FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "garbage").unwrap();
        let error = TokenKey::open_all(directory.path()).unwrap_err().to_string();
        assert!(error.contains(TOKEN_KEY_FILE), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "garbage");
    }

    #[test]
    fn the_newest_key_is_the_first_and_all_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TOKEN_KEY_FILE);
        // As somebody may have put one there, with something that is none before it.
        let given = TokenKey::ephemeral().unwrap();
        let text = format!(
            "-----BEGIN EC PARAMETERS-----\nBg==\n-----END EC PARAMETERS-----\n{}",
            given.pem()
        );
        std::fs::write(&path, text).unwrap();
        assert_eq!(ids(&TokenKey::open_all(directory.path()).unwrap()), [given.id()]);
        let two = TokenKey::add(directory.path()).unwrap();
        assert_eq!((two.len(), two[1].id()), (2, given.id()));
        assert_eq!(two[0].algorithm(), TokenAlgorithm::Rs256);
        assert_eq!(ids(&TokenKey::open_all(directory.path()).unwrap()), ids(&two));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, given.pem().repeat(KEYS_MAX)).unwrap();
        let error = TokenKey::add(directory.path()).unwrap_err().to_string();
        assert!(error.contains("16 keys"), "{error}");
    }
}
