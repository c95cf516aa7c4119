//! The key of a node's end of the tunnels to others: X25519, as WireGuard has it.
//!
//! Made once: others know the node by it.

use super::{PkiError, read, write};
use crate::sys::wireguard::{PrivateKey, PublicKey};
use aws_lc_rs::agreement::{self, X25519};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::error::Unspecified;
use std::fmt::Display;
use std::fs;
use std::path::Path;

/// See the module.
#[derive(Clone, Debug)]
pub struct WireGuardKey {
    private: PrivateKey,
    public: PublicKey,
}

impl WireGuardKey {
    /// Reads the key at `path`, a file as `wg genkey` writes it, or makes it on the first start.
    ///
    /// # Errors
    /// Where it cannot be read or written, or what is there is no key.
    pub fn open(path: &Path) -> Result<Self, PkiError> {
        let damaged = |why: &dyn Display| PkiError::DamagedWireGuardKey {
            path: path.to_owned(),
            why: why.to_string(),
        };
        if let Some(text) = read(path)? {
            let private: PrivateKey = text.trim().parse().map_err(|error| damaged(&error))?;
            let public = public_of(&private).map_err(|error| damaged(&error))?;
            return Ok(Self { private, public });
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .map_err(|source| PkiError::Write { path: directory.to_owned(), source })?;
        }
        let key = make().map_err(|error| damaged(&error))?;
        write(path, &(key.private.to_text() + "\n"), 0o600)?;
        Ok(key)
    }

    #[must_use]
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// What others know the node by.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }
}

fn make() -> Result<WireGuardKey, Unspecified> {
    let made = agreement::PrivateKey::generate(&X25519)?;
    let bytes: Curve25519SeedBin<'_> = made.as_be_bytes()?;
    let private = PrivateKey(bytes.as_ref().try_into().map_err(|_| Unspecified)?);
    let public = public_of(&private)?;
    Ok(WireGuardKey { private, public })
}

fn public_of(private: &PrivateKey) -> Result<PublicKey, Unspecified> {
    let key = agreement::PrivateKey::from_private_key(&X25519, &private.0)?;
    let public = key.compute_public_key()?;
    public.as_ref().try_into().map(PublicKey).map_err(|_| Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_node_keeps_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent/wireguard.key");
        let key = WireGuardKey::open(&path).unwrap();
        let again = WireGuardKey::open(&path).unwrap();
        assert_eq!((key.public(), key.private()), (again.public(), again.private()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let other = WireGuardKey::open(&directory.path().join("other.key")).unwrap();
        assert_ne!(other.public(), key.public());
    }

    /// Bob's, of RFC 7748, section 6.1.
    #[test]
    fn the_public_half_is_as_everybody_computes_it() {
        let private = "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=".parse().unwrap();
        let public = public_of(&private).unwrap();
        assert_eq!(public.to_string(), "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=");
    }

    #[test]
    fn what_is_no_key_is_kept_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wireguard.key");
        fs::write(&path, "garbage").unwrap();
        let error = WireGuardKey::open(&path).unwrap_err().to_string();
        assert!(error.contains("wireguard.key is not a key of WireGuard: a key is"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "garbage");
    }
}
