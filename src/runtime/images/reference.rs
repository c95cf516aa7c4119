//! Image references: what people write and what it stands for.
//!
//! Normalised as Docker does it (distribution/reference v0.6, `ParseDockerRef`): no registry means
//! `docker.io`, a single name there is below `library/`, no tag means `latest`, and a digest makes
//! the tag beside it void.

use super::super::error::PullError;
use super::digest::Digest;
use std::fmt;
use std::str::FromStr;

/// The registry of names that have none.
pub(super) const DEFAULT_REGISTRY: &str = "docker.io";
/// What people with old habits call [`DEFAULT_REGISTRY`].
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
/// Where official images of [`DEFAULT_REGISTRY`] are.
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// A longer tag is refused, as by registries.
const TAG_BYTES_MAX: usize = 128;
/// A longer name (registry and repository) is refused, as by registries.
const NAME_BYTES_MAX: usize = 255;

/// A normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

/// Which image of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// The host, with its port where it has one: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Registry and repository: `docker.io/library/nginx`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at a digest.
    #[must_use]
    pub fn at_digest(&self, digest: &Digest) -> Self {
        Self { version: Version::Digest(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(formatter, ":{tag}"),
            Version::Digest(digest) => write!(formatter, "@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = PullError;

    fn from_str(text: &str) -> Result<Self, PullError> {
        parse(text).map_err(|why| PullError::BadReference { reference: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("it contains {odd:?}"));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("it starts with `{scheme}://`; leave that out"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            (rest, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?))
        }
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, path) = split_registry(name);
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{OFFICIAL_PREFIX}{path}")
    } else {
        path.to_owned()
    };
    check_registry(registry)?;
    check_repository(&repository, path)?;
    if registry.len() + 1 + repository.len() > NAME_BYTES_MAX {
        return Err(format!("its name is longer than {NAME_BYTES_MAX} characters"));
    }
    if digest.is_none() && tag.is_none() && looks_like_a_digest(name) {
        return Err("64 hexadecimal digits are an image id and not a name".to_owned());
    }
    let version = match digest {
        Some(digest) => Version::Digest(digest),
        None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
    };
    Ok(Reference { registry: registry.to_owned(), repository, version })
}

/// The tag is what follows the last colon, unless that colon belongs to a port.
fn split_tag(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    }
}

/// The first part is a registry when it could not be a repository: it has a dot, a colon or a
/// capital, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    let Some((first, path)) = name.split_once('/') else {
        return (DEFAULT_REGISTRY, name);
    };
    let is_registry = first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|byte| byte.is_ascii_uppercase());
    match first {
        LEGACY_DEFAULT_REGISTRY => (DEFAULT_REGISTRY, path),
        _ if is_registry => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = tag.bytes().next().is_some_and(word)
        && tag.len() <= TAG_BYTES_MAX
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    match (tag.is_empty(), fits) {
        (true, _) => Err("its tag is empty".to_owned()),
        (false, true) => Ok(()),
        (false, false) => Err(format!(
            "tag `{tag}` must be at most {TAG_BYTES_MAX} letters, digits, `_`, `.` and `-`, and start with none of the last two"
        )),
    }
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = split_port(registry);
    if let Some(port) = port
        && (port.is_empty() || port.parse::<u16>().is_err())
    {
        return Err(format!("registry `{registry}` has the bad port `{port}`"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    if is_v6 || host.split('.').all(label) {
        Ok(())
    } else {
        Err(format!("registry `{registry}` is not a host name"))
    }
}

/// `host:port` apart; brackets of an IPv6 address stay.
fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    }
}

/// `as_written` is what an error names: without the `library/` that nobody wrote.
fn check_repository(repository: &str, as_written: &str) -> Result<(), String> {
    if as_written.is_empty() {
        return Err("it has no repository".to_owned());
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("repository `{as_written}` must be in small letters"));
    }
    for part in repository.split('/') {
        if part.is_empty() {
            return Err(format!("repository `{as_written}` has an empty part"));
        }
        if !is_path_component(part) {
            return Err(format!(
                "`{part}` in repository `{as_written}` must be small letters and digits with single `.`, `_`, `__` or dashes between"
            ));
        }
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = part.bytes().next().is_some_and(letter) && part.bytes().last().is_some_and(letter);
    let mut separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    edges
        && separators.all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn looks_like_a_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match text.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(PullError::BadReference { reference, why }) => {
                assert_eq!(reference, text);
                format!("no: {why}")
            }
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn references_are_normalised() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("a/b/c", "docker.io/a/b/c:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("quay.io/a/b:v1", "quay.io/a/b:v1"),
            ("10.0.0.1:5000/a:b", "10.0.0.1:5000/a:b"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("[2001:db8::1]/a", "[2001:db8::1]/a:latest"),
            ("Registry/a", "Registry/a:latest"),
            (
                "registry.example:443/a--b/c__d/e.f_g:T_1.x-",
                "registry.example:443/a--b/c__d/e.f_g:T_1.x-",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
            assert_eq!(shown(expected), expected, "a normal form stays as it is");
        }
        for text in [format!("a@{digest}"), format!("a:tag@{digest}")] {
            assert_eq!(shown(&text), format!("docker.io/library/a@{digest}"), "{text}");
        }
    }

    #[test]
    fn a_bad_reference_names_the_problem() {
        for (text, expected) in [
            ("", "no: it is empty"),
            ("a b", "no: it contains ' '"),
            ("ä", "no: it contains 'ä'"),
            ("https://x.io/a", "no: it starts with `https://`; leave that out"),
            ("nginx:", "no: its tag is empty"),
            ("Nginx", "no: repository `Nginx` must be in small letters"),
            ("x.io/", "no: it has no repository"),
            ("x.io//a", "no: repository `/a` has an empty part"),
            (
                "a/../b",
                "no: `..` in repository `a/../b` must be small letters and digits with single `.`, `_`, `__` or dashes between",
            ),
            ("x.io:99999/a", "no: registry `x.io:99999` has the bad port `99999`"),
            ("-x.io/a", "no: registry `-x.io` is not a host name"),
            ("a@sha256:00", "no: `00` is not 64 hexadecimal digits in small letters"),
            (
                "a@tag",
                "no: `tag` has no algorithm; a digest looks like sha256:<64 hexadecimal digits>",
            ),
            (
                "a:-b",
                "no: tag `-b` must be at most 128 letters, digits, `_`, `.` and `-`, and start with none of the last two",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(
            shown(&"ab".repeat(32)),
            "no: 64 hexadecimal digits are an image id and not a name"
        );
        let long = format!("x.io/{}", "a".repeat(260));
        assert_eq!(shown(&long), "no: its name is longer than 255 characters");
    }

    proptest! {
        #[test]
        fn whatever_parses_is_a_fixed_point(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let normal = reference.to_string();
                prop_assert_eq!(normal.parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn parts_survive_normalisation(
            registry in "[a-z][a-z0-9]{0,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?",
            repository in "[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,3}",
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        ) {
            prop_assume!(registry != DEFAULT_REGISTRY);
            let reference: Reference = format!("{registry}/{repository}:{tag}").parse().unwrap();
            prop_assert_eq!(reference.registry(), registry);
            prop_assert_eq!(reference.repository(), repository);
            prop_assert_eq!(reference.version(), &Version::Tag(tag));
        }
    }
}
