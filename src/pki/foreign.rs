//! Certificates that are no business of the cluster's authorities: those that users bring, and one
//! that stands in where they have brought none.

use super::leaf::names_of;
use super::{Leaf, PkiError, TlsError};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::sync::Arc;
use x509_parser::parse_x509_certificate;

pub use rustls::sign::CertifiedKey;

/// A chain of certificates and the key of its first, both as PEM, ready to be shown.
///
/// # Errors
/// Where one of them cannot be used, or they do not belong together.
pub fn certified_key(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Pem)?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(TlsError::Certificate)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(TlsError::Certificate)?;
    Ok(Arc::new(certified))
}

/// The names and addresses that a certificate is for; none where it cannot be read.
#[must_use]
pub fn names_in(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let parsed = parse_x509_certificate(certificate);
    parsed.map(|(_, certificate)| names_of(&certificate)).unwrap_or_default()
}

/// A certificate that nobody has signed but its own key, for all time.
///
/// # Errors
/// Where these are no names.
pub fn self_signed(common_name: &str, names: &[&str]) -> Result<Leaf, PkiError> {
    let failed = |source| PkiError::Make { name: common_name.to_owned(), source };
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).map_err(failed)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Ok(Leaf { certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_belong_together() {
        let (one, other) = (self_signed("a", &["a.x", "*.y"]), self_signed("b", &["b"]));
        let (one, other) = (one.unwrap(), other.unwrap());
        let shown = |leaf: &Leaf, key: &Leaf| {
            certified_key(leaf.certificate.as_bytes(), key.key.as_bytes())
        };
        let certified = shown(&one, &one).unwrap();
        assert_eq!(Vec::from_iter(names_in(&certified.cert[0])), ["*.y", "a.x"]);
        assert!(shown(&one, &other).is_err());
        assert!(certified_key(b"", one.key.as_bytes()).is_err());
        assert!(certified_key(one.certificate.as_bytes(), b"x").is_err());
    }
}
