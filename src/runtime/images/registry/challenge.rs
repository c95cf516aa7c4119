//! `WWW-Authenticate`: what a registry asks for before it answers (RFC 9110, section 11).

/// How a registry wants to be convinced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best of the challenges in the values of all such headers: a token before a password.
pub(super) fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let challenges: Vec<Challenge> = headers.into_iter().flat_map(parse).collect();
    let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(challenges.first()).cloned()
}

/// All challenges in one header that mean something to us.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header;
    while let Some((scheme, after)) = scheme(rest) {
        let (parameters, next) = parameters(after);
        rest = next;
        let find = |wanted: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = find("realm")
        {
            let (service, scope) = (find("service"), find("scope"));
            challenges.push(Challenge::Bearer { realm, service, scope });
        }
    }
    challenges
}

/// A word, and what follows it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', ',', '\t']);
    let end = text.find([' ', ',']).unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], &text[end..]))
}

/// `key=value` or `key="value"`, by commas apart, up to what is none of them: the next scheme.
fn parameters(mut text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([' ', ',', '\t']);
        let end = start.find(['=', ' ', ',']).unwrap_or(start.len());
        let Some(after) = start[end..].strip_prefix('=').filter(|_| end > 0) else {
            return (found, start);
        };
        let (value, rest) = value(after);
        found.push((&start[..end], value));
        text = rest;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (service, scope) = (owned(service), owned(scope));
        Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
    }

    #[test]
    fn challenges_are_understood() {
        for (headers, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                ][..],
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (&[r#"Basic realm="Registry Realm""#], Some(Challenge::Basic)),
            (
                &[r#"BASIC realm="a, b=c", bearer Realm=https://x , service="y\"z""#],
                bearer("https://x", Some("y\"z"), None),
            ),
            (&["Basic", r#"Bearer realm="r""#], bearer("r", None, None)),
            (&["Basic, Negotiate"], Some(Challenge::Basic)),
            (&["Negotiate YWJj", "Digest realm=x"], None),
            (&["Bearer service=x"], None),
            (&[""], None),
            (&[r#"Bearer realm="unclosed"#], bearer("unclosed", None, None)),
        ] {
            assert_eq!(choose(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_to_an_end(text in "[ -~]{0,60}") {
            choose([text.as_str()]);
        }
    }
}
