//! Values of Kubernetes' libraries: quantities, addresses, networks, URLs, versions, formats.

use super::functions::{formats::Format, semver::Semver, urls::Url};
use crate::api::Quantity;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Foreign {
    Quantity(Quantity),
    Ip(IpAddr),
    /// An address, and how many of its bits are the network's.
    Cidr(IpAddr, u8),
    #[doc(hidden)]
    Url(Arc<Url>),
    #[doc(hidden)]
    Format(&'static Format),
    #[doc(hidden)]
    Semver(Arc<Semver>),
}

impl Foreign {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Semver(_) => "kubernetes.Semver",
        }
    }

    /// Bytes of an address, or of a network's part; one for others.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(_, bits) => usize::from(bits.div_ceil(8)),
            _ => 1,
        }
    }
}

impl PartialEq for Foreign {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(one), Self::Quantity(two)) => one == two,
            (Self::Ip(one), Self::Ip(two)) => one == two,
            (Self::Cidr(one, bits), Self::Cidr(two, other)) => one == two && bits == other,
            (Self::Url(one), Self::Url(two)) => one.text == two.text,
            (Self::Format(one), Self::Format(two)) => one.name == two.name,
            (Self::Semver(one), Self::Semver(two)) => one == two,
            _ => false,
        }
    }
}
