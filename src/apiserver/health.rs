//! `/healthz`, `/livez`, `/readyz` and their single checks, and `/version`.
//!
//! Start at [`CHECKS`]. Words and codes are upstream's (`handleRootHealth`, apiserver
//! pkg/server/healthz/healthz.go, v1.35). What upstream begins after its start and is begun here as
//! well has its check by the same name.

use super::encoding::json_response;
use super::query::Query;
use super::server::Server;
use crate::stdx::http::{Response, full};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// The Kubernetes version that the API is that of, and ours behind the plus.
pub const GIT_VERSION: &str = concat!("v1.35.0+kinglet", env!("CARGO_PKG_VERSION_MAJOR"));

/// Something that has to be well.
#[derive(Debug)]
struct Check {
    name: &'static str,
    of: &'static [Endpoint],
    run: fn(&Server) -> Result<(), String>,
}

/// Where health is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Healthz,
    Livez,
    Readyz,
}
use Endpoint::{Healthz, Livez, Readyz};

const ENDPOINTS: [Endpoint; 3] = [Healthz, Livez, Readyz];
/// Where everything is asked for that lasts.
const ALL: &[Endpoint] = &ENDPOINTS;

/// How the name of something begins that is done once, when the server begins.
const HOOK: &str = "poststarthook/";

/// In upstream's order. Not there are those of the aggregator.
const CHECKS: [Check; 20] = [
    Check { name: "ping", of: ALL, run: |_| Ok(()) },
    // Who is answered has not waited for the log, which is written at once.
    Check { name: "log", of: ALL, run: |_| Ok(()) },
    Check { name: "etcd", of: ALL, run: store },
    Check { name: "etcd-readiness", of: &[Readyz], run: store },
    Check { name: "informer-sync", of: &[Readyz], run: informers },
    hook("poststarthook/start-apiserver-admission-initializer", followed),
    hook("poststarthook/generic-apiserver-start-informers", followed),
    hook("poststarthook/priority-and-fairness-config-consumer", followed),
    // Definitions are read when somebody asks for something of theirs: who is served knows them all.
    hook("poststarthook/start-apiextensions-informers", fixtures),
    hook("poststarthook/start-apiextensions-controllers", fixtures),
    hook("poststarthook/crd-informer-synced", fixtures),
    hook("poststarthook/bootstrap-controller", fixtures),
    hook("poststarthook/priority-and-fairness-config-producer", fixtures),
    hook("poststarthook/rbac/bootstrap-roles", roles),
    hook("poststarthook/scheduling/bootstrap-system-priority-classes", fixtures),
    hook("poststarthook/start-service-ip-repair-controllers", fixtures),
    hook("poststarthook/start-system-namespaces-controller", fixtures),
    hook("poststarthook/kube-apiserver-autoregistration", fixtures),
    Check { name: "autoregister-completion", of: ALL, run: fixtures },
    Check { name: "shutdown", of: &[Readyz], run: shutdown },
];

/// The check of something that is done once.
const fn hook(name: &'static str, run: fn(&Server) -> Result<(), String>) -> Check {
    Check { name, of: ALL, run }
}

impl Check {
    /// How it is. A server that is beginning lives: what it has not done yet, it will have done
    /// (upstream `delayedHealthCheck` with `--livez-grace-period`, apiserver pkg/server/healthz.go,
    /// v1.35; ours is without end, as nothing here waits for anybody else).
    fn outcome(&self, server: &Server, endpoint: Endpoint) -> Result<(), String> {
        if endpoint == Livez && self.begins() { Ok(()) } else { (self.run)(server) }
    }

    /// Whether it is about something that is done once.
    fn begins(&self) -> bool {
        self.name.starts_with(HOOK) || self.name == "autoregister-completion"
    }
}

/// By the name under which clients of upstream know it.
fn store(server: &Server) -> Result<(), String> {
    if server.store.ended().is_cancelled() { Err("the store has ended".to_owned()) } else { Ok(()) }
}

/// What the server keeps of its own objects, to decide by.
fn informers(server: &Server) -> Result<(), String> {
    let missing = server.informers.iter().filter(|(_, seen)| !seen.is_begun());
    let missing: Vec<_> = missing.map(|(prefix, _)| *prefix).collect();
    match missing.len() {
        0 => Ok(()),
        count => Err(format!("{count} informers not started yet: [{}]", missing.join(" "))),
    }
}

fn followed(server: &Server) -> Result<(), String> {
    finished(informers(server).is_ok())
}

fn fixtures(server: &Server) -> Result<(), String> {
    finished(server.has_fixtures())
}

fn roles(server: &Server) -> Result<(), String> {
    finished(server.is_ready())
}

fn finished(is_finished: bool) -> Result<(), String> {
    if is_finished { Ok(()) } else { Err("not finished".to_owned()) }
}

fn shutdown(server: &Server) -> Result<(), String> {
    if server.closing.is_cancelled() {
        return Err("process is shutting down".to_owned());
    }
    Ok(())
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }

    /// Its checks, with where they are in the table.
    fn checks(self) -> impl Iterator<Item = (usize, &'static Check)> {
        const TABLE: &[Check] = &CHECKS;
        TABLE.iter().enumerate().filter(move |(_, check)| check.of.contains(&self))
    }
}

