//! Addresses and networks (apiserver pkg/cel/library/ip.go and cidr.go, v1.35).

use crate::cel::foreign::Foreign;
use crate::cel::value::{Fault, Outcome, Value};
use std::net::IpAddr;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Text(text)] => Ok(match function {
            "ip" => Value::Foreign(Foreign::Ip(address(text)?)),
            "isIP" => Value::Bool(address(text).is_ok()),
            "ip.isCanonical" => Value::Bool(address(text)?.to_string() == **text),
            "cidr" => network(text)?,
            "isCIDR" => Value::Bool(network(text).is_ok()),
            _ => return Err(Fault::NO_OVERLOAD),
        }),
        [Value::Foreign(Foreign::Ip(address))] => of_address(function, *address),
        [Value::Foreign(Foreign::Cidr(address, bits))] => Ok(match function {
            "ip" => Value::Foreign(Foreign::Ip(*address)),
            "prefixLength" => Value::Int(i64::from(*bits)),
            "masked" => Value::Foreign(Foreign::Cidr(masked(*address, *bits), *bits)),
            _ => return Err(Fault::NO_OVERLOAD),
        }),
        [Value::Foreign(Foreign::Cidr(net, bits)), other] => {
            contains(function, (*net, *bits), other)
        }
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn address(text: &str) -> Result<IpAddr, Fault> {
    let (unzoned, zone) = text.split_once('%').unwrap_or((text, ""));
    let Ok(address) = unzoned.parse::<IpAddr>() else {
        return Err(Fault::new(format!(
            "IP Address {text:?} parse error during conversion from string: \
             ParseAddr({text:?}): unable to parse IP"
        )));
    };
    if !zone.is_empty() {
        return Err(Fault::new(format!("IP address {text:?} with zone value is not allowed")));
    }
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(Fault::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed")))
        }
        address => Ok(address),
    }
}

fn network<'a>(text: &str) -> Outcome<'a> {
    const PROBLEM: &str = "network address parse error during conversion from string";
    let found = text.rsplit_once('/').and_then(|(address, bits)| {
        let address: IpAddr = address.parse().ok()?;
        let is_plain = bits.bytes().all(|b| b.is_ascii_digit());
        let is_short = bits.len() == 1 || !bits.starts_with('0');
        let bits: u8 = bits.parse().ok().filter(|_| is_plain && is_short)?;
        (bits <= width(address)).then_some((address, bits))
    });
    let Some((address, bits)) = found else {
        return Err(Fault::new(format!("{PROBLEM}: {PROBLEM}: netip.ParsePrefix({text:?})")));
    };
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        let message = format!("{PROBLEM}: IPv4-mapped IPv6 address {text:?} is not allowed");
        return Err(Fault::new(message));
    }
    Ok(Value::Foreign(Foreign::Cidr(address, bits)))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn of_address<'a>(function: &str, address: IpAddr) -> Outcome<'a> {
    Ok(match (function, address) {
        ("family", address) => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        ("isUnspecified", address) => Value::Bool(address.is_unspecified()),
        ("isLoopback", address) => Value::Bool(address.is_loopback()),
        ("isLinkLocalMulticast", IpAddr::V4(v4)) => Value::Bool(v4.octets()[..3] == [224, 0, 0]),
        ("isLinkLocalMulticast", IpAddr::V6(v6)) => {
            Value::Bool(v6.segments()[0] & 0xff0f == 0xff02)
        }
        ("isLinkLocalUnicast", address) => Value::Bool(is_link_local(address)),
        ("isGlobalUnicast", address) => {
            let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            Value::Bool(
                !(address.is_unspecified()
                    || address.is_loopback()
                    || address.is_multicast()
                    || is_link_local(address)
                    || is_broadcast),
            )
        }
        _ => return Err(Fault::NO_OVERLOAD),
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// An address as a number that is 128 bits wide, whichever family it is of.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The bits that belong to the network.
fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let kept = number(address) & mask(bits);
    match address {
        IpAddr::V4(_) => {
            IpAddr::V4(u32::try_from(kept >> 96).expect("96 of 128 bits are gone").into())
        }
        IpAddr::V6(_) => IpAddr::V6(kept.into()),
    }
}

fn contains<'a>(function: &str, (net, bits): (IpAddr, u8), other: &Value<'a>) -> Outcome<'a> {
    let (address, length) = match (function, other) {
        ("containsIP", Value::Foreign(Foreign::Ip(address))) => (*address, width(*address)),
        ("containsIP", Value::Text(text)) => {
            let address = address(text)?;
            (address, width(address))
        }
        ("containsCIDR", Value::Foreign(Foreign::Cidr(address, length))) => (*address, *length),
        ("containsCIDR", Value::Text(text)) => match network(text)? {
            Value::Foreign(Foreign::Cidr(address, length)) => (address, length),
            _ => return Err(Fault::NO_OVERLOAD),
        },
        _ => return Err(Fault::NO_OVERLOAD),
    };
    let is_same_family = address.is_ipv4() == net.is_ipv4();
    let is_within = (number(address) ^ number(net)) & mask(bits) == 0;
    Ok(Value::Bool(is_same_family && is_within && bits <= length))
}
