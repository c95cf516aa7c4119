//! Checks of single fields, shared by the kinds.

use super::schema::ZERO_TIME_SECONDS;
use crate::api::field::ERRORS_MAX;
use crate::api::{FieldError, FieldPath, names};
use crate::stdx::json;
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement,
};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// Finalizers that need no domain (upstream `IsStandardFinalizerName`).
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Shown, never run.
const DOMAIN_PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";

/// Longer reasons of conditions are refused.
const CONDITION_REASON_BYTES_MAX: usize = 1_024;
/// Longer messages of conditions are refused.
const CONDITION_MESSAGE_BYTES_MAX: usize = 32 * 1_024;

/// After so many errors that each show the whole list that they are about, no more are looked for.
pub(super) const ERRORS_OF_WHOLE_MAX: usize = 16;

/// Which of the keys were there before, each at its place. Lists may have a hundred thousand elements:
/// each must not be compared with all before it.
pub(super) fn repeated<K: Hash + Eq>(keys: impl IntoIterator<Item = K>) -> Vec<bool> {
    let mut seen = HashSet::new();
    keys.into_iter().map(|key| !seen.insert(key)).collect()
}

/// The value as an error message shows it.
pub(super) fn to_value(value: &impl Serialize) -> Value {
    json::to_value(value)
}

/// The fields that differ, with what they were and what they should become.
pub(super) fn diff(new: &impl Serialize, old: &impl Serialize) -> String {
    let (new, old) = (to_value(new), to_value(old));
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (new, old) = (fields(&new), fields(&old));
    let names: BTreeSet<_> = new.keys().chain(old.keys()).collect();
    let mut lines = Vec::new();
    for name in names.into_iter().filter(|name| new.get(*name) != old.get(*name)) {
        let shown =
            |value: Option<&Value>| value.map_or_else(|| "<unset>".to_owned(), ToString::to_string);
        lines.push(format!("- {name}: {}", shown(old.get(name))));
        lines.push(format!("+ {name}: {}", shown(new.get(name))));
    }
    lines.join("\n")
}

/// One error for each thing that is wrong with `value`.
pub(super) fn invalid(path: &FieldPath, value: &str, problems: Vec<String>) -> Vec<FieldError> {
    problems.into_iter().map(|problem| FieldError::invalid(path, value, problem)).collect()
}

/// As [`invalid`], for a number.
pub(super) fn invalid_number(
    path: &FieldPath,
    value: impl Into<i64>,
    rule: impl Fn(i64) -> Vec<String>,
) -> Vec<FieldError> {
    let value = value.into();
    rule(value).into_iter().map(|problem| FieldError::invalid(path, value, problem)).collect()
}

/// The error of a text that is not what `rule` asks for, or absent.
pub(super) fn required(path: &FieldPath, value: &str, rule: names::Rule) -> Vec<FieldError> {
    if value.is_empty() {
        vec![FieldError::required(path, "")]
    } else {
        invalid(path, value, rule(value))
    }
}

/// The error of a text that is absent.
pub(super) fn present(path: &FieldPath, value: Option<&str>) -> Option<FieldError> {
    value.unwrap_or_default().is_empty().then(|| FieldError::required(path, ""))
}

/// `example.com/name` (upstream `IsDomainPrefixedPath`, apimachinery pkg/util/validation, v1.35).
pub(super) fn domain_path(path: &FieldPath, value: &str) -> Vec<FieldError> {
    let is_of_path =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    match value.split_once('/') {
        _ if value.is_empty() => vec![FieldError::required(path, "")],
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            let mut errors = invalid(path, domain, names::dns1123_subdomain(domain));
            if !rest.bytes().all(is_of_path) {
                let detail = format!("Invalid path (regex used for validation is '{DOMAIN_PATH}')");
                errors.push(FieldError::invalid(path, rest, detail));
            }
            errors
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            vec![FieldError::invalid(path, value, detail)]
        }
    }
}

