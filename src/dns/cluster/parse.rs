//! What a name of the cluster's zone asks for (coredns `parseRequest`, plugin/kubernetes). Pure.

/// See [`parse`]. Texts are lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// The zone itself.
    Apex,
    /// A name that only has others below it.
    Inner,
    /// `dns-version`
    Version,
    /// `ns.dns`
    NameServer,
    /// `shop.svc`, `shop.pod`
    Namespace {
        namespace: &'a str,
    },
    /// `web.shop.svc`; `key` is `web.shop`.
    Service {
        key: &'a str,
        namespace: &'a str,
    },
    /// `10-42-0-7.web.shop.svc`, `db-0.db.shop.svc`
    Endpoint {
        label: &'a str,
        key: &'a str,
    },
    /// `_https._tcp.web.shop.svc`
    Port {
        name: &'a str,
        protocol: &'a str,
        key: &'a str,
    },
    /// `10-42-0-7.shop.pod`
    Pod {
        label: &'a str,
        namespace: &'a str,
    },
    Nothing,
}

/// `before` is what stands before the zone.
pub(super) fn parse(before: &str) -> Wanted<'_> {
    match before {
        "" => return Wanted::Apex,
        "svc" | "pod" | "dns" => return Wanted::Inner,
        "dns-version" => return Wanted::Version,
        "ns.dns" => return Wanted::NameServer,
        _ => {}
    }
    let Some((rest, tree)) = before.rsplit_once('.') else { return Wanted::Nothing };
    match tree {
        "svc" => service(rest),
        "pod" => pod(rest),
        _ => Wanted::Nothing,
    }
}

fn service(rest: &str) -> Wanted<'_> {
    let Some((before, namespace)) = rest.rsplit_once('.') else {
        return Wanted::Namespace { namespace: rest };
    };
    let Some((labels, service)) = before.rsplit_once('.') else {
        return Wanted::Service { key: rest, namespace };
    };
    let key = &rest[rest.len() - service.len() - 1 - namespace.len()..];
    match labels.split_once('.') {
        None => Wanted::Endpoint { label: labels, key },
        Some((_, protocol)) if protocol.contains('.') => Wanted::Nothing,
        Some((name, protocol)) => {
            // Like coredns, without insisting on the underscores.
            let plain = |label| str::strip_prefix(label, '_').unwrap_or(label);
            Wanted::Port { name: plain(name), protocol: plain(protocol), key }
        }
    }
}

fn pod(rest: &str) -> Wanted<'_> {
    match rest.split_once('.') {
        None => Wanted::Namespace { namespace: rest },
        Some((_, namespace)) if namespace.contains('.') => Wanted::Nothing,
        Some((label, namespace)) => Wanted::Pod { label, namespace },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ask_for_what_they_say() {
        let (key, namespace) = ("web.shop", "shop");
        for (before, expected) in [
            ("", Wanted::Apex),
            ("svc", Wanted::Inner),
            ("dns-version", Wanted::Version),
            ("ns.dns", Wanted::NameServer),
            ("shop.svc", Wanted::Namespace { namespace }),
            ("shop.pod", Wanted::Namespace { namespace }),
            ("web.shop.svc", Wanted::Service { key, namespace }),
            ("a.web.shop.svc", Wanted::Endpoint { label: "a", key }),
            ("_h._tcp.web.shop.svc", Wanted::Port { name: "h", protocol: "tcp", key }),
            ("h.tcp.web.shop.svc", Wanted::Port { name: "h", protocol: "tcp", key }),
            ("x._h._tcp.web.shop.svc", Wanted::Nothing),
            ("10-42-0-7.shop.pod", Wanted::Pod { label: "10-42-0-7", namespace }),
            ("x.10-42-0-7.shop.pod", Wanted::Nothing),
            ("example.org", Wanted::Nothing),
            ("example", Wanted::Nothing),
            ("example.org.shop.svc", Wanted::Endpoint { label: "example", key: "org.shop" }),
        ] {
            assert_eq!(parse(before), expected, "{before}");
        }
    }
}
