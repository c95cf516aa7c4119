//! Values of flags that are more than a text: parsed once, here.

use crate::api::Quantity;
use crate::daemon::NodePortRange;
use crate::kubelet::shutdown::plan::Step;
use ipnet::IpNet;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use std::net::IpAddr;

/// `key=value`, or `key` or `key=` for an empty value.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let mut problems = crate::api::names::qualified_name(key);
    problems.extend(crate::api::names::label_value(value));
    if problems.is_empty() {
        Ok((key.to_owned(), value.to_owned()))
    } else {
        Err(problems.join("; "))
    }
}

/// `key=value:Effect`, `key:Effect`.
pub(super) fn taint(text: &str) -> Result<Taint, String> {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let wanted = "a taint is key=value:Effect";
    let (pair, effect) = text.rsplit_once(':').ok_or(wanted)?;
    if !EFFECTS.contains(&effect) {
        return Err(format!("{wanted}, and {effect:?} is none of {}", EFFECTS.join(", ")));
    }
    let (key, value) = label(pair)?;
    let value = Some(value).filter(|value| !value.is_empty());
    Ok(Taint { key, value, effect: effect.to_owned(), time_added: None })
}

/// `10.0.0.0/8`, or an address alone.
pub(super) fn address_range(text: &str) -> Result<IpNet, String> {
    let range = text.parse::<IpNet>().map(|range| range.trunc());
    range
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "an address, or a range such as 10.0.0.0/8, is wanted".to_owned())
}

/// `30000-32767`.
pub(super) fn node_ports(text: &str) -> Result<NodePortRange, String> {
    let wanted = "a port range is FIRST-LAST, both between 1 and 65535";
    let (first, last) = text.split_once('-').ok_or(wanted)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(NodePortRange { first, last }),
        _ => Err(wanted.to_owned()),
    }
}

/// `30s`, `1m30s`, `0`: not negative.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let parsed = text.parse::<SignedDuration>().ok().filter(|it| !it.is_negative());
    parsed.ok_or_else(|| "a duration is a number with its unit, such as 30s or 1m30s".to_owned())
}

/// `1000=30s`.
pub(super) fn shutdown_step(text: &str) -> Result<Step, String> {
    let wanted = "PRIORITY=DURATION is wanted, such as 1000=30s";
    let (priority, grace) = text.split_once('=').ok_or(wanted)?;
    let priority = priority.parse().map_err(|_| wanted)?;
    Ok(Step { priority, grace: duration(grace)? })
}

/// `cpu=100m`, `memory=256Mi` or `ephemeral-storage=1Gi`.
pub(super) fn reservation(text: &str) -> Result<(String, Quantity), String> {
    const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let wanted = "RESOURCE=AMOUNT is wanted, such as memory=256Mi";
    let (resource, amount) = text.split_once('=').ok_or(wanted)?;
    if !RESOURCES.contains(&resource) {
        return Err(format!("{wanted}, and {resource:?} is none of {}", RESOURCES.join(", ")));
    }
    let amount = amount.parse::<Quantity>().ok().filter(|amount| !amount.is_negative());
    Ok((resource.to_owned(), amount.ok_or(wanted)?))
}

/// An octal file mode, as chmod takes it.
pub(super) fn file_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a file mode has three octal digits, such as 600 or 644".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    #[track_caller]
    fn check<T: Debug>(actual: Result<T, String>, expected: &str) {
        let actual = match actual {
            Ok(value) => format!("{value:?}"),
            Err(error) => error,
        };
        assert!(actual.starts_with(expected), "{actual}");
    }

    #[test]
    fn values_are_parsed_or_explained() {
        check(label("a=b"), r#"("a", "b")"#);
        check(label("a"), r#"("a", "")"#);
        check(label("-=b"), "name part must consist of");
        check(taint("gpu=yes:NoSchedule"), r#"Taint { effect: "NoSchedule", key: "gpu""#);
        check(taint("gpu:NoExecute"), r#"Taint { effect: "NoExecute", key: "gpu""#);
        check(taint("gpu=yes"), "a taint is");
        check(taint("gpu=yes:Maybe"), "a taint is key=value:Effect, and \"Maybe\" is none of");
        check(node_ports("30000-32767"), "NodePortRange { first: 30000, last: 32767 }");
        check(node_ports("2-1"), "a port range");
        check(duration("1m30s"), "1m 30s");
        check(duration("0"), "0s");
        check(duration("30"), "a duration is");
        check(duration("-1s"), "a duration is");
        check(shutdown_step("1000=5s"), "Step { priority: 1000, grace: 5s }");
        check(shutdown_step("5s"), "PRIORITY=DURATION");
        check(reservation("cpu=100m"), "(\"cpu\", ");
        check(reservation("gpu=1"), "RESOURCE=AMOUNT is wanted");
        check(reservation("memory=-1"), "RESOURCE=AMOUNT is wanted");
        check(file_mode("644"), "420");
        check(file_mode("888"), "a file mode");
    }
}
