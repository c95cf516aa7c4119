//! Reads a kubeconfig: where a server is, how to know it, and who to be there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the current context of a kubeconfig file says. Certificates and keys are PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// `https://127.0.0.1:6443`.
    pub server: String,
    pub certificate_authority: Vec<u8>,
    pub credentials: Credentials,
}

/// Who a client is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Anonymous,
    Certificate { chain: Vec<u8>, key: Vec<u8> },
    Token(String),
}

/// Why a kubeconfig is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a kubeconfig", path.display())]
    Parse { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("{}: there is no {what} named {name:?}", path.display())]
    Missing { path: PathBuf, what: &'static str, name: String },
    #[error("{}: {field} is not base64", path.display())]
    NotBase64 { path: PathBuf, field: &'static str, source: base64::DecodeError },
    #[error("{}: {problem}", path.display())]
    Unusable { path: PathBuf, problem: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

impl Kubeconfig {
    /// # Errors
    /// Where the file, or one that it names, cannot be read or says too little.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// As [`Kubeconfig::read`], of a text that was read already. Files that it names are relative
    /// to `path`, which is also what errors name.
    ///
    /// # Errors
    /// As for `read`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, KubeconfigError> {
        // Without a snippet of the text around the error: it may be a private key.
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|source| {
            KubeconfigError::Parse { path: path.to_owned(), source: Box::new(source) }
        })?;
        let missing = |what, name: &str| KubeconfigError::Missing {
            path: path.to_owned(),
            what,
            name: name.to_owned(),
        };
        let named = file.contexts.into_iter().find(|context| context.name == file.current_context);
        let context = named.ok_or_else(|| missing("context", &file.current_context))?.context;
        let named = file.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
        let cluster = named.ok_or_else(|| missing("cluster", &context.cluster))?.cluster;
        let named = file.users.into_iter().find(|user| user.name == context.user);
        let user = named.ok_or_else(|| missing("user", &context.user))?.user;

        let reader = Reader { path };
        let certificate_authority = reader.pem(Pem {
            field: "certificate-authority-data",
            data: cluster.certificate_authority_data,
            file: cluster.certificate_authority,
        })?;
        let certificate_authority = certificate_authority.ok_or(KubeconfigError::Unusable {
            path: path.to_owned(),
            problem: "the cluster has no certificate-authority-data",
        })?;
        let credentials = reader.credentials(user)?;
        Ok(Self { server: cluster.server, certificate_authority, credentials })
    }
}

/// A field that holds PEM in base64, and the one that names a file instead.
struct Pem {
    field: &'static str,
    data: Option<String>,
    file: Option<PathBuf>,
}

struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn pem(&self, pem: Pem) -> Result<Option<Vec<u8>>, KubeconfigError> {
        if let Some(data) = pem.data {
            let decoded = STANDARD.decode(data.trim());
            return decoded.map(Some).map_err(|source| KubeconfigError::NotBase64 {
                path: self.path.to_owned(),
                field: pem.field,
                source,
            });
        }
        let Some(file) = pem.file else { return Ok(None) };
        let file = self.path.parent().unwrap_or(Path::new("")).join(file);
        fs::read(&file).map(Some).map_err(|source| KubeconfigError::Read { path: file, source })
    }

    fn credentials(&self, user: User) -> Result<Credentials, KubeconfigError> {
        let chain = self.pem(Pem {
            field: "client-certificate-data",
            data: user.client_certificate_data,
            file: user.client_certificate,
        })?;
        let key = self.pem(Pem {
            field: "client-key-data",
            data: user.client_key_data,
            file: user.client_key,
        })?;
        match (chain, key, user.token) {
            (Some(chain), Some(key), _) => Ok(Credentials::Certificate { chain, key }),
            (None, None, Some(token)) => Ok(Credentials::Token(token)),
            (None, None, None) => Ok(Credentials::Anonymous),
            _ => Err(KubeconfigError::Unusable {
                path: self.path.to_owned(),
                problem: "the user has a client certificate without a key, or a key without one",
            }),
        }
    }
}

/// Keys and tokens stay out of logs.
impl fmt::Debug for Kubeconfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::chain;

    const GOOD: &str = "
apiVersion: v1
kind: Config
current-context: default
clusters:
- name: default
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: Q0E=
contexts:
- name: default
  context: {cluster: default, user: admin, namespace: x}
users:
- name: admin
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

    #[test]
    fn the_current_context_is_read() {
        let config = Kubeconfig::parse(GOOD, Path::new("/etc/kinglet.yaml")).unwrap();
        let credentials =
            Credentials::Certificate { chain: b"CERT".to_vec(), key: b"KEY".to_vec() };
        let expected = Kubeconfig {
            server: "https://127.0.0.1:6443".to_owned(),
            certificate_authority: b"CA".to_vec(),
            credentials,
        };
        assert!(config == expected);
    }

    #[test]
    fn files_are_found_beside_the_kubeconfig() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.crt"), "from a file").unwrap();
        let text =
            GOOD.replace("certificate-authority-data: Q0E=", "certificate-authority: ca.crt");
        let config = Kubeconfig::parse(&text, &directory.path().join("config")).unwrap();
        assert_eq!(config.certificate_authority, b"from a file");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, expected) in [
            ("current-context: default", "", "/k: there is no context named \"\""),
            ("cluster: default,", "cluster: x,", "/k: there is no cluster named \"x\""),
            ("user: admin,", "user: x,", "/k: there is no user named \"x\""),
            (
                "    client-key-data: S0VZ\n",
                "",
                "/k: the user has a client certificate without a key, or a key without one",
            ),
            (
                "Q0E=",
                "\"%\"",
                "/k: certificate-authority-data is not base64: Invalid symbol 37, offset 0.",
            ),
            (
                "certificate-authority-data: Q0E=",
                "x: y",
                "/k: the cluster has no certificate-authority-data",
            ),
        ] {
            let text = GOOD.replace(from, to);
            let error = Kubeconfig::parse(&text, Path::new("/k")).unwrap_err();
            assert_eq!(chain(&error), expected);
        }
    }

    #[test]
    fn errors_do_not_show_the_text() {
        let text = GOOD.replace("name: admin", "name: [");
        let error = Kubeconfig::parse(&text, Path::new("/k")).unwrap_err();
        assert!(!chain(&error).contains("S0VZ"), "{}", chain(&error));
    }
}
