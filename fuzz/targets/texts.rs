//! Texts that have a form of their own: schedules, formats that schemas ask for, regular
//! expressions, names, and what is sent in them (tokens, requests for certificates).

#![no_main]

use kinglet::api::FieldPath;
use kinglet::api::cron::ZonedSchedule;
use kinglet::api::names;
use kinglet::pki::{BootstrapToken, CertificateRequest, JoinToken};
use kinglet::registry::schema::structural::{
    Structural, is_valid_format, known_formats, validate, validate_structure,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The tests of names.
const NAMES: [fn(&str) -> Vec<String>; 14] = [
    names::dns1123_label,
    names::dns1123_subdomain,
    names::dns1123_subdomain_with_underscore,
    names::dns1035_label,
    names::wildcard_dns1123_subdomain,
    names::qualified_name,
    names::label_value,
    names::config_key,
    names::env_var_name,
    names::c_identifier,
    names::port_name,
    names::percent,
    names::http_header_name,
    names::path_segment,
];

fuzz_target!(|text: &str| {
    for format in known_formats() {
        let _ = is_valid_format(format, text);
    }
    for name in NAMES {
        let _ = name(text);
    }
    if let Ok(schedule) = text.parse::<ZonedSchedule>() {
        for second in [0, 1_792_368_000, 253_402_207_199] {
            let after = jiff::Timestamp::from_second(second).expect("a time");
            let next = schedule.schedule.next(after, &jiff::tz::TimeZone::UTC);
            assert!(next.is_none_or(|next| next > after), "{text} {after} {next:?}");
        }
    }
    let _ = CertificateRequest::parse(text.as_bytes());
    drop(text.parse::<BootstrapToken>());
    drop(text.parse::<JoinToken>());
    let (pattern, value) = text.split_once('\n').unwrap_or((text, "aaaaaaaaaaaaaaaaaaaaaaaa"));
    matches(pattern, value);
});

/// Holds a text against a schema with the pattern.
fn matches(pattern: &str, value: &str) {
    let props = json!({"type": "string", "pattern": pattern});
    let Ok(props) = serde_json::from_value(props) else { return };
    let Ok(schema) = Structural::new(&props) else { return };
    if validate_structure(&FieldPath::default(), &schema).is_empty() {
        let _ = validate(&Value::from(value), &schema);
    }
}
