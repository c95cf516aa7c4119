//! Who asks: the names that authentication finds out and authorization judges.

use crate::pki::{BadCertificate, CertificateUser};
use crate::registry::Creator;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Whoever has not said who they are.
pub(super) const ANONYMOUS: &str = "system:anonymous";
/// The group of everybody who has proved who they are.
pub(super) const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who has not.
pub(super) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub(super) const MASTERS: &str = "system:masters";
/// The group of nodes.
pub(super) const NODES: &str = "system:nodes";

/// The credential that somebody has shown, among what else is known of them.
pub(super) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// What else is known of somebody, by its name.
pub type Extra = BTreeMap<String, Vec<String>>;

/// A user with the groups they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    user: String,
    /// Empty for users that have none.
    uid: String,
    groups: Vec<String>,
    extra: Extra,
}

impl Identity {
    /// A user who has proved to be one.
    #[must_use]
    pub fn new(user: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { user: user.to_owned(), groups, ..Self::default() }
    }

    /// Somebody unknown.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
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
        let CertificateUser { user, groups, .. } = CertificateUser::of(der)?;
        let groups: Vec<_> = groups.iter().map(String::as_str).collect();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut credential = "X509SHA256=".to_owned();
        for byte in hash.as_ref() {
            write!(credential, "{byte:02x}").expect("a String takes any text");
        }
        let extra = Extra::from([(CREDENTIAL_ID.to_owned(), vec![credential])]);
        Ok(Self { extra, ..Self::new(&user, &groups) })
    }

    /// Somebody with exactly these groups.
    pub(super) fn exactly(user: String, groups: Vec<String>) -> Self {
        Self { user, groups, ..Self::default() }
    }

    #[must_use]
    pub(super) fn with_uid(self, uid: String) -> Self {
        Self { uid, ..self }
    }

    #[must_use]
    pub(super) fn with_extra(self, extra: Extra) -> Self {
        Self { extra, ..self }
    }

    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    #[must_use]
    pub fn extra(&self) -> &Extra {
        &self.extra
    }

    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// As objects have it that tell who made them.
    pub(super) fn as_creator(&self) -> Creator<'_> {
        let Self { user, uid, groups, extra } = self;
        Creator { user, uid, groups, extra }
    }

    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
