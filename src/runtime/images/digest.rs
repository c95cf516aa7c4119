//! Digests: the names of blobs, and the proof that bytes are the ones that were asked for.

use crate::stdx::hex;
use aws_lc_rs::digest as algorithms;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

/// The algorithms that the OCI image specification registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// Every algorithm, by the name of the directory that its blobs are in.
    pub(super) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    fn implementation(self) -> &'static algorithms::Algorithm {
        match self {
            Self::Sha256 => &algorithms::SHA256,
            Self::Sha512 => &algorithms::SHA512,
        }
    }
}

/// `sha256:` and 64 hexadecimal digits (or `sha512:` and 128), in small letters: safe as a file name
/// by its type.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDigest {
    #[error("`{0}` has no algorithm; a digest looks like sha256:<64 hexadecimal digits>")]
    NoAlgorithm(String),
    #[error("`{0}` is not a digest algorithm of this node; sha256 and sha512 are")]
    UnknownAlgorithm(String),
    #[error("`{text}` is not {digits} hexadecimal digits in small letters")]
    BadHex { text: String, digits: usize },
}

impl Digest {
    /// The digest of bytes that are there.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let (name, hex) =
            text.split_once(':').ok_or_else(|| BadDigest::NoAlgorithm(text.to_owned()))?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| BadDigest::UnknownAlgorithm(name.to_owned()))?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_digits() || !hex.bytes().all(is_hex) {
            let digits = algorithm.hex_digits();
            return Err(BadDigest::BadHex { text: hex.to_owned(), digits });
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Takes bytes as they come and says their digest.
pub(super) struct Hasher {
    algorithm: Algorithm,
    context: algorithms::Context,
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, context: algorithms::Context::new(algorithm.implementation()) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        let bytes = self.context.finish();
        Digest { algorithm: self.algorithm, hex: hex(bytes.as_ref()) }
    }
}

/// A reader that remembers the digest and the number of all bytes that went through it.
pub(super) struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(super) fn new(inner: R, algorithm: Algorithm) -> Self {
        Self { inner, hasher: Hasher::new(algorithm), bytes: 0 }
    }

    /// The digest and the number of bytes so far.
    pub(super) fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.bytes)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        let mut reader = HashingReader::new(&b"abc"[..], Algorithm::Sha512);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (digest, bytes) = reader.finish();
        assert!(digest.to_string().starts_with("sha512:ddaf35a193617aba"));
        assert_eq!(bytes, 3);
    }

    #[test]
    fn what_is_not_a_digest_is_said() {
        for (text, expected) in [
            ("abc", "`abc` has no algorithm; a digest looks like sha256:<64 hexadecimal digits>"),
            ("md5:00", "`md5` is not a digest algorithm of this node; sha256 and sha512 are"),
            ("sha256:00", "`00` is not 64 hexadecimal digits in small letters"),
            ("sha256:../../x", "`../../x` is not 64 hexadecimal digits in small letters"),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), expected);
        }
        let capitals = format!("sha256:{}", "AB".repeat(32));
        assert!(capitals.parse::<Digest>().is_err());
    }
}
