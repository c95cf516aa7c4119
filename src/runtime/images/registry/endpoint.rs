//! Where to ask for an image, in which order: plain data, made of a reference and `registries.yaml`.

use super::super::DefaultEndpoint;
use super::super::reference::{DEFAULT_REGISTRY, Reference};
use super::registries::{Host, Registries, Tls};
use http::Uri;

/// Where the images of docker.io are served.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";
const API_PATH: &str = "/v2";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Scheme, host with port, and path of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    scheme: Option<Scheme>,
    authority: String,
    path: String,
}

impl Address {
    /// Understands what `registries.yaml` may have as an endpoint: a URL, or just a host.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some((other, _)) => return Err(format!("`{other}` is neither http nor https")),
            None => (None, text),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let is_host = authority.parse::<http::uri::Authority>().is_ok_and(|authority| {
            !authority.host().is_empty() && !authority.as_str().contains('@')
        });
        if !is_host {
            return Err(format!("`{authority}` is not a host"));
        }
        let path = match path.trim_end_matches('/') {
            "" | API_PATH => API_PATH.to_owned(),
            other => other.to_owned(),
        };
        if path.parse::<http::uri::PathAndQuery>().is_err() || path.contains('?') {
            return Err(format!("`{path}` is not a path"));
        }
        Ok(Self { scheme, authority: authority.to_owned(), path })
    }
}

/// A place where an image may be.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) scheme: Scheme,
    /// Host and port, as requests name them.
    pub(super) authority: String,
    path: String,
    /// What the repository is called there.
    pub(super) repository: String,
    /// For which registry it stands in, where it does.
    mirror_of: Option<String>,
    pub(super) host: Host,
}

impl Endpoint {
    /// Whether it is the registry of the reference itself.
    pub(super) fn is_origin(&self) -> bool {
        self.mirror_of.is_none()
    }

    /// What an error calls it.
    pub(super) fn name(&self) -> &str {
        if self.authority == DEFAULT_REGISTRY_HOST { DEFAULT_REGISTRY } else { &self.authority }
    }

    /// Where something of the repository is: `manifests/latest`, `blobs/sha256:...`.
    pub(super) fn uri(&self, of_repository: &str) -> Result<Uri, http::Error> {
        let (path, repository) = (&self.path, &self.repository);
        let mut text = format!("{path}/{repository}/{of_repository}");
        if let Some(registry) = &self.mirror_of {
            // Mirrors of several registries tell them apart by this (containerd v2.1,
            // core/remotes/docker/resolver.go `addNamespace`).
            text.push_str("?ns=");
            text.push_str(registry);
        }
        Uri::builder()
            .scheme(self.scheme.name())
            .authority(self.authority.as_str())
            .path_and_query(text)
            .build()
    }
}

/// Every endpoint that may have an image: mirrors in their order, then the registry itself.
pub(super) fn plan(
    reference: &Reference,
    registries: &Registries,
    default: DefaultEndpoint,
) -> Vec<Endpoint> {
    let registry = reference.registry();
    let mirror = registries.mirror(registry);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for text in mirror.iter().flat_map(|mirror| &mirror.endpoints) {
        let Ok(address) = Address::parse(text) else {
            continue;
        };
        let rewritten = mirror.map(|mirror| mirror.rewrite(reference.repository()));
        let repository = rewritten.unwrap_or_else(|| reference.repository().to_owned());
        let mut endpoint = at(address, repository, registries);
        if endpoint.authority != host_of(registry) {
            endpoint.mirror_of = Some(registry.to_owned());
        }
        let same = |other: &Endpoint| {
            other.scheme == endpoint.scheme
                && other.authority == endpoint.authority
                && other.path == endpoint.path
        };
        if !endpoints.iter().any(same) {
            endpoints.push(endpoint);
        }
    }
    let has_mirrors = !endpoints.is_empty();
    if !has_mirrors || default == DefaultEndpoint::Fallback {
        let address =
            Address { scheme: None, authority: registry.to_owned(), path: API_PATH.to_owned() };
        let origin = at(address, reference.repository().to_owned(), registries);
        let is_there = endpoints
            .last()
            .is_some_and(|last| last.authority == origin.authority && last.scheme == origin.scheme);
        if !is_there {
            endpoints.push(origin);
        }
    }
    endpoints
}