/// The error of a field that may not change and did.
pub(super) fn immutable(path: &FieldPath, new: Value, old: &Value) -> Option<FieldError> {
    (new != *old).then(|| FieldError::invalid(path, new, "field is immutable"))
}

/// The error of a number below zero.
pub(super) fn not_negative(path: &FieldPath, value: Option<impl Into<i64>>) -> Option<FieldError> {
    let value = value?.into();
    (value < 0).then(|| FieldError::invalid(path, value, NOT_NEGATIVE))
}

/// The error of a text that is none of those allowed.
pub(super) fn one_of(path: &FieldPath, value: &str, allowed: &[&str]) -> Option<FieldError> {
    (!allowed.contains(&value)).then(|| FieldError::not_supported(path, value, allowed))
}

/// Finalizers without a domain are upstream's own (upstream `validateKubeFinalizerName`).
pub(super) fn finalizer_domain(path: &FieldPath, name: &str) -> Option<FieldError> {
    let is_known = name.contains('/') || STANDARD_FINALIZERS.contains(&name);
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    (!is_known).then(|| FieldError::invalid(path, name, detail))
}

/// Upstream `ValidateLabels`, up to [`ERRORS_MAX`].
pub(super) fn labels(
    labels: Option<&BTreeMap<String, String>>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        errors.extend(invalid(path, key, names::qualified_name(key)));
        errors.extend(invalid(path, value, names::label_value(value)));
    }
    errors
}

/// Upstream `ValidateLabelSelector`.
pub(super) fn label_selector(selector: &LabelSelector, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = labels(selector.match_labels.as_ref(), &path.child("matchLabels"));
    let path = path.child("matchExpressions");
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        errors.extend(label_requirement(requirement, &path.index(index)));
    }
    errors
}

fn label_requirement(requirement: &LabelSelectorRequirement, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let values = requirement.values.as_deref().unwrap_or_default();
    match (requirement.operator.as_str(), values) {
        ("In" | "NotIn", []) => errors.push(FieldError::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        ("In" | "NotIn", _) | ("Exists" | "DoesNotExist", []) => {}
        ("Exists" | "DoesNotExist", _) => errors.push(FieldError::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        (operator, _) => errors.push(FieldError::invalid(
            &path.child("operator"),
            operator,
            "not a valid selector operator",
        )),
    }
    let key = &requirement.key;
    errors.extend(invalid(&path.child("key"), key, names::qualified_name(key)));
    for (index, value) in values.iter().enumerate() {
        let path = path.child("values").index(index);
        errors.extend(invalid(&path, value, names::label_value(value)));
    }
    errors
}

/// Upstream `ValidateConditions` (apimachinery pkg/apis/meta/v1/validation).
pub(super) fn conditions(conditions: &[Condition], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let is_repeated = repeated(conditions.iter().map(|condition| &condition.type_));
    for (index, condition) in conditions.iter().enumerate() {
        let (path, kind) = (path.index(index), &condition.type_);
        if is_repeated[index] {
            errors.push(FieldError::duplicate(&path.child("type"), kind.as_str()));
        }
        errors.extend(invalid(&path.child("type"), kind, names::qualified_name(kind)));
        let status = &condition.status;
        errors.extend(one_of(&path.child("status"), status, &["False", "True", "Unknown"]));
        if let Some(generation) = condition.observed_generation.filter(|number| *number < 0) {
            let path = path.child("observedGeneration");
            let detail = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&path, generation, detail));
        }
        if condition.last_transition_time.0.as_second() == ZERO_TIME_SECONDS {
            errors.push(FieldError::required(&path.child("lastTransitionTime"), ""));
        }
        let (reason, reason_path) = (&condition.reason, path.child("reason"));
        errors.extend(required(&reason_path, reason, names::condition_reason));
        if reason.len() > CONDITION_REASON_BYTES_MAX {
            errors.push(FieldError::too_long(&reason_path, CONDITION_REASON_BYTES_MAX));
        }
        if condition.message.len() > CONDITION_MESSAGE_BYTES_MAX {
            let path = path.child("message");
            errors.push(FieldError::too_long(&path, CONDITION_MESSAGE_BYTES_MAX));
        }
    }
    errors
}

