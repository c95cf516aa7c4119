//! What is to become of requests, in the proxy's own words.
//!
//! Architecture invariant: nothing here knows Ingresses, and nothing that routes knows more than
//! this. Whoever makes a [`Model`] (today [`plan`](super::plan), from Ingresses) may be joined by others.

use crate::api::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) hosts: BTreeMap<HostPattern, HostRules>,
    /// For what matches nothing else.
    pub(super) fallback: Option<Rule>,
    /// The first for a name has it.
    pub(super) certificates: Vec<CertificateUse>,
}

/// Which hosts. Names are in lower case and without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostPattern {
    Any,
    /// `*.example.com`, kept as `example.com`: one label, any label, before it.
    Wildcard(Box<str>),
    Exact(Box<str>),
}

impl HostPattern {
    /// The pattern as users write it; nothing is any host.
    #[must_use]
    pub(super) fn parse(text: &str) -> Self {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match name.strip_prefix("*.") {
            _ if name.is_empty() => Self::Any,
            Some(suffix) => Self::Wildcard(suffix.into()),
            None => Self::Exact(name.into()),
        }
    }
}

/// What is served under a host. Requests that match no rule have the fallback, if there is one, and
/// else that of the model: never the rules of a less specific host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostRules {
    /// No two match the same paths.
    pub(super) rules: BTreeMap<PathMatch, Rule>,
    pub(super) fallback: Option<Rule>,
}

/// Which paths, in normal form (see [`normal_path`](super::target::normal_path)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathMatch {
    Exact(Box<[u8]>),
    /// By element: without a slash at the end, and so empty for all paths.
    Prefix(Box<[u8]>),
}

/// What becomes of requests that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) target: Target,
    pub(super) settings: Arc<Settings>,
    /// The object that asks for this, for logs and measurements.
    pub(super) source: ObjectKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Backend(BackendId),
    /// It cannot be served, for this reason.
    Nothing(Arc<str>),
}

/// A group of endpoints: those of one port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BackendId {
    pub(super) service: ObjectKey,
    /// The name of the Service's port; empty where it has none.
    pub(super) port: String,
}

/// How requests of a rule are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Who comes without TLS is told to come with it.
    pub(super) redirects_to_https: bool,
    /// `None`: what the endpoints say of themselves.
    pub(super) protocol: Option<Protocol>,
    pub(super) timeouts: Timeouts,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Protocol {
    #[default]
    Http1,
    /// Without TLS, as gRPC has it.
    Http2,
    Https1,
    Https2,
}

impl Protocol {
    /// What `appProtocol` of a port says, with the names that Kubernetes gives (KEP-3726) and those
    /// that meshes have made usual.
    #[must_use]
    pub(super) fn of_port(name: &str) -> Self {
        match name {
            "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Self::Http2,
            "https" | "kubernetes.io/wss" => Self::Https1,
            "grpcs" => Self::Https2,
            _ => Self::Http1,
        }
    }

    #[must_use]
    pub(super) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Https2)
    }

    #[must_use]
    pub(super) fn has_tls(self) -> bool {
        matches!(self, Self::Https1 | Self::Https2)
    }
}

/// How long an endpoint may take, as far as somebody says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// To accept a connection; then another is tried.
    pub(super) connect: Option<Duration>,
    /// Until the answer begins, and between any two parts of it.
    pub(super) read: Option<Duration>,
    /// Between any two parts of a request.
    pub(super) send: Option<Duration>,
}

/// A certificate, and for whom it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateUse {
    /// `None`: for the names that are in it.
    pub(super) hosts: Option<HostPattern>,
    pub(super) secret: ObjectKey,
}
