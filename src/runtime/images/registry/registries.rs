//! `registries.yaml`, in k3s's format: mirrors, credentials and certificates.
//!
//! What an entry means follows k3s v1.32 (pkg/agent/containerd/config.go, `getHostConfigs`). Unlike
//! there, a key that means nothing is refused: a mistyped mirror is otherwise found out by a bill.

use base64::Engine as _;
use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Stands for every host that has no entry of its own.
const WILDCARD: &str = "*";
/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Who stands in for which registry, and how to be let in where.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    hosts: BTreeMap<String, Host>,
}

/// Endpoints that are asked before the registry itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    pub(super) endpoints: Vec<String>,
    rewrites: Vec<(Regex, String)>,
}

/// What is needed to talk to one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) login: Option<Login>,
    pub(super) tls: Option<Tls>,
}

/// A way to be let in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Password {
        username: String,
        password: String,
    },
    /// Exchanged for an access token (OAuth 2).
    IdentityToken(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { username, .. } => write!(formatter, "Password({username}, ...)"),
            Self::IdentityToken(_) => formatter.write_str("IdentityToken(...)"),
        }
    }
}

/// How the connection to a host is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) insecure_skip_verify: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawFile {
    mirrors: Option<BTreeMap<String, Option<RawMirror>>>,
    configs: Option<BTreeMap<String, Option<RawHost>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMirror {
    endpoint: Option<Vec<String>>,
    rewrite: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHost {
    auth: Option<RawAuth>,
    tls: Option<Tls>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAuth {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
}

impl Registries {
    /// Reads the file, which may be absent.
    ///
    /// # Errors
    /// With what is wrong, for whoever wrote the file.
    pub fn load(path: &Path) -> Result<Self, String> {
        let named = |why: String| format!("{}: {why}", path.display());
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(named(error.to_string())),
        };
        Self::parse(&text).map_err(named)
    }

    /// Understands the contents of the file.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
            return Ok(Self::default());
        }
        let raw: RawFile = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut registries = Self::default();
        for (name, mirror) in raw.mirrors.unwrap_or_default() {
            let mirror = parse_mirror(mirror.unwrap_or_default())
                .map_err(|why| format!("mirrors.{name}: {why}"))?;
            registries.mirrors.insert(name, mirror);
        }
        for (name, host) in raw.configs.unwrap_or_default() {
            let host = parse_host(host.unwrap_or_default())
                .map_err(|why| format!("configs.{name}: {why}"))?;
            registries.hosts.insert(name, host);
        }
        Ok(registries)
    }

    pub(super) fn mirror(&self, registry: &str) -> Option<&Mirror> {
        self.mirrors.get(registry).or_else(|| self.mirrors.get(WILDCARD))
    }

    /// What is set for a host, by any of the names it goes by.
    pub(super) fn host<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Host {
        let found = names.into_iter().find_map(|name| self.hosts.get(name));
        found.or_else(|| self.hosts.get(WILDCARD)).cloned().unwrap_or_default()
    }
}

impl Registries {
    /// How to connect to the host of an address that a registry named.
    pub(super) fn tls(&self, uri: &http::Uri) -> Option<Tls> {
        let authority = uri.authority()?;
        self.host([authority.as_str(), authority.host()]).tls
    }
}

