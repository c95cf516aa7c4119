//! Certificates that sign nothing: the server's own and those of clients.

use super::authority::{Authority, CLOCK_SKEW_MAX};
use super::der::{self, oid};
use super::issue::{self, Grant, IssueError, Usage};
use super::request::CertificateRequest;
use super::{PkiError, Subject, read, write};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PublicKeyData as _,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

/// A leaf lasts a year, as k3s's do.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// A leaf that ends sooner than this is made anew (k3s renews at 120 days).
const RENEWED_BEFORE_END: SignedDuration = SignedDuration::from_hours(120 * 24);

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

impl Leaf {
    /// When it is to be made anew. What cannot be read is due at once.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        let end = parse_x509_pem(self.certificate.as_bytes()).ok().and_then(|(_, pem)| {
            let (_, certificate) = parse_x509_certificate(&pem.contents).ok()?;
            Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
        });
        end.map_or(Timestamp::MIN, |end| end - RENEWED_BEFORE_END)
    }
}

impl Leaf {
    /// Whether a server of `names`, host names and addresses, can show it.
    #[must_use]
    pub fn is_good_for(&self, names: &[String]) -> bool {
        let Ok((_, pem)) = parse_x509_pem(self.certificate.as_bytes()) else { return false };
        let parsed = parse_x509_certificate(&pem.contents);
        parsed.is_ok_and(|(_, certificate)| serves(&certificate, &Purpose::Server { names }))
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Leaf(...)")
    }
}

/// What a leaf is good for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// Host names and addresses.
    Server {
        names: &'a [String],
    },
    Client(Subject<'a>),
}

/// Reads a leaf, or makes it where it is missing or will not do.
pub(super) fn open(
    directory: &Path,
    name: &str,
    authority: &Authority,
    purpose: &Purpose<'_>,
    now: Timestamp,
) -> Result<Leaf, PkiError> {
    let certificate_path = directory.join(format!("{name}.crt"));
    let key_path = directory.join(format!("{name}.key"));
    if let (Some(certificate), Some(key)) = (read(&certificate_path)?, read(&key_path)?) {
        let leaf = Leaf { certificate, key };
        if will_do(&leaf, authority, purpose, now) {
            return Ok(leaf);
        }
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| PkiError::Make { name: name.to_owned(), source })?;
    let certificate = match purpose {
        Purpose::Server { names } => server(authority, names, &key, now).map_err(IssueError::Sign),
        Purpose::Client(subject) => client(authority, *subject, &key, now),
    };
    let certificate =
        certificate.map_err(|source| PkiError::Issue { name: name.to_owned(), source })?;
    let leaf = Leaf { certificate, key: key.serialize_pem() };
    write(&key_path, &leaf.key, 0o600)?;
    write(&certificate_path, &leaf.certificate, 0o644)?;
    Ok(leaf)
}

fn will_do(leaf: &Leaf, authority: &Authority, purpose: &Purpose<'_>, now: Timestamp) -> bool {
    let Ok(key) = KeyPair::from_pem(&leaf.key) else { return false };
    let Ok((_, pem)) = parse_x509_pem(leaf.certificate.as_bytes()) else { return false };
    let Ok((_, certificate)) = parse_x509_certificate(&pem.contents) else { return false };
    certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        && now < leaf.due()
        && authority.has_signed(&certificate)
        && serves(&certificate, purpose)
}

fn serves(certificate: &X509Certificate<'_>, purpose: &Purpose<'_>) -> bool {
    match purpose {
        Purpose::Server { names } => {
            let good_for = names_of(certificate);
            names.iter().all(|name| good_for.contains(name))
        }
        Purpose::Client(subject) => {
            let subject_of = certificate.subject();
            let user = subject_of.iter_common_name().find_map(|name| name.as_str().ok());
            let groups: Vec<_> =
                subject_of.iter_organization().filter_map(|name| name.as_str().ok()).collect();
            user == Some(subject.user) && groups == subject.groups
        }
    }
}

/// The names and addresses that a certificate is for.
pub(super) fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
            _ => None,
        })
        .collect()
}

pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn server(
    authority: &Authority,
    names: &[String],
    key: &KeyPair,
    now: Timestamp,
) -> Result<String, rcgen::Error> {
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name.push(DnType::CommonName, "kinglet");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.not_before = SystemTime::from(now - CLOCK_SKEW_MAX).into();
    parameters.not_after = SystemTime::from(now + LIFETIME).into();
    authority.sign(&parameters, key)
}

/// Written out: a user may be in several groups, and the library's subjects have one organization.
fn client(
    authority: &Authority,
    subject: Subject<'_>,
    key: &KeyPair,
    now: Timestamp,
) -> Result<String, IssueError> {
    let request = CertificateRequest {
        subject: encode(subject),
        public_key: key.subject_public_key_info(),
        ..CertificateRequest::default()
    };
    let usages = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ClientAuth];
    let validity = (now - CLOCK_SKEW_MAX, now + LIFETIME);
    let serial = Uuid::new_v4().as_u128();
    issue::sign(authority, &request, &Grant { usages: &usages, validity, serial })
}

/// The common name, and an organization for each group.
fn encode(subject: Subject<'_>) -> Vec<u8> {
    let part = |id: &[u8], text: &str| {
        der::set(&der::sequence(&[der::object_identifier(id), der::utf8_string(text)]))
    };
    let user = part(oid::COMMON_NAME, subject.user);
    let groups = subject.groups.iter().map(|group| part(oid::ORGANIZATION, group));
    der::sequence(&std::iter::once(user).chain(groups).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::{CertificateUser, Pki};
    use super::*;

    #[test]
    fn a_user_may_be_in_several_groups() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let pki = Pki::open(directory.path(), now).unwrap();
        for groups in [&[][..], &["a"], &["a", "b", "system:masters"], &["b", "a"]] {
            let subject = Subject { user: "jane", groups };
            let leaf = pki.client("client-jane", subject, now).unwrap();
            let (_, pem) = parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
            let user = CertificateUser::of(&pem.contents).unwrap();
            assert_eq!((user.user.as_str(), user.groups.as_slice()), ("jane", &*own(groups)));
            let (_, certificate) = parse_x509_certificate(&pem.contents).unwrap();
            let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(purposes.client_auth && !purposes.server_auth && !certificate.is_ca());
            let again = pki.client("client-jane", subject, now).unwrap();
            assert_eq!(again.certificate, leaf.certificate, "it will do for who it was made for");
        }
    }

    fn own(groups: &[&str]) -> Vec<String> {
        groups.iter().map(|group| (*group).to_owned()).collect()
    }
}
