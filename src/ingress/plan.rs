//! The decision what Ingresses ask for: one [`Model`] of all of them.
//!
//! Where two ask for the same, the older has it. What cannot be served is told as a problem and
//! answered as such; it never takes anything from others.

use super::annotations;
use super::model::{
    BackendId, CertificateUse, HostPattern, HostRules, Model, PathMatch, Rule, Settings, Target,
};
use super::target::normal_path;
use crate::api::ObjectKey;
use crate::api::ingress::{is_served, secrets, served_classes};
use crate::client::key_of;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressRule, IngressServiceBackend,
    IngressSpec,
};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that the decision may depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) ingresses: Vec<Arc<Ingress>>,
    pub(super) classes: Vec<Arc<IngressClass>>,
    /// Those that the Ingresses name, as far as they are there.
    pub(super) services: BTreeMap<ObjectKey, Arc<Service>>,
}

/// What is to be served, and what it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) model: Model,
    /// Whose endpoints are to be known.
    pub(super) backends: BTreeSet<BackendId>,
    /// Which certificates are to be known.
    pub(super) secrets: BTreeSet<ObjectKey>,
    /// What cannot be served as it is asked for.
    pub(super) problems: BTreeSet<(ObjectKey, String)>,
}

#[must_use]
pub(super) fn plan(observed: &Observed) -> Planned {
    let served = served_classes(observed.classes.iter().map(|class| &**class));
    let mut ingresses: Vec<&Ingress> =
        observed.ingresses.iter().map(|it| &**it).filter(|it| is_served(it, &served)).collect();
    ingresses.sort_by_cached_key(|ingress| {
        let created = ingress.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, key_of(&ingress.metadata))
    });
    let mut planned = Planned::default();
    // For what matches nothing at all: whoever asks for nothing else goes first.
    let (mut only_default, mut besides) = (None, None);
    for ingress in ingresses {
        let Some(spec) = &ingress.spec else { continue };
        let has_rules = spec.rules.as_ref().is_some_and(|rules| !rules.is_empty());
        let default = Reading::new(ingress, spec, &observed.services).into_plan(&mut planned);
        let place = if has_rules { &mut besides } else { &mut only_default };
        *place = place.take().or(default);
    }
    planned.model.fallback = only_default.or(besides);
    planned
}

/// One Ingress that is being read.
struct Reading<'a> {
    key: ObjectKey,
    ingress: &'a Ingress,
    spec: &'a IngressSpec,
    services: &'a BTreeMap<ObjectKey, Arc<Service>>,
    /// For hosts with a certificate, and for those without.
    with_certificate: Arc<Settings>,
    without: Arc<Settings>,
    problems: Vec<String>,
}

impl<'a> Reading<'a> {
    fn new(
        ingress: &'a Ingress,
        spec: &'a IngressSpec,
        services: &'a BTreeMap<ObjectKey, Arc<Service>>,
    ) -> Self {
        let read = annotations::read(ingress.metadata.annotations.as_ref());
        let without = Settings { redirects_to_https: read.redirects_all, ..read.settings.clone() };
        let with_certificate = Settings {
            redirects_to_https: read.settings.redirects_to_https || read.redirects_all,
            ..read.settings
        };
        Self {
            key: key_of(&ingress.metadata),
            ingress,
            spec,
            services,
            with_certificate: Arc::new(with_certificate),
            without: Arc::new(without),
            problems: read.problems,
        }
    }

    /// Adds what the Ingress asks for, and returns what it has for all that matches nothing.
    fn into_plan(mut self, planned: &mut Planned) -> Option<Rule> {
        let spec = self.spec;
        let default = spec.default_backend.as_ref().map(|backend| self.target(backend, planned));
        for rule in spec.rules.iter().flatten() {
            self.take_rule(rule, default.as_ref(), planned);
        }
        planned.model.certificates.extend(self.certificates());
        planned.secrets.extend(secrets(self.ingress));
        let default = default.map(|target| self.rule(target, &HostPattern::Any));
        let problems = self.problems.into_iter().map(|problem| (self.key.clone(), problem));
        planned.problems.extend(problems);
        default
    }

