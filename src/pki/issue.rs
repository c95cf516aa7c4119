//! Certificates for requests: the subject, the key and the alternative names are the request's, byte
//! for byte; everything else is the authority's choice.
//!
//! Written out here because the library that makes our own certificates knows only some subjects and
//! keys. Follows upstream `CertificateAuthority.Sign` and `PermissiveSigningPolicy`
//! (pkg/controller/certificates/authority, v1.35).

use super::authority::Authority;
use super::der::{self, oid};
use super::request::CertificateRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// Clocks of machines differ: certificates begin this much earlier than they are made.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// Certificates that last less than this are not cut by what they are backdated.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    DigitalSignature,
    KeyEncipherment,
    ClientAuth,
    ServerAuth,
}

/// What the authority decides about a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub usages: &'a [Usage],
    pub lifetime: SignedDuration,
    pub now: Timestamp,
    /// Unique among all certificates of the authority.
    pub serial: u128,
}

/// Why a certificate is not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("the signer has expired: NotAfter={end}")]
    Expired { end: Timestamp },
    #[error("the authority's key is of a kind that cannot sign certificates")]
    Key,
    #[error("failed to sign certificate")]
    Sign(#[source] rcgen::Error),
}

/// An authority that makes certificates for requests.
#[derive(Clone, Debug)]
pub struct Issuer(pub(super) Arc<Authority>);

impl Issuer {
    /// A certificate for the request, as PEM. It ends with the authority at the latest.
    ///
    /// # Errors
    /// Where the authority has ended, or its key cannot sign.
    pub fn issue(
        &self,
        request: &CertificateRequest,
        terms: &Terms<'_>,
    ) -> Result<String, IssueError> {
        let authority = &*self.0;
        let end = authority.end();
        if terms.now >= end {
            return Err(IssueError::Expired { end });
        }
        let lifetime = match terms.lifetime < SHORT {
            true => terms.lifetime,
            false => terms.lifetime - BACKDATED,
        };
        let validity = (terms.now - BACKDATED, (terms.now + lifetime).min(end));
        sign(authority, request, &Grant { usages: terms.usages, validity, serial: terms.serial })
    }
}

/// What a certificate says besides what its request does.
pub(super) struct Grant<'a> {
    pub(super) usages: &'a [Usage],
    /// From the first moment to the last.
    pub(super) validity: (Timestamp, Timestamp),
    pub(super) serial: u128,
}

/// A certificate, as PEM.
pub(super) fn sign(
    authority: &Authority,
    request: &CertificateRequest,
    grant: &Grant<'_>,
) -> Result<String, IssueError> {
    let algorithm = authority.signature_algorithm().ok_or(IssueError::Key)?;
    let (begin, end) = grant.validity;
    let to_be_signed = der::sequence(&[
        der::explicit(0, &der::integer(&[2])),
        der::integer(&grant.serial.to_be_bytes()),
        algorithm.to_vec(),
        authority.subject().to_vec(),
        der::sequence(&[der::time(begin), der::time(end)]),
        request.subject.clone(),
        request.public_key.clone(),
        der::explicit(3, &der::sequence(&extensions(authority, request, grant.usages))),
    ]);
    let signature = authority.sign_bytes(&to_be_signed).map_err(IssueError::Sign)?;
    let certificate =
        der::sequence(&[to_be_signed, algorithm.to_vec(), der::bit_string(&signature, 0)]);
    Ok(pem(&certificate))
}

fn extensions(
    authority: &Authority,
    request: &CertificateRequest,
    usages: &[Usage],
) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let bits = usages.iter().fold(0, |bits, usage| bits | usage.bit());
    if bits != 0 {
        let unused = u8::try_from(bits.trailing_zeros()).expect("a byte has eight bits");
        all.push(extension(oid::KEY_USAGE, true, &der::bit_string(&[bits], unused)));
    }
    let purposes: Vec<Vec<u8>> = usages.iter().filter_map(|usage| usage.purpose()).collect();
    if !purposes.is_empty() {
        all.push(extension(oid::EXTENDED_KEY_USAGE, false, &der::sequence(&purposes)));
    }
    // Empty: it signs nothing.
    all.push(extension(oid::BASIC_CONSTRAINTS, true, &der::sequence(&[])));
    if let Some(id) = authority.key_id() {
        let named = der::sequence(&[der::implicit(0, id)]);
        all.push(extension(oid::AUTHORITY_KEY_IDENTIFIER, false, &named));
    }
    if let Some(names) = &request.alternative_names {
        // Where there is no subject, these are who it is.
        let is_all = request.subject == der::sequence(&[]);
        all.push(extension(oid::SUBJECT_ALT_NAME, is_all, names));
    }
    all
}

