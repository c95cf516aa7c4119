//! What the annotations of an Ingress say about how its requests are treated.
//!
//! Kept to what an Ingress cannot say otherwise: whether to redirect, what endpoints speak, how long
//! they may take. Each is known by a name of our own and by that of ingress-nginx, which most
//! manifests have; ours goes first. Pure.

use super::model::{Protocol, Settings, Timeouts};
use std::collections::BTreeMap;
use std::time::Duration;

const PREFIXES: [&str; 2] = ["ingress.kinglet.dev/", "nginx.ingress.kubernetes.io/"];

/// Longer waits than this are cut short: a day is as good as for ever.
const TIMEOUT_SECONDS_MAX: u64 = 24 * 60 * 60;

/// The settings of an Ingress, and what of its annotations could not be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotated {
    pub(super) settings: Settings,
    /// Also for hosts without a certificate of their own, as behind something that ends TLS.
    pub(super) redirects_all: bool,
    pub(super) problems: Vec<String>,
}

/// Reads the annotations. `redirects_to_https` is what holds for hosts with a certificate.
#[must_use]
pub(super) fn read(annotations: Option<&BTreeMap<String, String>>) -> Annotated {
    let mut reader = Reader { annotations, problems: Vec::new() };
    let settings = Settings {
        redirects_to_https: reader.parse("ssl-redirect", boolean).unwrap_or(true),
        protocol: reader.parse("backend-protocol", protocol),
        timeouts: Timeouts {
            connect: reader.parse("proxy-connect-timeout", seconds),
            read: reader.parse("proxy-read-timeout", seconds),
            send: reader.parse("proxy-send-timeout", seconds),
        },
    };
    let redirects_all = reader.parse("force-ssl-redirect", boolean).unwrap_or(false);
    Annotated { settings, redirects_all, problems: reader.problems }
}

struct Reader<'a> {
    annotations: Option<&'a BTreeMap<String, String>>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn parse<T>(&mut self, name: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
        let annotations = self.annotations?;
        let keys = PREFIXES.iter().map(|prefix| format!("{prefix}{name}"));
        let (key, text) = keys.into_iter().find_map(|key| {
            let text = annotations.get(&key)?;
            Some((key, text.trim()))
        })?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.problems.push(format!("annotation {key}: {text:?} is not understood"));
        }
        parsed
    }
}

fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

fn protocol(text: &str) -> Option<Protocol> {
    Some(match text.to_ascii_uppercase().as_str() {
        "HTTP" => Protocol::Http1,
        "HTTPS" => Protocol::Https1,
        "GRPC" | "H2C" => Protocol::Http2,
        "GRPCS" => Protocol::Https2,
        _ => return None,
    })
}

/// Whole seconds, with or without their unit.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: u64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(TIMEOUT_SECONDS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pairs: &[(&str, &str)]) -> Annotated {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        read(Some(&pairs.iter().map(own).collect()))
    }

    #[test]
    fn without_annotations_all_is_as_usual() {
        let usual = Settings { redirects_to_https: true, ..Settings::default() };
        assert_eq!(read(None), Annotated { settings: usual, ..Annotated::default() });
        assert_eq!(read_all(&[("some.other/ssl-redirect", "false")]), read(None));
    }

    #[test]
    fn both_names_are_known_and_ours_goes_first() {
        let nginx = ("nginx.ingress.kubernetes.io/ssl-redirect", "false");
        assert!(!read_all(&[nginx]).settings.redirects_to_https);
        let ours = ("ingress.kinglet.dev/ssl-redirect", "true");
        assert!(read_all(&[nginx, ours]).settings.redirects_to_https);
        assert!(read_all(&[("ingress.kinglet.dev/force-ssl-redirect", "true")]).redirects_all);
    }

    #[test]
    fn timeouts_and_protocols() {
        let found = read_all(&[
            ("nginx.ingress.kubernetes.io/proxy-connect-timeout", "2"),
            ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600s"),
            ("nginx.ingress.kubernetes.io/proxy-send-timeout", "99999999"),
            ("nginx.ingress.kubernetes.io/backend-protocol", "grpc"),
        ]);
        let Settings { timeouts, protocol, .. } = found.settings;
        let all = [timeouts.connect, timeouts.read, timeouts.send];
        let seconds = all.map(|timeout| timeout.unwrap().as_secs());
        assert_eq!((seconds, protocol), ([2, 3600, 86_400], Some(Protocol::Http2)));
    }

    #[test]
    fn what_is_not_understood_is_told_and_left_out() {
        let found = read_all(&[
            ("ingress.kinglet.dev/proxy-read-timeout", "soon"),
            ("ingress.kinglet.dev/proxy-send-timeout", "0"),
            ("ingress.kinglet.dev/backend-protocol", "FCGI"),
        ]);
        assert_eq!(found.settings, read(None).settings);
        assert_eq!(
            found.problems,
            [
                "annotation ingress.kinglet.dev/backend-protocol: \"FCGI\" is not understood",
                "annotation ingress.kinglet.dev/proxy-read-timeout: \"soon\" is not understood",
                "annotation ingress.kinglet.dev/proxy-send-timeout: \"0\" is not understood",
            ]
        );
    }
}
