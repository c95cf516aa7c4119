//! Requests for certificates (PKCS #10), read once and kept as far as they matter.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use std::net::IpAddr;

const LABEL: &str = "CERTIFICATE REQUEST";

/// A request whose signature is its own key's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Empty where the subject has none.
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    /// The addresses that the certificate is to be good for.
    pub ip_addresses: Vec<IpAddr>,
    pub emails: usize,
    pub uris: usize,
    /// The subject as it is encoded.
    pub(crate) subject: Vec<u8>,
    /// The `SubjectPublicKeyInfo` as it is encoded.
    pub(crate) public_key: Vec<u8>,
    /// The value of the extension for alternative names as it is encoded, where there is one.
    pub(crate) alternative_names: Option<Vec<u8>>,
}

/// Why something is not a request for a certificate.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Label,
    #[error("x509: {0}")]
    Malformed(String),
}

impl CertificateRequest {
    /// Reads the first block of `pem` (upstream `ParseCSR`, pkg/apis/certificates, and
    /// `CheckSignature`).
    ///
    /// # Errors
    /// Where it is no request, or somebody has changed it since it was signed.
    pub fn parse(pem: &[u8]) -> Result<Self, BadRequest> {
        let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
        let block = block.filter(|block| block.label == LABEL).ok_or(BadRequest::Label)?;
        let malformed = |error: &dyn std::fmt::Display| BadRequest::Malformed(error.to_string());
        let (_, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| malformed(&error))?;
        request.verify_signature().map_err(|error| malformed(&error))?;
        let info = &request.certification_request_info;
        let name = |texts: &mut dyn Iterator<Item = &str>| -> Vec<String> {
            texts.map(str::to_owned).collect()
        };
        let mut common_names = info.subject.iter_common_name().filter_map(|it| it.as_str().ok());
        let mut organizations = info.subject.iter_organization().filter_map(|it| it.as_str().ok());
        let mut parsed = Self {
            // Of several, the last counts, as in Go's `pkix.Name`.
            common_name: name(&mut common_names).pop().unwrap_or_default(),
            organizations: name(&mut organizations),
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            ..Self::default()
        };
        let extensions = info.iter_attributes().filter_map(|it| match it.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
            _ => None,
        });
        for extension in extensions.flatten() {
            if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME
                && let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension()
            {
                parsed.alternative_names = Some(extension.value.to_vec());
                names.general_names.iter().for_each(|name| parsed.count(name));
            }
        }
        Ok(parsed)
    }

    /// Stands for the key that it is signed with.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        super::node_key::fingerprint(&self.public_key)
    }

    fn count(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => {
                self.ip_addresses.extend(super::leaf::address(octets))
            }
            GeneralName::RFC822Name(_) => self.emails += 1,
            GeneralName::URI(_) => self.uris += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn pem(names: &[SanType]) -> String {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "system:node:a");
        parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        parameters.subject_alt_names = names.to_vec();
        parameters.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn what_a_request_asks_for() {
        let names = [
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 1].into()),
        ];
        let request = CertificateRequest::parse(pem(&names).as_bytes()).unwrap();
        assert_eq!(request.common_name, "system:node:a");
        assert_eq!(request.organizations, ["system:nodes"]);
        assert_eq!(request.dns_names, ["a.example"]);
        assert_eq!(request.ip_addresses, [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!((request.emails, request.uris), (0, 0));
        assert!(request.alternative_names.is_some());
        assert_eq!(CertificateRequest::parse(pem(&[]).as_bytes()).unwrap().alternative_names, None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let error = |pem: &[u8]| CertificateRequest::parse(pem).unwrap_err().to_string();
        assert_eq!(error(b"garbage"), "PEM block type must be CERTIFICATE REQUEST");
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(error(other.as_bytes()), "PEM block type must be CERTIFICATE REQUEST");
        let empty =
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert!(error(empty.as_bytes()).starts_with("x509: "));
    }
}
