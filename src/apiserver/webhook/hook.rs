//! Where a webhook is, and whom to believe that it is there.

use http::uri::{Authority, Scheme};
use http::{Uri, uri};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::time::Duration;

/// The port of a Service where none is named.
const HTTPS_PORT: u16 = 443;

/// A webhook as somebody has configured it. Those that are equal share their connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Hook {
    pub(super) way: Way,
    /// Authorities in PEM; empty: those that this machine believes.
    authorities: Vec<u8>,
}

/// How it is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Url(String),
    Service {
        name: ServiceName,
        /// Empty, or with a slash at its beginning.
        path: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceName {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: u16,
}

/// Why nobody can be asked at all.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum BadHook {
    #[error("webhook configuration must have either service or URL")]
    Nowhere,
    #[error("Unparsable URL: {0}")]
    Url(uri::InvalidUri),
    #[error("Unparsable URL: {0}")]
    Parts(#[from] http::Error),
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Authorities,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Hook {
    /// That of a definition's conversion (upstream `webhookClientConfigForCRD`).
    pub(in super::super) fn of_conversion(
        config: &apiextensions::WebhookClientConfig,
    ) -> Result<Self, BadHook> {
        let authorities = config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
        let authorities = authorities.unwrap_or_default();
        let way = match (&config.service, &config.url) {
            (Some(service), _) => Way::Service {
                name: ServiceName {
                    namespace: service.namespace.clone(),
                    name: service.name.clone(),
                    port: service
                        .port
                        .and_then(|port| u16::try_from(port).ok())
                        .unwrap_or(HTTPS_PORT),
                },
                path: service.path.clone().unwrap_or_default(),
            },
            (None, Some(url)) => Way::Url(url.clone()),
            (None, None) => return Err(BadHook::Nowhere),
        };
        // What is nothing but blank is taken as if it were not there.
        let authorities = match authorities.trim_ascii() {
            [] => Vec::new(),
            _ => authorities.to_vec(),
        };
        Ok(Self { way, authorities })
    }

    /// What is asked. Whoever answers is told how long this server waits.
    pub(super) fn address(&self, patience: Duration) -> Result<Uri, BadHook> {
        let timeout = format!("timeout={}s", patience.as_secs());
        match &self.way {
            Way::Service { name, path } => {
                let path = if path.is_empty() { "/" } else { path };
                let uri = Uri::builder()
                    .scheme(Scheme::HTTPS)
                    .authority(name.authority())
                    .path_and_query(format!("{path}?{timeout}"));
                Ok(uri.build()?)
            }
            Way::Url(url) => {
                let url: Uri = url.parse().map_err(BadHook::Url)?;
                let authority = url.authority().cloned().ok_or(BadHook::Nowhere)?;
                let path = url.path();
                let uri = Uri::builder()
                    .scheme(Scheme::HTTPS)
                    .authority::<Authority>(authority)
                    .path_and_query(format!("{path}?{timeout}"));
                Ok(uri.build()?)
            }
        }
    }

    /// Whom to believe; none: whom everybody believes. As Go does, those that cannot be read are passed
    /// over as long as one can.
    pub(super) fn roots(&self) -> Result<Option<RootCertStore>, BadHook> {
        if self.authorities.is_empty() {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&self.authorities).flatten();
        let (added, _ignored) = roots.add_parsable_certificates(certificates);
        if added == 0 { Err(BadHook::Authorities) } else { Ok(Some(roots)) }
    }
}

impl ServiceName {
    /// The name by which the server has to be certified, and the port.
    fn authority(&self) -> String {
        format!("{}.{}.svc:{}", self.name, self.namespace, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hook(config: Value) -> Result<Hook, BadHook> {
        Hook::of_conversion(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn hooks_have_addresses() {
        let check = |config: Value, expected: &str| {
            let address = hook(config).and_then(|hook| hook.address(Duration::from_secs(30)));
            let told = address.map_or_else(|error| error.to_string(), |uri| uri.to_string());
            assert_eq!(told, expected);
        };
        let service = |more: Value| {
            let mut service = json!({"namespace": "n", "name": "web"});
            service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "service": service })
        };
        check(service(json!({})), "https://web.n.svc:443/?timeout=30s");
        let full = json!({"port": 9443, "path": "/a/b"});
        check(service(full), "https://web.n.svc:9443/a/b?timeout=30s");
        check(json!({"url": "https://x.y:1/z"}), "https://x.y:1/z?timeout=30s");
        check(json!({"url": "https://x.y"}), "https://x.y/?timeout=30s");
        check(json!({}), "webhook configuration must have either service or URL");
        check(json!({"url": "https://"}), "Unparsable URL: empty string");
    }

    #[test]
    fn authorities_are_read_or_refused() {
        let check = |bundle: &str, expected: Result<Option<usize>, &str>| {
            use base64::Engine as _;
            let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
            let hook = hook(json!({"url": "https://x", "caBundle": bundle})).unwrap();
            let roots = hook.roots().map(|roots| roots.map(|roots| roots.len()));
            assert_eq!(roots.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        };
        let own = crate::pki::self_signed("a", &["a"]).unwrap().certificate;
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let refused = "unable to load root certificates: unable to parse bytes as PEM block";
        check(&own, Ok(Some(1)));
        check(&format!("{broken}{own}"), Ok(Some(1)));
        check(" \n ", Ok(None));
        check("", Ok(None));
        check("x", Err(refused));
        check(broken, Err(refused));
    }
}
