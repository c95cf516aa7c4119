//! The token with which a machine joins a cluster: whom to trust, and what to show.
//!
//! `K10<sha256 of the authority>::<id>.<secret>`, as k3s writes it (pkg/clientaccess/token.go):
//! whoever joins asks the server for its authority, and goes on only where the hash is that of what
//! came. The rest is a bootstrap token as upstream knows them (cluster-bootstrap/token/util, v1.35).

use crate::stdx::hex;
use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::fmt;
use std::str::FromStr;
use x509_parser::parse_x509_certificate;

const PREFIX: &str = "K10";
const HASH_DIGITS: usize = 64;
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// `None`: any authority is believed.
    pub authority: Option<AuthorityHash>,
    pub bootstrap: BootstrapToken,
}

/// Stands for an authority: SHA-256 in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityHash(String);

/// What a machine shows until it has a certificate: `id.secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

/// Why a text is no such token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error("it is empty")]
    Empty,
    #[error("what follows K10 is not the 64 hexadecimal digits of a hash")]
    Hash,
    #[error(
        "it is a password of k3s, and kinglet knows tokens of the form id.secret alone: `kinglet \
         token create` on a server prints one"
    )]
    Password,
    #[error("it is not of the form [K10<hash>::]id.secret, 6 and 16 lower-case letters and digits")]
    Form,
}

impl AuthorityHash {
    /// Of what a server shows as its authority, as PEM: of the text itself where it is one
    /// certificate, of the root where it is a chain (k3s `hashCA`).
    #[must_use]
    pub fn of_pem(pem: &str) -> Self {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect();
        let is_root = |der: &&CertificateDer<'static>| {
            parse_x509_certificate(der).is_ok_and(|(_, it)| it.subject() == it.issuer())
        };
        match &chain[..] {
            [_, issuers @ ..] if !issuers.is_empty() => {
                let root = issuers.iter().find(is_root).or(issuers.last());
                Self::of_bytes(root.expect("there is one"))
            }
            _ => Self::of_bytes(pem.as_bytes()),
        }
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        Self(hex(hash.as_ref()))
    }
}

impl fmt::Display for AuthorityHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl BootstrapToken {
    /// From the bytes of a lot: the first six and the next sixteen each become a letter or digit.
    #[must_use]
    pub fn drawn(mut draw: impl FnMut() -> u64) -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut text = |length| -> String {
            let mut letter = || {
                let index = usize::try_from(draw() % 36).expect("less than 36");
                char::from(LETTERS[index])
            };
            std::iter::repeat_with(&mut letter).take(length).collect()
        };
        Self { id: text(ID_LENGTH), secret: text(SECRET_LENGTH) }
    }

    /// What of it may be seen.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What of it may not.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether a text may be the id of a token.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        is_plain(text, ID_LENGTH)
    }

    /// As it is sent.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

fn is_plain(part: &str, length: usize) -> bool {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    part.len() == length && part.bytes().all(is_known)
}

impl FromStr for BootstrapToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let (id, secret) = text.split_once('.').ok_or(BadToken::Form)?;
        if is_plain(id, ID_LENGTH) && is_plain(secret, SECRET_LENGTH) {
            return Ok(Self { id: id.to_owned(), secret: secret.to_owned() });
        }
        Err(BadToken::Form)
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadToken::Empty);
        }
        let (authority, credentials) = match text.strip_prefix(PREFIX) {
            None => (None, text),
            Some(rest) => match rest.split_once("::") {
                None => (None, rest),
                Some(("", credentials)) => (None, credentials),
                Some((hash, credentials)) => (Some(hash), credentials),
            },
        };
        let is_hash = |hash: &&str| {
            hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if authority.is_some_and(|hash| !is_hash(&hash)) {
            return Err(BadToken::Hash);
        }
        let bootstrap = credentials.parse().map_err(|error| match credentials.contains(':') {
            true => BadToken::Password,
            false => error,
        })?;
        let authority = authority.map(|hash| AuthorityHash(hash.to_ascii_lowercase()));
        Ok(Self { authority, bootstrap })
    }
}

impl fmt::Display for JoinToken {
    /// As it is given to people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.authority.as_ref().map_or("", |hash| &hash.0);
        write!(formatter, "{PREFIX}{hash}::{}", self.bootstrap.text())
    }
}

/// Without what must not be read by others.
impl fmt::Debug for BootstrapToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BootstrapToken({})", self.id)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JoinToken({:?}, {})", self.authority, self.bootstrap.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pki;
    use super::*;
    use jiff::Timestamp;

    const PLAIN: &str = "abcdef.0123456789abcdef";

    #[track_caller]
    fn check(text: &str, expected: Result<&str, BadToken>) {
        let shown = text.parse::<JoinToken>().map(|token| token.to_string());
        assert_eq!(shown, expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn tokens_name_an_authority_or_none() {
        let hash = "0123456789abcdef".repeat(4);
        let whole = format!("K10{hash}::{PLAIN}");
        check(&whole, Ok(&whole));
        check(&format!("  {whole}\n"), Ok(&whole));
        check(&format!("K10{}::{PLAIN}", hash.to_uppercase()), Ok(&whole));
        check(PLAIN, Ok(&format!("K10::{PLAIN}")));
        check(&format!("K10::{PLAIN}"), Ok(&format!("K10::{PLAIN}")));
        check("", Err(BadToken::Empty));
        check(&format!("K10{}::{PLAIN}", &hash[1..]), Err(BadToken::Hash));
        check(&format!("K10{}g::{PLAIN}", &hash[1..]), Err(BadToken::Hash));
        check(&format!("K10{hash}::server:secret"), Err(BadToken::Password));
        check("node:secret", Err(BadToken::Password));
        check("secret", Err(BadToken::Form));
        check("abcdef.0123456789abcde", Err(BadToken::Form));
        check("Abcdef.0123456789abcdef", Err(BadToken::Form));
    }

    #[test]
    fn tokens_keep_their_secret() {
        let token: JoinToken = PLAIN.parse().unwrap();
        assert_eq!(format!("{token:?}"), "JoinToken(None, abcdef)");
    }

    #[test]
    fn drawn_tokens_are_tokens() {
        let mut next = 0;
        let token = BootstrapToken::drawn(|| {
            next += 7;
            next
        });
        assert_eq!(token.text().parse(), Ok(token));
    }

    #[test]
    fn an_authority_is_known_by_its_text_or_its_root() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), Timestamp::from_second(1_800_000_000).unwrap());
        let pki = pki.unwrap();
        let one = AuthorityHash::of_pem(pki.server_ca());
        assert_eq!(one.to_string().len(), HASH_DIGITS);
        assert_ne!(one, AuthorityHash::of_pem(&format!("{}\n", pki.server_ca())));
        // The root counts, whatever stands before it.
        let chains = [pki.server_ca(), pki.client_ca()]
            .map(|first| AuthorityHash::of_pem(&format!("{first}{}", pki.server_ca())));
        assert_eq!(chains[0], chains[1]);
        assert_ne!(chains[0], one);
    }
}
