//! A certificate authority: a key and a certificate that signs others.

use super::der::algorithm;
use super::{PkiError, read, write};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SigningKey as _,
};
use std::path::Path;
use std::time::SystemTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;
use x509_parser::time::ASN1Time;

/// An authority lasts as long as k3s's: ten years.
const LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Clocks of machines differ; certificates begin a little earlier than they are made.
pub(super) const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_hours(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    public_key: Vec<u8>,
    /// Its name, as it is encoded.
    subject: Vec<u8>,
    /// By which certificates name the key that has signed them.
    key_id: Option<Vec<u8>>,
    /// From the first moment to the last.
    validity: (Timestamp, Timestamp),
}

impl Authority {
    /// Reads an authority, or makes it where it is missing.
    pub(super) fn open(directory: &Path, name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let certificate_path = directory.join(format!("{name}.crt"));
        let key_path = directory.join(format!("{name}.key"));
        // The key is written first: without a certificate nobody has ever relied on it.
        let Some(certificate) = read(&certificate_path)? else {
            let (certificate, key) = make(name, now)
                .map_err(|source| PkiError::Make { name: name.to_owned(), source })?;
            write(&key_path, &key, 0o600)?;
            write(&certificate_path, &certificate, 0o644)?;
            return Self::parse(certificate, &key).map_err(|why| PkiError::Damaged {
                path: certificate_path,
                directory: directory.to_owned(),
                why,
            });
        };
        let damaged = |path: &Path, why: String| PkiError::Damaged {
            path: path.to_owned(),
            directory: directory.to_owned(),
            why,
        };
        let key = read(&key_path)?.ok_or_else(|| damaged(&key_path, "it is missing".to_owned()))?;
        if let Err(error) = KeyPair::from_pem(&key) {
            return Err(damaged(&key_path, error.to_string()));
        }
        let authority =
            Self::parse(certificate, &key).map_err(|why| damaged(&certificate_path, why))?;
        let (begin, end) = authority.validity;
        if now < begin || end < now {
            return Err(PkiError::Untimely { path: certificate_path, begin, end, now });
        }
        Ok(authority)
    }

    fn parse(certificate: String, key: &str) -> Result<Self, String> {
        let text = |error: rcgen::Error| error.to_string();
        let key = KeyPair::from_pem(key).map_err(text)?;
        let (_, pem) = parse_x509_pem(certificate.as_bytes()).map_err(|error| error.to_string())?;
        let (_, parsed) =
            parse_x509_certificate(&pem.contents).map_err(|error| error.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("its key does not belong to it".to_owned());
        }
        if !parsed.is_ca() {
            return Err("it may not sign certificates".to_owned());
        }
        let public_key = parsed.public_key().raw.to_vec();
        let subject = parsed.subject().as_raw().to_vec();
        let key_id = parsed.extensions().iter().find_map(|it| match it.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let validity = parsed.validity();
        let moment = |time: ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string())
        };
        let validity = (moment(validity.not_before)?, moment(validity.not_after)?);
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(text)?;
        Ok(Self { certificate, issuer, public_key, subject, key_id, validity })
    }

    /// The certificate, as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate for `key`.
    pub(super) fn sign(
        &self,
        parameters: &CertificateParams,
        key: &KeyPair,
    ) -> Result<String, rcgen::Error> {
        parameters.signed_by(key, &self.issuer).map(|certificate| certificate.pem())
    }

    /// How what it signs says that it was signed; `None` for a key that cannot sign certificates.
    pub(super) fn signature_algorithm(&self) -> Option<&'static [u8]> {
        let own = self.issuer.key().algorithm();
        [
            (&rcgen::PKCS_ECDSA_P256_SHA256, algorithm::ECDSA_SHA256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, algorithm::ECDSA_SHA384),
            (&rcgen::PKCS_ED25519, algorithm::ED25519),
            (&rcgen::PKCS_RSA_SHA256, algorithm::RSA_SHA256),
        ]
        .into_iter()
        .find_map(|(known, identifier)| (own == known).then_some(identifier))
    }

    pub(super) fn sign_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.issuer.key().sign(bytes)
    }

    /// Its name, as it is encoded.
    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(super) fn key_id(&self) -> Option<&[u8]> {
        self.key_id.as_deref()
    }

    /// The last moment at which it is good.
    pub(super) fn end(&self) -> Timestamp {
        self.validity.1
    }

    /// Whether this authority has signed `certificate`.
    pub(super) fn has_signed(
        &self,
        certificate: &x509_parser::certificate::X509Certificate<'_>,
    ) -> bool {
        use x509_parser::prelude::FromDer as _;
        let key = x509_parser::x509::SubjectPublicKeyInfo::from_der(&self.public_key);
        key.is_ok_and(|(_, key)| certificate.verify_signature(Some(&key)).is_ok())
    }
}

fn make(name: &str, now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::default();
    // As k3s's: the second it was made tells authorities of one name apart.
    let common_name = format!("kinglet-{name}@{}", now.as_second());
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    parameters.not_before = SystemTime::from(now - CLOCK_SKEW_MAX).into();
    parameters.not_after = SystemTime::from(now + LIFETIME).into();
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}