/// An address as older fields take it: decimal parts may begin with zeros (upstream
/// `ParseIPSloppy`).
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut parts = text.split('.').map(|part| {
        let is_short = (1..=3).contains(&part.len());
        let is_number = is_short && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<u8>().ok()).flatten()
    });
    let octets = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Upstream `IsValidIPForLegacyField`.
pub(super) fn ip(path: &FieldPath, value: &str) -> Option<FieldError> {
    parse_ip(value).is_none().then(|| FieldError::invalid(path, value, BAD_IP))
}

/// An address that is taken and should be written in another way (upstream `GetWarningsForIP`).
pub(super) fn ip_warning(path: &FieldPath, value: &str) -> Option<String> {
    let address = parse_ip(value)?;
    let canonical = address.to_canonical();
    // Parts that begin with zeros, or IPv4 in the clothes of IPv6.
    if canonical.is_ipv4() && canonical.to_string() != value {
        return Some(format!(
            "{path}: non-standard IP address {value:?} will be considered invalid in a future \
             Kubernetes release: use \"{canonical}\""
        ));
    }
    (address.to_string() != value).then(|| {
        format!(
            "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format (\"{address}\")"
        )
    })
}

/// An address as newer fields take it: in its one canonical form (upstream `IsValidIP`).
pub(super) fn canonical_ip(path: &FieldPath, value: &str) -> Option<FieldError> {
    let Some(address) = parse_ip(value) else {
        return Some(FieldError::invalid(path, value, BAD_IP));
    };
    if value.parse::<IpAddr>().is_err() {
        return Some(FieldError::invalid(path, value, "must not have leading 0s"));
    }
    if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        let detail = "must not be an IPv4-mapped IPv6 address";
        return Some(FieldError::invalid(path, value, detail));
    }
    let canonical = address.to_string();
    (canonical != value).then(|| {
        FieldError::invalid(path, value, format!("must be in canonical form ({canonical:?})"))
    })
}

/// As [`ip_warning`], of a network (upstream `GetWarningsForCIDR`).
pub(super) fn cidr_warnings(path: &FieldPath, value: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(value) else { return Vec::new() };
    let Ok(network) = IpNet::new(address.to_canonical(), length) else { return Vec::new() };
    let mut warnings = Vec::new();
    let text = network.trunc().to_string();
    if network.addr() != network.network() {
        let alone = format!("{}/{}", network.addr(), network.max_prefix_len());
        warnings.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {text:?} or \
             {alone:?}?)"
        ));
    }
    let digits = value.rsplit('/').next().unwrap_or_default();
    let has_zeros = digits.len() > 1 && digits.starts_with('0');
    if value.parse::<IpNet>().is_err() || has_zeros || network.addr() != address {
        warnings.push(format!(
            "{path}: non-standard CIDR value {value:?} will be considered invalid in a future \
             Kubernetes release: use {text:?}"
        ));
    }
    if warnings.is_empty() && address.is_ipv6() && text != value {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({text:?})"
        ));
    }
    warnings
}

/// Address and length of a network as older fields take it (upstream `ParseCIDRSloppy`).
pub(super) fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address = parse_ip(address)?;
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = is_number.then(|| length.parse::<u8>().ok()).flatten()?;
    let length_max = if address.is_ipv4() { 32 } else { 128 };
    (length <= length_max).then_some((address, length))
}

/// Upstream `IsValidCIDRForLegacyField`.
pub(super) fn cidr(path: &FieldPath, value: &str) -> Option<FieldError> {
    parse_cidr(value).is_none().then(|| FieldError::invalid(path, value, BAD_CIDR))
}

