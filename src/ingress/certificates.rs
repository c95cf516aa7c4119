//! The certificates that clients are shown, by the name they ask for.
//!
//! Replaced as a whole when a Secret or an Ingress changes: who connects from then on is shown the new
//! one, and connections that are open stay. Who asks for a name that has none is shown one that the
//! proxy has made itself, which nobody trusts, as there is nothing better.

use super::model::{CertificateUse, HostPattern};
use crate::api::ObjectKey;
use crate::pki::{CertifiedKey, PkiError, TlsError, certified_key, names_in, self_signed};
use k8s_openapi::api::core::v1::Secret;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, RwLock};
use tokio_rustls::TlsAcceptor;

/// What the proxy calls itself where it has no certificate for a name.
const OWN_NAME: &str = "ingress.kinglet.invalid";

/// See the module.
#[derive(Debug)]
pub(super) struct Certificates {
    own: Arc<CertifiedKey>,
    shown: RwLock<Arc<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    any: Option<Arc<CertifiedKey>>,
}

/// Why no connection can be made secure.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    #[error("the certificate that stands in for missing ones cannot be made")]
    Own(#[source] PkiError),
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
}

/// Certificates as they were read of Secrets, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct Read(BTreeMap<ObjectKey, Found>);

#[derive(Debug)]
struct Found {
    resource_version: Option<String>,
    /// With the names that are in it; or why it cannot be shown.
    certificate: Result<(Arc<CertifiedKey>, BTreeSet<String>), Arc<str>>,
}

impl Read {
    /// Reads what has changed, forgets what is not named any more, and says what is wrong.
    pub(super) fn update(
        &mut self,
        secrets: &BTreeMap<ObjectKey, Option<Arc<Secret>>>,
    ) -> Vec<(ObjectKey, String)> {
        self.0.retain(|key, _| secrets.contains_key(key));
        let mut problems = Vec::new();
        for (key, secret) in secrets {
            let version = secret.as_ref().and_then(|it| it.metadata.resource_version.clone());
            let known = self.0.get(key).filter(|found| found.resource_version == version);
            if known.is_none() {
                let certificate = read(secret.as_deref());
                self.0.insert(key.clone(), Found { resource_version: version, certificate });
            }
            if let Some(Err(why)) = self.0.get(key).map(|found| &found.certificate) {
                problems.push((key.clone(), why.to_string()));
            }
        }
        problems
    }

    /// What is to be shown for these uses. The first for a name has it.
    fn shown(&self, uses: &[CertificateUse]) -> Shown {
        let mut shown = Shown::default();
        for CertificateUse { hosts, secret } in uses {
            let found = self.0.get(secret).map(|found| &found.certificate);
            let Some(Ok((certificate, names))) = found else { continue };
            match hosts {
                Some(host) => shown.add(host.clone(), certificate),
                None => {
                    let patterns = names.iter().map(|name| HostPattern::parse(name));
                    patterns.for_each(|host| shown.add(host, certificate));
                }
            }
        }
        shown
    }
}

impl Shown {
    fn add(&mut self, host: HostPattern, certificate: &Arc<CertifiedKey>) {
        let certificate = Arc::clone(certificate);
        match host {
            HostPattern::Any => {
                self.any.get_or_insert(certificate);
            }
            HostPattern::Wildcard(suffix) => {
                self.wildcard.entry(suffix).or_insert(certificate);
            }
            HostPattern::Exact(name) => {
                self.exact.entry(name).or_insert(certificate);
            }
        }
    }

    fn certificate(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard).or(self.any.as_ref())
    }
}

fn read(secret: Option<&Secret>) -> Result<(Arc<CertifiedKey>, BTreeSet<String>), Arc<str>> {
    let secret = secret.ok_or("there is no such Secret")?;
    let data = secret.data.as_ref();
    let field = |name: &str| {
        let value = data.and_then(|data| data.get(name)).map(|value| value.0.as_slice());
        value.ok_or_else(|| Arc::from(format!("the Secret has no {name}")))
    };
    let (chain, key) = (field("tls.crt")?, field("tls.key")?);
    let told = |error: TlsError| Arc::<str>::from(crate::stdx::chain(&error));
    let certificate = certified_key(chain, key).map_err(told)?;
    let names = certificate.cert.first().map(names_in).unwrap_or_default();
    Ok((certificate, names))
}