fn extension(id: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::object_identifier(id)];
    if is_critical {
        parts.push(der::boolean(true));
    }
    parts.push(der::octet_string(value));
    der::sequence(&parts)
}

impl Usage {
    /// In the first byte of the extension.
    fn bit(self) -> u8 {
        match self {
            Self::DigitalSignature => 0x80,
            Self::KeyEncipherment => 0x20,
            Self::ClientAuth | Self::ServerAuth => 0,
        }
    }

    fn purpose(self) -> Option<Vec<u8>> {
        match self {
            Self::ServerAuth => Some(der::object_identifier(oid::SERVER_AUTH)),
            Self::ClientAuth => Some(der::object_identifier(oid::CLIENT_AUTH)),
            Self::DigitalSignature | Self::KeyEncipherment => None,
        }
    }
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::super::Pki;
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use x509_parser::parse_x509_certificate;
    use x509_parser::pem::parse_x509_pem;

    const NOW: i64 = 1_800_000_000;

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateRequest {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "jane");
        parameters.distinguished_name.push(DnType::OrganizationName, "ops");
        parameters.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())];
        let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
        CertificateRequest::parse(pem.as_bytes()).unwrap()
    }

    fn issue(request: &CertificateRequest, days: i64, now: i64) -> Result<String, IssueError> {
        let directory = tempfile::tempdir().unwrap();
        let begin = Timestamp::from_second(NOW).unwrap();
        let pki = Pki::open(directory.path(), begin).unwrap();
        let usages = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ClientAuth];
        let terms = Terms {
            usages: &usages,
            lifetime: SignedDuration::from_hours(days * 24),
            now: Timestamp::from_second(now).unwrap(),
            serial: u128::MAX / 3,
        };
        let pem = pki.client_issuer().issue(request, &terms)?;
        assert!(pki.client_issuer().0.has_signed(
            &parse_x509_certificate(&parse_x509_pem(pem.as_bytes()).unwrap().1.contents).unwrap().1
        ));
        Ok(pem)
    }

    #[test]
    fn a_certificate_is_what_was_asked_for() {
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let request = request(algorithm);
            let pem = issue(&request, 30, NOW).unwrap();
            let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
            let (rest, certificate) = parse_x509_certificate(&block.contents).unwrap();
            assert!(rest.is_empty());
            assert_eq!(certificate.subject().to_string(), "CN=jane, O=ops");
            assert_eq!(certificate.public_key().raw, request.public_key);
            let validity = certificate.validity();
            assert_eq!(validity.not_before.timestamp(), NOW - 300);
            assert_eq!(validity.not_after.timestamp(), NOW + 30 * 86_400 - 300);
            let usage = certificate.key_usage().unwrap().unwrap().value;
            assert!(
                usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign()
            );
            let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(purposes.client_auth && !purposes.server_auth);
            assert!(!certificate.is_ca());
            let names = certificate.subject_alternative_name().unwrap().unwrap().value;
            assert_eq!(names.general_names[0].to_string(), "DNSName(a.example)");
        }
    }

    #[test]
    fn no_certificate_outlasts_its_authority() {
        let request = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pem = issue(&request, 20 * 365, NOW).unwrap();
        let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = parse_x509_certificate(&block.contents).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp(), NOW + 3_650 * 86_400);
        let late = issue(&request, 1, NOW + 3_651 * 86_400).unwrap_err().to_string();
        assert!(late.starts_with("the signer has expired"), "{late}");
    }

    #[test]
    fn short_certificates_keep_their_whole_length() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(NOW).unwrap();
        let pki = Pki::open(directory.path(), now).unwrap();
        let usages = [Usage::ClientAuth];
        let lifetime = SignedDuration::from_mins(10);
        let terms = Terms { usages: &usages, lifetime, now, serial: 1 };
        let pem = pki.client_issuer().issue(&request(&rcgen::PKCS_ED25519), &terms).unwrap();
        let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = parse_x509_certificate(&block.contents).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp(), NOW + 600);
        assert!(certificate.key_usage().unwrap().is_none());
    }
}