/// A network as newer fields take it: in its one canonical form (upstream `IsValidCIDR`).
pub(super) fn canonical_cidr(path: &FieldPath, value: &str) -> Option<FieldError> {
    let wrong = |detail: &str| Some(FieldError::invalid(path, value, detail));
    let Some((address, _)) = parse_cidr(value) else { return wrong(BAD_CIDR) };
    let Ok(network) = value.parse::<IpNet>() else {
        return wrong("must not have leading 0s in IP or prefix length");
    };
    if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return wrong("must not have an IPv4-mapped IPv6 address");
    }
    if network.addr() != network.network() {
        return wrong("must not have bits set beyond the prefix length");
    }
    let canonical = network.to_string();
    (canonical != value).then(|| {
        FieldError::invalid(path, value, format!("must be in canonical form ({canonical:?})"))
    })
}

/// The error of an amount that is none, or below zero (upstream `ValidateNonnegativeQuantity`).
pub(super) fn quantity(path: &FieldPath, value: &str) -> Option<FieldError> {
    match value.parse::<crate::api::Quantity>() {
        Err(error) => Some(FieldError::invalid(path, value, error.to_string())),
        Ok(amount) if amount.is_negative() => Some(FieldError::invalid(path, value, NOT_NEGATIVE)),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn selectors() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"ok": "-"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "a", "operator": "Exists", "values": ["x"]},
                {"key": "", "operator": "Like", "values": ["-"]},
            ],
        }))
        .unwrap();
        let errors = label_selector(&selector, &FieldPath::new("s"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        for (text, expected) in texts.iter().zip([
            "s.matchLabels: Invalid value: \"-\": a valid label must be",
            "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "s.matchExpressions[2].operator: Invalid value: \"Like\": not a valid selector operator",
            "s.matchExpressions[2].key: Invalid value: \"\": name part must be non-empty",
            "s.matchExpressions[2].key: Invalid value: \"\": name part must consist of",
            "s.matchExpressions[2].values[0]: Invalid value: \"-\": a valid label must be",
        ]) {
            assert!(text.starts_with(expected), "{text}");
        }
        assert_eq!(texts.len(), 7);
    }

    #[test]
    fn addresses_and_networks() {
        let path = FieldPath::new("p");
        for (text, is_old, is_new) in [
            ("10.0.0.1", true, true),
            ("010.0.0.001", true, false),
            ("10.0.0", false, false),
            ("10.0.0.1.2", false, false),
            ("10.0.0.256", false, false),
            ("10.0.0.+1", false, false),
            ("::1", true, true),
            ("::FFFF", true, false),
            ("::ffff:1.2.3.4", true, false),
            ("", false, false),
        ] {
            assert_eq!(ip(&path, text).is_none(), is_old, "{text}");
            assert_eq!(canonical_ip(&path, text).is_none(), is_new, "{text}");
        }
        for (text, is_valid) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1/8", true),
            ("10.0.0.0/33", false),
            ("10.0.0.0", false),
            ("fd00::/64", true),
            ("fd00::/129", false),
            ("10.0.0.0/+8", false),
        ] {
            assert_eq!(cidr(&path, text).is_none(), is_valid, "{text}");
        }
    }

    proptest! {
        #[test]
        fn networks_are_what_others_take_them_for(
            address in any::<IpAddr>(),
            length in 0_u8..140,
        ) {
            let text = format!("{address}/{length}");
            let expected = text.parse::<ipnet::IpNet>().ok();
            let expected = expected.map(|network| (network.addr(), network.prefix_len()));
            // One that stands for an address of IPv4 is one, and shorter.
            prop_assume!(!matches!(address, IpAddr::V6(it) if it.to_ipv4_mapped().is_some()));
            prop_assert_eq!(parse_cidr(&text), expected, "{}", text);
        }

        #[test]
        fn any_text_is_a_network_or_is_none(text in "[0-9a-f:./+ -]{0,45}") {
            let parsed = parse_cidr(&text);
            if let Some((address, length)) = parsed {
                let most = if address.is_ipv4() { 32 } else { 128 };
                prop_assert!(length <= most);
            }
            prop_assert_eq!(cidr(&FieldPath::new("x"), &text).is_none(), parsed.is_some());
        }
    }
}