impl Certificates {
    /// # Errors
    /// Where no certificate can be made.
    pub(super) fn new() -> Result<Arc<Self>, BadTls> {
        let own = self_signed(OWN_NAME, &[OWN_NAME]).map_err(BadTls::Own)?;
        let own = certified_key(own.certificate.as_bytes(), own.key.as_bytes())?;
        Ok(Arc::new(Self { own, shown: RwLock::default() }))
    }

    /// Shows these from now on.
    pub(super) fn show(&self, read: &Read, uses: &[CertificateUse]) {
        let shown = Arc::new(read.shown(uses));
        *self.shown.write().expect("no panics under this lock") = shown;
    }

    /// Makes connections secure.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub(super) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, BadTls> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Certificate)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Who comes again needs no second look at the certificate, and no memory of ours.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Certificate)?;
        config.send_tls13_tickets = 1;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = Arc::clone(&self.shown.read().expect("no panics under this lock"));
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        Some(Arc::clone(shown.certificate(&name).unwrap_or(&self.own)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::namespaced("n", name)
    }

    fn secret(version: &str, data: &[(&str, &str)]) -> Option<Arc<Secret>> {
        let field = |(name, text): &(&str, &str)| {
            ((*name).to_owned(), ByteString(text.as_bytes().to_vec()))
        };
        let resource_version = Some(version.to_owned());
        let metadata = ObjectMeta { resource_version, ..ObjectMeta::default() };
        let data = Some(data.iter().map(field).collect());
        Some(Arc::new(Secret { metadata, data, ..Secret::default() }))
    }

    fn good(version: &str, names: &[&str]) -> Option<Arc<Secret>> {
        let leaf = self_signed("test", names).unwrap();
        secret(version, &[("tls.crt", &leaf.certificate), ("tls.key", &leaf.key)])
    }

    fn used(host: Option<&str>, secret: &str) -> CertificateUse {
        CertificateUse { hosts: host.map(HostPattern::parse), secret: key(secret) }
    }

    #[test]
    fn names_are_looked_for_the_most_specific_first() {
        let mut read = Read::default();
        let secrets =
            BTreeMap::from([(key("a"), good("1", &["a.x"])), (key("b"), good("1", &["*.x", "y"]))]);
        assert_eq!(read.update(&secrets), []);
        let uses = [used(Some("a.x"), "a"), used(None, "b"), used(Some("a.x"), "b")];
        let shown = read.shown(&uses);
        let names = |name: &str| {
            let found = shown.certificate(name)?;
            Some(Vec::from_iter(names_in(&found.cert[0])))
        };
        assert_eq!(names("a.x").unwrap(), ["a.x"]);
        assert_eq!(names("b.x").unwrap(), ["*.x", "y"]);
        assert_eq!(names("y").unwrap(), ["*.x", "y"]);
        for other in ["x", "b.a.x", "z", ""] {
            assert!(names(other).is_none(), "{other}");
        }
        let for_all = read.shown(&[used(Some(""), "a")]);
        assert!(for_all.certificate("anything").is_some());
    }

    #[test]
    fn what_cannot_be_shown_is_told() {
        let (one, other) = (self_signed("a", &["a"]).unwrap(), self_signed("b", &["b"]).unwrap());
        let secrets = BTreeMap::from([
            (key("absent"), None),
            (key("empty"), secret("1", &[])),
            (key("half"), secret("1", &[("tls.crt", &one.certificate)])),
            (key("odd"), secret("1", &[("tls.crt", "x"), ("tls.key", "y")])),
            (key("unlike"), secret("1", &[("tls.crt", &one.certificate), ("tls.key", &other.key)])),
        ]);
        let mut read = Read::default();
        let problems = read.update(&secrets);
        let told: Vec<_> = problems.iter().map(|(key, why)| (&*key.name, &**why)).collect();
        assert_eq!(told[0], ("absent", "there is no such Secret"));
        assert_eq!(told[1], ("empty", "the Secret has no tls.crt"));
        assert_eq!(told[2], ("half", "the Secret has no tls.key"));
        assert_eq!(told[3].0, "odd");
        assert_eq!(told[4].0, "unlike");
        // It is told until it is mended.
        assert_eq!(read.update(&secrets).len(), 5);
        let mended = BTreeMap::from([(key("odd"), good("2", &["a"]))]);
        assert_eq!(read.update(&mended), []);
    }
}