impl Mirror {
    /// What a repository is called at the mirror: by the first rule that changes it.
    pub(super) fn rewrite(&self, repository: &str) -> String {
        self.rewrites
            .iter()
            .map(|(pattern, replacement)| pattern.replace_all(repository, replacement))
            .find(|rewritten| rewritten != repository)
            .map_or_else(|| repository.to_owned(), std::borrow::Cow::into_owned)
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse_mirror(raw: RawMirror) -> Result<Mirror, String> {
    let endpoints = raw.endpoint.unwrap_or_default();
    for endpoint in &endpoints {
        super::endpoint::Address::parse(endpoint)
            .map_err(|why| format!("endpoint `{endpoint}`: {why}"))?;
    }
    let rewrites = raw.rewrite.unwrap_or_default().into_iter().map(|(pattern, replacement)| {
        let regex = Regex::new(&pattern).map_err(|error| format!("rewrite `{pattern}`: {error}"));
        Ok((regex?, replacement))
    });
    Ok(Mirror { endpoints, rewrites: rewrites.collect::<Result<_, String>>()? })
}

fn parse_host(raw: RawHost) -> Result<Host, String> {
    let login = raw.auth.map(parse_login).transpose()?.flatten();
    let tls = raw.tls.unwrap_or_default();
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        return Err("tls.cert_file and tls.key_file only go together".to_owned());
    }
    Ok(Host { login, tls: (tls != Tls::default()).then_some(tls) })
}

fn parse_login(raw: RawAuth) -> Result<Option<Login>, String> {
    if !raw.identity_token.is_empty() {
        return Ok(Some(Login::IdentityToken(raw.identity_token)));
    }
    if !raw.username.is_empty() {
        return Ok(Some(Login::Password { username: raw.username, password: raw.password }));
    }
    if raw.auth.is_empty() {
        return Ok(None);
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(&raw.auth)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.ok_or("auth.auth is not `username:password` in base64")?;
    // Docker's own files end the password with a zero byte at times; containerd cuts it as well.
    let password = password.trim_matches('\0').to_owned();
    Ok(Some(Login::Password { username: username.to_owned(), password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_understood() {
        let registries = Registries::parse(
            r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000", "localhost:5001/v2/prefix"]
    rewrite:
      "^library/(.*)": "hub/$1"
  "*":
    endpoint:
      - http://any.example
configs:
  "mirror.example:5000":
    auth: {username: user, password: secret}
    tls:
      ca_file: /ca.pem
      insecure_skip_verify: true
  b64.example:
    auth: {auth: dXNlcjpwYXNz}
  token.example:
    auth: {identity_token: abc}
  empty.example:
"#,
        )
        .unwrap();
        let mirror = registries.mirror("docker.io").unwrap();
        assert_eq!(mirror.endpoints.len(), 2);
        assert_eq!(mirror.rewrite("library/nginx"), "hub/nginx");
        assert_eq!(mirror.rewrite("bitnami/redis"), "bitnami/redis");
        assert_eq!(registries.mirror("quay.io").unwrap().endpoints, ["http://any.example"]);
        let host = registries.host(["other.example", "mirror.example:5000"]);
        assert_eq!(format!("{:?}", host.login), "Some(Password(user, ...))");
        assert!(host.tls.unwrap().insecure_skip_verify);
        let login = registries.host(["b64.example"]).login.unwrap();
        let expected = ("user".to_owned(), "pass".to_owned());
        assert_eq!(login, Login::Password { username: expected.0, password: expected.1 });
        let login = registries.host(["token.example"]).login;
        assert_eq!(login, Some(Login::IdentityToken("abc".to_owned())));
        assert_eq!(registries.host(["empty.example"]), Host::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("mirror: {}", "unknown field `mirror`"),
            ("mirrors: {a: {endpoints: []}}", "unknown field `endpoints`"),
            ("mirrors: {a: {endpoint: ['ftp://x']}}", "mirrors.a: endpoint `ftp://x`: "),
            ("mirrors: {a: {rewrite: {'(': ''}}}", "mirrors.a: rewrite `(`: "),
            ("configs: {a: {auth: {auth: '!'}}}", "configs.a: auth.auth is not"),
            ("configs: {a: {tls: {cert_file: x}}}", "configs.a: tls.cert_file and tls.key_file"),
            ("- a", "expected"),
        ] {
            let why = Registries::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
        for empty in ["", "# nothing\n\n", "mirrors:\nconfigs:\n"] {
            assert!(Registries::parse(empty).unwrap().mirror("a").is_none());
        }
        assert!(Registries::load(Path::new("/nowhere/registries.yaml")).is_ok());
    }
}
