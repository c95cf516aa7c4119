//! Whom clients believe that are told nothing else: Mozilla's authorities and this machine's.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;

/// Where distributions keep the certificates that this machine trusts (Go's crypto/x509 looks in
/// the same places). The first that is there counts.
const HOST_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Mozilla's authorities, and this machine's as far as they can be read. Reads a file.
#[must_use]
pub fn trusted_by_default() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let bundle = HOST_BUNDLES.iter().map(Path::new).find(|path| path.exists());
    if let Some(pem) = bundle.and_then(|path| std::fs::read(path).ok()) {
        // What the machine's bundle has beyond what rustls understands is the machine's affair.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    roots
}
