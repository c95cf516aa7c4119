//! TLS as servers of this process speak it: what they show, and what clients show them.
//!
//! Start at [`ServerTls`], which gives [`Acceptor`]s. As upstream has it (`tls.RequestClientCert`,
//! apiserver pkg/server/secure_serving.go, v1.35), a client whose certificate is of no use gets a
//! connection all the same, and is told over HTTP that it is not believed; [`ClientProof`] makes
//! sure that nobody takes it for a good one.

use super::Leaf;
use crate::stdx::Clock;
use crate::sys::tcp::refuse_plain_http;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The certificate shown to clients, which can be replaced while connections are open.
#[derive(Debug)]
pub struct ServerTls {
    shown: Arc<Shown>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

/// Makes connections of clients secure.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    clients: Arc<dyn ClientCertVerifier>,
    clock: Clock,
}

/// What a client shows of who it is.
#[derive(Clone, Debug)]
pub enum ClientProof {
    Nothing,
    /// Of the clients' authority, good now, and the client's own.
    Certificate(CertificateDer<'static>),
    /// Of no use, for this reason.
    Refused(rustls::Error),
}

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
    /// Shows `leaf`, and asks clients for a certificate of `client_authority`. They may have none.
    ///
    /// # Errors
    /// Where one of the two cannot be used.
    pub fn new(leaf: &Leaf, client_authority: &str, clock: Clock) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(client_authority.as_bytes()) {
            roots.add(certificate.map_err(TlsError::Pem)?).map_err(TlsError::Certificate)?;
        }
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::Verifier)?;
        let shown = Arc::new(Shown(Mutex::new(certified(leaf)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(Arc::new(JudgedLater(Arc::clone(&clients))))
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        Ok(Self { shown, acceptor: Acceptor { tls, clients, clock } })
    }

    /// What the listener accepts connections with.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Shows this certificate to whoever connects from now on. Says whether it is another one.
    ///
    /// # Errors
    /// Where it cannot be used; the one before stays.
    pub fn replace(&self, leaf: &Leaf) -> Result<bool, TlsError> {
        let certified = certified(leaf)?;
        let mut shown = self.shown.0.lock().expect("no panics under this lock");
        let is_new = shown.cert != certified.cert;
        *shown = certified;
        Ok(is_new)
    }
}

impl Acceptor {
    /// Makes a connection secure, and says who is at its other end.
    ///
    /// # Errors
    /// Where the client goes, or breaks the protocol.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, ClientProof)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.tls.accept(stream).await?;
        let proof = self.judge(stream.get_ref().1.peer_certificates().unwrap_or_default());
        Ok((stream, proof))
    }

    /// As [`Acceptor::accept`], of a connection over the network. Who speaks plain HTTP is told what is
    /// wanted here.
    ///
    /// # Errors
    /// Where the client goes, breaks the protocol or speaks another.
    pub async fn accept_client(
        &self,
        mut stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, ClientProof)> {
        refuse_plain_http(&mut stream).await?;
        self.accept(stream).await
    }

    /// The handshake has shown that the first of the chain is the client's own.
    fn judge(&self, chain: &[CertificateDer<'static>]) -> ClientProof {
        let Some((own, intermediates)) = chain.split_first() else { return ClientProof::Nothing };
        let seconds = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match self.clients.verify_client_cert(own, intermediates, now) {
            Ok(_verified) => ClientProof::Certificate(own.clone()),
            Err(error) => ClientProof::Refused(error),
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// Takes any certificate whose key the client has. Who signed it, and whether it is good now, is
/// judged when the handshake is over.
#[derive(Debug)]
struct JudgedLater(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for JudgedLater {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
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
