//! What a request and a certificate must look like inside.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const REQUEST: &str = "CERTIFICATE REQUEST";
const CERTIFICATE: &str = "CERTIFICATE";

/// What is wrong with a request, its signature included (upstream `ParseCSR`,
/// pkg/apis/certificates, v1.35).
pub(super) fn check_request(data: &[u8]) -> Result<(), String> {
    let block = Pem::iter_from_buffer(data)
        .next()
        .and_then(Result::ok)
        .filter(|block| block.label == REQUEST)
        .ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("x509: {error}"))?;
    request.verify_signature().map_err(|error| format!("x509: {error}"))
}

/// What is wrong with a chain of certificates (upstream `validateCertificate`,
/// pkg/apis/certificates/validation, v1.35).
pub(super) fn check_certificates(data: &[u8]) -> Result<(), String> {
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(data) {
        let Ok(block) = block else {
            break;
        };
        if block.label != CERTIFICATE {
            let label = block.label;
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label:?}"));
        }
        X509Certificate::from_der(&block.contents).map_err(|error| format!("x509: {error}"))?;
        blocks += 1;
    }
    match blocks {
        0 => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
        _ => Ok(()),
    }
}
