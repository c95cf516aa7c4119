//! Which image of several fits this machine.
//!
//! The order of preference is containerd's (platforms v1.0, `platformVector`): the processor's own
//! variant, then what older ones ran, then the 32-bit family where the processor still runs it.

use serde::Deserialize;
use std::fmt;

/// What an image is made for, as manifests say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: String,
}

impl Platform {
    /// This machine.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self::linux(architecture, variant)
    }

    fn linux(architecture: &str, variant: &str) -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// One spelling for each platform (platforms v1.0, `normalizeArch`).
    fn normalised(&self) -> Self {
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8") => ("arm64", "v8"),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            same => same,
        };
        Self { os: self.os.to_ascii_lowercase(), ..Self::linux(architecture, variant) }
    }

    /// Everything that runs here, best first.
    fn accepted(&self) -> Vec<Self> {
        let own = self.normalised();
        let mut accepted = vec![own.clone()];
        let versions = |variant: &str| match variant.strip_prefix('v').map(str::parse::<u8>) {
            Some(Ok(version)) => version,
            _ => 0,
        };
        let mut below = |architecture: &str, first: u8, last: u8| {
            for version in (last..=first).rev() {
                accepted.push(Self::linux(architecture, &format!("v{version}")).normalised());
            }
        };
        match own.architecture.as_str() {
            "amd64" => {
                below("amd64", versions(&own.variant).saturating_sub(1), 1);
                accepted.push(Self::linux("386", ""));
            }
            "arm64" => below("arm", 8, 5),
            "arm" => below("arm", versions(&own.variant).saturating_sub(1), 5),
            _ => {}
        }
        accepted
    }

    /// The index of the best of `offers` for this machine; the first of equals.
    pub(super) fn choose(&self, offers: &[Option<Self>]) -> Option<usize> {
        let offers: Vec<_> =
            offers.iter().map(|offer| offer.as_ref().map(Self::normalised)).collect();
        self.accepted()
            .iter()
            .find_map(|wanted| offers.iter().position(|offer| offer.as_ref() == Some(wanted)))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(formatter, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().unwrap(),
            architecture: parts.next().unwrap(),
            variant: parts.next().unwrap_or_default(),
        }
    }

    #[test]
    fn the_best_match_wins() {
        for (host, offers, expected) in [
            ("linux/amd64", "linux/arm64 linux/amd64", Some(1)),
            ("linux/amd64", "windows/amd64 linux/386", Some(1)),
            ("linux/amd64", "linux/386 linux/amd64/v2", Some(0)),
            ("linux/amd64", "linux/386 linux/x86_64", Some(1)),
            ("linux/amd64/v3", "linux/amd64 linux/amd64/v2", Some(1)),
            ("linux/arm64/v8", "linux/arm/v7 linux/arm64", Some(1)),
            ("linux/arm64/v8", "linux/arm/v6 linux/arm/v7", Some(1)),
            ("linux/arm/v7", "linux/arm/v5 linux/arm/v6 linux/arm64/v8", Some(1)),
            ("linux/arm/v7", "linux/arm linux/arm/v6", Some(0)),
            ("linux/riscv64", "linux/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
        ] {
            let offers: Vec<_> = offers.split(' ').map(|offer| Some(platform(offer))).collect();
            assert_eq!(platform(host).choose(&offers), expected, "{host}: {offers:?}");
        }
        assert_eq!(platform("linux/amd64").choose(&[None]), None);
    }
}