/// Where all of them and single ones are asked for.
pub(super) fn paths() -> impl Iterator<Item = String> {
    ENDPOINTS.into_iter().flat_map(|endpoint| {
        let of_check =
            move |(_, check): (usize, &Check)| format!("/{}/{}", endpoint.name(), check.name);
        std::iter::once(format!("/{}", endpoint.name())).chain(endpoint.checks().map(of_check))
    })
}

/// How often checks were asked for, and how that ended.
#[derive(Debug, Default)]
pub(super) struct HealthTally([[Results; CHECKS.len()]; ENDPOINTS.len()]);

#[derive(Debug, Default)]
struct Results {
    well: AtomicU64,
    unwell: AtomicU64,
}

/// A check, how it is, and how it was when somebody asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckSeen {
    /// `healthz`, `livez` or `readyz`.
    pub(super) endpoint: &'static str,
    pub(super) name: &'static str,
    pub(super) is_well: bool,
    pub(super) well_count: u64,
    pub(super) unwell_count: u64,
}

/// Every check of every endpoint, as it is now.
pub(super) fn checks(server: &Server) -> Vec<CheckSeen> {
    let seen = |endpoint: Endpoint, (index, check): (usize, &Check)| {
        let Results { well, unwell } = &server.tally.health.0[endpoint as usize][index];
        CheckSeen {
            endpoint: endpoint.name(),
            name: check.name,
            is_well: check.outcome(server, endpoint).is_ok(),
            well_count: well.load(Ordering::Relaxed),
            unwell_count: unwell.load(Ordering::Relaxed),
        }
    };
    let of = |endpoint: Endpoint| endpoint.checks().map(move |check| seen(endpoint, check));
    ENDPOINTS.into_iter().flat_map(of).collect()
}

/// Runs a check because somebody has asked for it.
fn run(server: &Server, endpoint: Endpoint, (index, check): (usize, &Check)) -> Result<(), String> {
    let outcome = check.outcome(server, endpoint);
    let Results { well, unwell } = &server.tally.health.0[endpoint as usize][index];
    let count = if outcome.is_ok() { well } else { unwell };
    count.fetch_add(1, Ordering::Relaxed);
    outcome
}

/// What ComponentStatuses tell of: the parts of the control plane by the names that upstream has for
/// them, and what is wrong with each. Those of this process are well as long as it is.
pub(super) fn components(server: &Server) -> Vec<(&'static str, Result<(), String>)> {
    let beside = server.config.components.iter().map(|name| (*name, Ok(())));
    beside.chain([("etcd-0", store(server))]).collect()
}

/// Answers if this is one of those paths.
pub(super) fn answer(server: &Server, path: &str, query: &Query) -> Option<Response> {
    if path == "/version" {
        return Some(json_response(StatusCode::OK, version().to_string()));
    }
    let path = path.get(1..)?;
    let (name, wanted) = match path.split_once('/') {
        Some((name, wanted)) => (name, Some(wanted)),
        None => (path, None),
    };
    let endpoint = ENDPOINTS.into_iter().find(|endpoint| endpoint.name() == name)?;
    let Some(wanted) = wanted else { return Some(all(server, endpoint, query)) };
    let check = endpoint.checks().find(|(_, check)| check.name == wanted)?;
    Some(match run(server, endpoint, check) {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(why) => {
            let message = format!("internal server error: {why}\n");
            text(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    })
}

/// Runs every check that is not excluded; lists them where asked or where one fails.
fn all(server: &Server, endpoint: Endpoint, query: &Query) -> Response {
    let excluded: BTreeSet<_> = query.all("exclude").collect();
    let mut unknown = excluded.clone();
    let mut lines = String::new();
    let mut failed = false;
    for (index, check) in endpoint.checks() {
        let name = check.name;
        let line = if excluded.contains(name) {
            unknown.remove(name);
            format!("[+]{name} excluded: ok\n")
        } else if run(server, endpoint, (index, check)).is_ok() {
            format!("[+]{name} ok\n")
        } else {
            // Anybody may ask here: why, is told at the check's own path.
            failed = true;
            format!("[-]{name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    if !unknown.is_empty() {
        let quoted: Vec<_> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let quoted = quoted.join(",");
        let warning = "warn: some health checks cannot be excluded: no matches for";
        lines.push_str(&format!("{warning} {quoted}\n"));
    }
    let name = endpoint.name();
    if failed {
        lines.push_str(&format!("{name} check failed\n"));
        return text(StatusCode::INTERNAL_SERVER_ERROR, lines);
    }
    if query.get("verbose").is_some() {
        lines.push_str(&format!("{name} check passed\n"));
        return text(StatusCode::OK, lines);
    }
    text(StatusCode::OK, "ok".to_owned())
}

fn text(code: StatusCode, body: String) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let nosniff = HeaderName::from_static("x-content-type-options");
    headers.insert(nosniff, HeaderValue::from_static("nosniff"));
    response
}

fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": "35",
        "emulationMajor": "1",
        "emulationMinor": "35",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "34",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// This machine's architecture by the name Go has for it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
