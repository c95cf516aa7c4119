//! Who asks: the names that authentication finds out and authorization judges.

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The group of everybody who has proved who they are.
pub(super) const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who has not.
pub(super) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub(super) const MASTERS: &str = "system:masters";
/// The group of nodes.
pub(super) const NODES: &str = "system:nodes";

/// A user with the groups they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    user: String,
    groups: Vec<String>,
}

/// Why a client certificate names nobody.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error("the client certificate cannot be read")]
    Malformed(#[source] x509_parser::error::X509Error),
    #[error("the client certificate has no common name")]
    Nameless,
}

impl Identity {
    /// A user who has proved to be one.
    #[must_use]
    pub fn new(user: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { user: user.to_owned(), groups }
    }

    /// Somebody unknown.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { user: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    /// The API server itself.
    #[must_use]
    pub fn api_server() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// The node agent of `node`.
    #[must_use]
    pub fn node(node: &str) -> Self {
        Self::new(&format!("system:node:{node}"), &[NODES])
    }

    /// A service account, by which controllers are known.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let group = format!("system:serviceaccounts:{namespace}");
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Self::new(&user, &["system:serviceaccounts", &group])
    }

    /// The user and groups that a verified client certificate names: common name and organisations
    /// (upstream `CommonNameUserConversion`, apiserver pkg/authentication/request/x509, v1.35).
    ///
    /// # Errors
    /// Where the certificate names nobody.
    pub fn of_certificate(der: &[u8]) -> Result<Self, BadCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| {
            BadCertificate::Malformed(match error {
                x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => {
                    error
                }
                x509_parser::nom::Err::Incomplete(_) => {
                    x509_parser::error::X509Error::InvalidCertificate
                }
            })
        })?;
        let subject = certificate.subject();
        let user = subject
            .iter_common_name()
            .find_map(|name| name.as_str().ok())
            .filter(|name| !name.is_empty())
            .ok_or(BadCertificate::Nameless)?;
        let groups: Vec<_> =
            subject.iter_organization().filter_map(|name| name.as_str().ok()).collect();
        Ok(Self::new(user, &groups))
    }

    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
