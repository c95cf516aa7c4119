//! Whom a verified client certificate speaks for.

use super::node_key::fingerprint;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A user and their groups, as certificates name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateUser {
    pub user: String,
    pub groups: Vec<String>,
    /// Stands for the key that the certificate is of, as [`NodeKey::fingerprint`](super::NodeKey) does.
    pub key: String,
}

/// Why a client certificate names nobody.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error("the client certificate cannot be read")]
    Malformed(#[source] X509Error),
    #[error("the client certificate has no common name")]
    Nameless,
}

impl CertificateUser {
    /// Common name and organisations (upstream `CommonNameUserConversion`, apiserver
    /// pkg/authentication/request/x509, v1.35).
    ///
    /// # Errors
    /// Where the certificate names nobody.
    pub fn of(der: &[u8]) -> Result<Self, BadCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| {
            BadCertificate::Malformed(match error {
                x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => {
                    error
                }
                x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
            })
        })?;
        let subject = certificate.subject();
        let user = subject
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
            .filter(|name| !name.is_empty())
            .ok_or(BadCertificate::Nameless)?;
        let groups = subject.iter_organization().filter_map(|name| name.as_str().ok());
        Ok(Self {
            user: user.to_owned(),
            groups: groups.map(str::to_owned).collect(),
            key: fingerprint(certificate.public_key().raw),
        })
    }
}