    fn certificates(&self) -> Vec<CertificateUse> {
        let namespace = self.key.namespace.clone().unwrap_or_default();
        let mut uses = Vec::new();
        for tls in self.spec.tls.iter().flatten() {
            let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
                continue;
            };
            let secret = ObjectKey::namespaced(&*namespace, name);
            match tls.hosts.as_deref().unwrap_or_default() {
                [] => uses.push(CertificateUse { hosts: None, secret }),
                hosts => uses.extend(hosts.iter().map(|host| CertificateUse {
                    hosts: Some(HostPattern::parse(host)),
                    secret: secret.clone(),
                })),
            }
        }
        uses
    }

    fn take_rule(&mut self, rule: &IngressRule, default: Option<&Target>, planned: &mut Planned) {
        let host = HostPattern::parse(rule.host.as_deref().unwrap_or_default());
        let mut paths: Vec<_> = rule.http.iter().flat_map(|http| &http.paths).collect();
        // Of two that match the same, the one that is written longer goes first (`PathTypePrefix`).
        paths.sort_by_key(|path| Reverse(path.path.as_ref().map_or(0, String::len)));
        // A host without paths and without a default backend is no host of its own.
        if rule.http.is_none() && default.is_none() {
            return;
        }
        let mut found = Vec::new();
        for path in paths {
            let target = self.target(&path.backend, planned);
            found.push((path_match(path), self.rule(target, &host)));
        }
        let fallback = default.map(|target| self.rule(target.clone(), &host));
        let rules = planned.model.hosts.entry(host).or_default();
        for (path, rule) in found {
            self.add(rules, path, rule);
        }
        rules.fallback = rules.fallback.take().or(fallback);
    }

    fn add(&mut self, rules: &mut HostRules, path: PathMatch, rule: Rule) {
        match rules.rules.get(&path) {
            None => {
                rules.rules.insert(path, rule);
            }
            Some(first) if first.source == rule.source => {}
            Some(first) => {
                let (kind, text) = match &path {
                    PathMatch::Exact(path) => ("exact", String::from_utf8_lossy(path)),
                    PathMatch::Prefix(path) => ("prefix", String::from_utf8_lossy(path)),
                };
                let other = &first.source;
                self.problems.push(format!("{kind} path {text:?} is served by Ingress {other}"));
            }
        }
    }

    fn rule(&self, target: Target, host: &HostPattern) -> Rule {
        let settings =
            if self.has_certificate(host) { &self.with_certificate } else { &self.without };
        Rule { target, settings: Arc::clone(settings), source: self.key.clone() }
    }

    /// Whether the Ingress has a `tls` entry for the host; one without hosts is for all of them.
    fn has_certificate(&self, host: &HostPattern) -> bool {
        self.spec.tls.iter().flatten().any(|tls| {
            let hosts = tls.hosts.as_deref().unwrap_or_default();
            hosts.is_empty() || hosts.iter().any(|own| covers(&HostPattern::parse(own), host))
        })
    }

    fn target(&mut self, backend: &IngressBackend, planned: &mut Planned) -> Target {
        let found = match (&backend.service, &backend.resource) {
            (Some(service), _) => self.backend(service),
            (None, Some(resource)) => {
                let (kind, name) = (&resource.kind, &resource.name);
                Err(format!("backend {kind} {name}: only Services are served"))
            }
            (None, None) => Err("a backend names no Service".to_owned()),
        };
        match found {
            Ok(id) => {
                planned.backends.insert(id.clone());
                Target::Backend(id)
            }
            Err(problem) => {
                self.problems.push(problem.clone());
                Target::Nothing(problem.into())
            }
        }
    }

    fn backend(&self, wanted: &IngressServiceBackend) -> Result<BackendId, String> {
        let namespace = self.key.namespace.clone().unwrap_or_default();
        let key = ObjectKey::namespaced(namespace, &wanted.name);
        let service = self.services.get(&key);
        let service = service.ok_or_else(|| format!("there is no Service {key}"))?;
        let spec = service.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            return Err(format!("Service {key} is an ExternalName, which is not served"));
        }
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let port = wanted.port.clone().unwrap_or_default();
        let found = ports.iter().find(|own| match (&port.name, port.number) {
            (Some(name), _) if !name.is_empty() => own.name.as_ref() == Some(name),
            (_, number) => Some(own.port) == number,
        });
        let found = found.ok_or_else(|| {
            let number = port.number.map(|number| number.to_string());
            let port = port.name.filter(|name| !name.is_empty()).or(number).unwrap_or_default();
            format!("Service {key} has no port {port}")
        })?;
        Ok(BackendId { service: key, port: found.name.clone().unwrap_or_default() })
    }
}

/// Whether a certificate's pattern is good for all of a rule's.
fn covers(certificate: &HostPattern, host: &HostPattern) -> bool {
    match (certificate, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Wildcard(suffix), HostPattern::Exact(name)) => {
            name.split_once('.').is_some_and(|(_, rest)| *rest == **suffix)
        }
        (certificate, host) => certificate == host,
    }
}

fn path_match(path: &HTTPIngressPath) -> PathMatch {
    let written = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let text = match written.strip_suffix('*') {
        // As ALB and GCE have it; a star has no other meaning here.
        Some(rest) if path.path_type == "ImplementationSpecific" && rest.ends_with('/') => rest,
        _ => written,
    };
    // What has no normal form is compared as it is.
    let normal = normal_path(text.as_bytes()).unwrap_or(Cow::Borrowed(text.as_bytes()));
    match path.path_type.as_str() {
        "Exact" => PathMatch::Exact((*normal).into()),
        _ => PathMatch::Prefix(normal.strip_suffix(b"/").unwrap_or(&normal).into()),
    }
}

#[cfg(test)]
mod tests;