fn at(address: Address, repository: String, registries: &Registries) -> Endpoint {
    let authority = host_of(&address.authority).to_owned();
    let named = if authority == DEFAULT_REGISTRY_HOST { DEFAULT_REGISTRY } else { &authority };
    let host = registries.host([authority.as_str(), named]);
    let scheme = address.scheme.unwrap_or_else(|| default_scheme(&authority, host.tls.as_ref()));
    Endpoint { scheme, authority, path: address.path, repository, mirror_of: None, host }
}

fn host_of(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_HOST } else { registry }
}

/// Plain http only within this machine, on a port of its own, and not where certificates are
/// configured: k3s v1.32 `normalizeEndpointAddress`, containerd v2.1 `MatchLocalhost`.
fn default_scheme(authority: &str, tls: Option<&Tls>) -> Scheme {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, "443"),
    };
    let host = host.trim_matches(['[', ']']);
    let is_local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_local && port != "443" && tls.is_none() { Scheme::Http } else { Scheme::Https }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(yaml: &str, reference: &str, default: DefaultEndpoint) -> Vec<String> {
        let registries = Registries::parse(yaml).unwrap();
        let endpoints = plan(&reference.parse().unwrap(), &registries, default);
        endpoints.iter().map(|endpoint| endpoint.uri("tags").unwrap().to_string()).collect()
    }

    fn check(yaml: &str, reference: &str, expected: &[&str]) {
        assert_eq!(planned(yaml, reference, DefaultEndpoint::Fallback), expected, "{yaml}");
    }

    #[test]
    fn without_mirrors_there_is_the_registry_itself() {
        for (reference, expected) in [
            ("nginx", "https://registry-1.docker.io/v2/library/nginx/tags"),
            ("quay.io/a/b", "https://quay.io/v2/a/b/tags"),
            ("localhost:5000/a", "http://localhost:5000/v2/a/tags"),
            ("127.0.0.7:80/a", "http://127.0.0.7:80/v2/a/tags"),
            ("[::1]:5000/a", "http://[::1]:5000/v2/a/tags"),
            ("localhost/a", "https://localhost/v2/a/tags"),
            ("localhost:443/a", "https://localhost:443/v2/a/tags"),
            ("10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/a/tags"),
        ] {
            check("", reference, &[expected]);
        }
        let tls = "configs: {'localhost:5000': {tls: {ca_file: /ca}}}";
        check(tls, "localhost:5000/a", &["https://localhost:5000/v2/a/tags"]);
    }

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let yaml = "mirrors: {docker.io: {endpoint: [https://m, 'localhost:1', http://p/hub/v2/], \
                    rewrite: {'^library/(.*)': 'x/$1'}}}";
        let mirrors = [
            "https://m/v2/x/nginx/tags?ns=docker.io",
            "http://localhost:1/v2/x/nginx/tags?ns=docker.io",
            "http://p/hub/v2/x/nginx/tags?ns=docker.io",
        ];
        let origin = "https://registry-1.docker.io/v2/library/nginx/tags";
        check(yaml, "nginx", &[&mirrors[..], &[origin]].concat());
        assert_eq!(planned(yaml, "nginx", DefaultEndpoint::Disabled), mirrors);
        check(yaml, "quay.io/a", &["https://quay.io/v2/a/tags"]);
        let disabled = planned(yaml, "quay.io/a", DefaultEndpoint::Disabled);
        assert_eq!(disabled, ["https://quay.io/v2/a/tags"], "no mirror, nothing to fall back from");
    }

    #[test]
    fn a_registry_that_is_its_own_mirror_is_asked_once() {
        let yaml = "mirrors: {r.example: {endpoint: [http://r.example:80, https://r.example]}}";
        check(
            yaml,
            "r.example/a",
            &["http://r.example:80/v2/a/tags?ns=r.example", "https://r.example/v2/a/tags"],
        );
        let yaml = "mirrors: {docker.io: {endpoint: [https://registry-1.docker.io]}}";
        check(yaml, "a/b", &["https://registry-1.docker.io/v2/a/b/tags"]);
        let yaml = "mirrors: {'*': {endpoint: [https://m, https://m/]}}";
        check(yaml, "quay.io/a", &["https://m/v2/a/tags?ns=quay.io", "https://quay.io/v2/a/tags"]);
    }

    #[test]
    fn endpoints_that_are_none_are_refused() {
        for (text, expected) in [
            ("", "`` is not a host"),
            ("https://", "`` is not a host"),
            ("https://user:secret@host", "`user:secret@host` is not a host"),
            ("unix:///x", "`unix` is neither http nor https"),
            ("https://a b", "`a b` is not a host"),
            ("https://a/b?c", "`/b?c` is not a path"),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), expected);
        }
    }
}
