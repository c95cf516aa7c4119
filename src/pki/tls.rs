//! What the API server's listener speaks TLS with.

use super::Leaf;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, Mutex};

/// The certificate shown to clients, which can be replaced while connections are open.
#[derive(Debug)]
pub struct ServerTls {
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

/// Why a certificate cannot be shown, or clients' cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("a certificate or key is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    #[error("the certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    #[error("the clients' authority cannot be used")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

impl ServerTls {
    /// Shows `leaf`, and asks clients for a certificate of `client_authority`. Those without one
    /// are let in as nobody; those with a wrong one are not.
    ///
    /// # Errors
    /// Where one of the two cannot be used.
    pub fn new(leaf: &Leaf, client_authority: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(client_authority.as_bytes()) {
            roots.add(certificate.map_err(TlsError::Pem)?).map_err(TlsError::Certificate)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::Verifier)?;
        let shown = Arc::new(Shown(Mutex::new(certified(leaf)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { shown, config: Arc::new(config) })
    }

    /// What the listener accepts connections with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Shows another certificate to whoever connects from now on.
    ///
    /// # Errors
    /// Where it cannot be used; the one before stays.
    pub fn replace(&self, leaf: &Leaf) -> Result<(), TlsError> {
        let certified = certified(leaf)?;
        *self.shown.0.lock().expect("no panics under this lock") = certified;
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().expect("no panics under this lock")))
    }
}

fn certified(leaf: &Leaf) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).map_err(TlsError::Pem)?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(TlsError::Certificate)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}
