//! Which credentials of a pod's imagePullSecrets are for an image.
//!
//! Upstream pkg/credentialprovider/keyring.go and config.go (v1.35): the longest matching place
//! first, `*` stands for part of a host's name. Pure.

use crate::runtime::Credentials;
use crate::runtime::images::Reference;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One entry of a Docker configuration.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    username: String,
    password: String,
    /// `username:password` in base64; goes before the two.
    auth: String,
}

type Entries = BTreeMap<String, Entry>;

/// A `kubernetes.io/dockerconfigjson`.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: Entries,
}

/// The credentials for an image, those of the most specific place first.
#[must_use]
pub fn credentials_for(image: &Reference, secrets: &[&Secret]) -> Vec<Credentials> {
    let entries = secrets.iter().flat_map(|secret| entries(secret));
    let mut matching: Vec<_> = entries.filter(|(place, _)| covers(place, image)).collect();
    // Stable: the pod's own order decides among equals.
    matching.sort_by(|(left, _), (right, _)| right.cmp(left));
    let mut credentials: Vec<Credentials> = Vec::new();
    for (_, entry) in matching {
        let found = read(entry);
        credentials.extend(found.filter(|found| !credentials.contains(found)));
    }
    credentials
}

/// What is no configuration has no entries: the pod then pulls without credentials, as upstream's.
fn entries(secret: &Secret) -> Vec<(String, Entry)> {
    let data = secret.data.as_ref();
    let bytes = |key| data.and_then(|data| Some(data.get(key)?.0.as_slice()));
    let entries: Entries = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            let config = bytes(".dockerconfigjson").and_then(|it| serde_json::from_slice(it).ok());
            config.map(|config: DockerConfig| config.auths).unwrap_or_default()
        }
        Some("kubernetes.io/dockercfg") => {
            bytes(".dockercfg").and_then(|it| serde_json::from_slice(it).ok()).unwrap_or_default()
        }
        _ => Entries::new(),
    };
    entries.into_iter().map(|(place, entry)| (normalised(&place), entry)).collect()
}

/// `https://index.docker.io/v1/` -> `docker.io`, `http://host:5000/team/` -> `host:5000/team`.
fn normalised(place: &str) -> String {
    let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://"));
    let bare = bare.unwrap_or(place);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host =
        if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    let path = path.trim_end_matches('/');
    let path = match path.split_once('/').unwrap_or((path, "")) {
        ("v1" | "v2", rest) => rest,
        _ => path,
    };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// Whether a place, with its globs, is the image's registry and the beginning of its repository.
fn covers(place: &str, image: &Reference) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let (name, port) = host_and_port(host);
    let (image_name, image_port) = host_and_port(image.registry());
    let parts = |name: &str| name.split('.').count();
    let same_host = parts(name) == parts(image_name)
        && name.split('.').zip(image_name.split('.')).all(|(glob, part)| glob_covers(glob, part));
    same_host && port == image_port && image.repository().starts_with(path)
}

fn host_and_port(host: &str) -> (&str, Option<&str>) {
    host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)))
}

/// `*` stands for any characters.
fn glob_covers(glob: &str, text: &str) -> bool {
    let Some((before, after)) = glob.split_once('*') else {
        return glob.eq_ignore_ascii_case(text);
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    let mut tails = rest.char_indices().map(|(at, _)| &rest[at..]).chain([""]);
    tails.any(|tail| glob_covers(after, tail))
}

fn read(entry: Entry) -> Option<Credentials> {
    let decoded = STANDARD.decode(entry.auth.trim()).ok().filter(|bytes| !bytes.is_empty());
    let (username, password) = match decoded {
        Some(bytes) => {
            let text = String::from_utf8(bytes).ok()?;
            let (username, password) = text.split_once(':')?;
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => (entry.username, entry.password),
    };
    (!username.is_empty() || !password.is_empty()).then_some(Credentials { username, password })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn secret(kind: &str, key: &str, config: &Value) -> Secret {
        let data = STANDARD.encode(config.to_string());
        let type_ = format!("kubernetes.io/{kind}");
        serde_json::from_value(json!({ "type": type_, "data": { key: data } })).unwrap()
    }

    /// The users in the order in which they are tried, for entries whose user is their place.
    #[track_caller]
    fn check(places: &[&str], image: &str, expected: &[&str]) {
        let entry =
            |place: &&str| ((*place).to_owned(), json!({ "username": place, "password": "p" }));
        let auths: serde_json::Map<_, _> = places.iter().map(entry).collect();
        let secret = secret("dockerconfigjson", ".dockerconfigjson", &json!({ "auths": auths }));
        let found = credentials_for(&image.parse().unwrap(), &[&secret]);
        let users: Vec<_> = found.iter().map(|it| it.username.as_str()).collect();
        assert_eq!(users, expected, "{places:?} for {image}");
    }

    #[test]
    fn places_cover_their_images() {
        check(&["https://index.docker.io/v1/"], "nginx", &["https://index.docker.io/v1/"]);
        check(&["docker.io"], "nginx", &["docker.io"]);
        check(&["docker.io/team"], "docker.io/team/web:1", &["docker.io/team"]);
        check(&["docker.io/team"], "nginx", &[]);
        check(&["registry.example.com"], "registry.example.com/a/b", &["registry.example.com"]);
        check(
            &["http://registry.example.com/"],
            "registry.example.com/a",
            &["http://registry.example.com/"],
        );
        check(&["registry.example.com"], "registry.example.com:5000/a", &[]);
        check(&["host:5000"], "host:5000/a", &["host:5000"]);
        check(&["*.example.com"], "registry.example.com/a", &["*.example.com"]);
        check(&["*.example.com"], "example.com/a", &[]);
        check(&["reg*.ex*le.com"], "registry.example.com/a", &["reg*.ex*le.com"]);
        check(&["*.com"], "registry.example.com/a", &[]);
        check(&["other.example.com"], "registry.example.com/a", &[]);
    }

    #[test]
    fn the_longest_place_goes_first() {
        check(
            &["r.example.com", "r.example.com/a"],
            "r.example.com/a/b",
            &["r.example.com/a", "r.example.com"],
        );
    }

    #[test]
    fn both_forms_of_secrets_and_of_credentials_are_read() {
        let auth = STANDARD.encode("user:pa:ss");
        let old = secret("dockercfg", ".dockercfg", &json!({ "r.example.com": { "auth": auth } }));
        let image = "r.example.com/a".parse().unwrap();
        let found = credentials_for(&image, &[&old]);
        assert_eq!((found[0].username.as_str(), found[0].password.as_str()), ("user", "pa:ss"));
        let broken = secret("dockerconfigjson", ".dockerconfigjson", &json!([1]));
        let other = secret("other", ".dockercfg", &json!({}));
        assert!(credentials_for(&image, &[&broken, &other]).is_empty());
        assert_eq!(credentials_for(&image, &[&old, &old]).len(), 1);
    }
}
