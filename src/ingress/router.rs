//! Which rule a request comes under: a look-up by host, then one by path.
//!
//! What it costs depends on how many elements the path has, and not on how many rules there are.

use super::model::{HostPattern, HostRules, Model, PathMatch, Rule};
use std::collections::HashMap;

/// A [`Model`] made ready for many questions. `R` is what a rule has become.
#[derive(Debug)]
pub(super) struct Router<R> {
    exact: HashMap<Box<str>, Host<R>>,
    wildcard: HashMap<Box<str>, Host<R>>,
    any: Option<Host<R>>,
    fallback: Option<R>,
}

#[derive(Debug)]
struct Host<R> {
    exact: HashMap<Box<[u8]>, R>,
    prefixes: HashMap<Box<[u8]>, R>,
    fallback: Option<R>,
}

impl<R> Router<R> {
    /// `make` says what a rule becomes.
    pub(super) fn new(model: &Model, mut make: impl FnMut(&Rule) -> R) -> Self {
        let mut router = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: None,
            fallback: model.fallback.as_ref().map(&mut make),
        };
        for (pattern, rules) in &model.hosts {
            let host = Host::new(rules, &mut make);
            match pattern {
                HostPattern::Any => router.any = Some(host),
                HostPattern::Wildcard(suffix) => {
                    router.wildcard.insert(suffix.clone(), host);
                }
                HostPattern::Exact(name) => {
                    router.exact.insert(name.clone(), host);
                }
            }
        }
        router
    }

    /// The rule for a host, in lower case and without a port, and a path in normal form. The host
    /// is looked for first, the most specific; another is not tried where its paths do not match
    /// (k8s.io/api networking/v1 `IngressRule.Host`, v1.35).
    #[must_use]
    pub(super) fn route(&self, host: &str, path: &[u8]) -> Option<&R> {
        let found = self.host(host).and_then(|host| host.route(path));
        found.or(self.fallback.as_ref())
    }

    fn host(&self, name: &str) -> Option<&Host<R>> {
        if let Some(host) = self.exact.get(name) {
            return Some(host);
        }
        if let Some((label, suffix)) = name.split_once('.')
            && !label.is_empty()
            && let Some(host) = self.wildcard.get(suffix)
        {
            return Some(host);
        }
        self.any.as_ref()
    }
}

impl<R> Host<R> {
    fn new(rules: &HostRules, make: &mut impl FnMut(&Rule) -> R) -> Self {
        let mut host = Self {
            exact: HashMap::new(),
            prefixes: HashMap::new(),
            fallback: rules.fallback.as_ref().map(&mut *make),
        };
        for (path, rule) in &rules.rules {
            match path {
                PathMatch::Exact(path) => host.exact.insert(path.clone(), make(rule)),
                PathMatch::Prefix(path) => host.prefixes.insert(path.clone(), make(rule)),
            };
        }
        host
    }

    fn route(&self, path: &[u8]) -> Option<&R> {
        if let Some(rule) = self.exact.get(path) {
            return Some(rule);
        }
        let mut rest = Some(path.strip_suffix(b"/").unwrap_or(path));
        while let Some(prefix) = rest {
            if let Some(rule) = self.prefixes.get(prefix) {
                return Some(rule);
            }
            rest = prefix.iter().rposition(|byte| *byte == b'/').map(|at| &prefix[..at]);
        }
        self.fallback.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Settings, Target};
    use super::*;
    use crate::api::ObjectKey;
    use std::sync::Arc;

    fn rule(name: &str) -> Rule {
        Rule {
            target: Target::Nothing(name.into()),
            settings: Arc::new(Settings::default()),
            source: ObjectKey::namespaced("n", name),
        }
    }

    /// Rules as `host exact|prefix path`; a rule's name is what it was written as.
    fn router(rules: &[&str]) -> Router<String> {
        let mut model = Model::default();
        for text in rules {
            let parts: Vec<&str> = text.split(' ').collect();
            let (host, rule) = (HostPattern::parse(parts[0].trim_start_matches('-')), rule(text));
            let host = model.hosts.entry(host).or_default();
            match parts[1] {
                "exact" => {
                    host.rules.insert(PathMatch::Exact(parts[2].as_bytes().into()), rule);
                }
                "prefix" => {
                    let path = parts[2].trim_end_matches('/');
                    host.rules.insert(PathMatch::Prefix(path.as_bytes().into()), rule);
                }
                _ => host.fallback = Some(rule),
            }
        }
        model.fallback = Some(rule("all else"));
        Router::new(&model, |rule| rule.source.name.clone())
    }

    #[track_caller]
    fn check(rules: &[&str], asked: &[(&str, &str)]) {
        let router = router(rules);
        for (request, expected) in asked {
            let (host, path) = request.split_once('/').unwrap();
            let found = router.route(host, format!("/{path}").as_bytes()).unwrap();
            assert_eq!(found, expected, "{request} of {rules:?}");
        }
    }

    #[test]
    fn prefixes_match_by_element() {
        let (slash, foo) = ("- prefix /", "- prefix /foo");
        check(
            &[foo],
            &[
                ("a/foo", foo),
                ("a/foo/", foo),
                ("a/foo/bar", foo),
                ("a/foobar", "all else"),
                ("a/Foo", "all else"),
                ("a/", "all else"),
            ],
        );
        check(&["- prefix /foo/"], &[("a/foo", "- prefix /foo/"), ("a/foo/x", "- prefix /foo/")]);
        check(&[slash], &[("a/", slash), ("a/anything/at/all", slash)]);
        let rules = [slash, "- prefix /aaa", "- prefix /aaa/bbb"];
        check(
            &rules,
            &[
                ("a/aaa/bbb/ccc", rules[2]),
                ("a/aaa/bbb", rules[2]),
                ("a/aaa/ccc", rules[1]),
                ("a/aaa/bbbxyz", rules[1]),
                ("a/ccc", slash),
            ],
        );
    }

    #[test]
    fn exact_paths_are_exact_and_go_first() {
        let (exact, prefix) = ("- exact /foo", "- prefix /foo");
        check(&[exact], &[("a/foo", exact), ("a/foo/", "all else"), ("a/foo/x", "all else")]);
        check(&["- exact /foo/"], &[("a/foo", "all else"), ("a/foo/", "- exact /foo/")]);
        check(&[exact, prefix], &[("a/foo", exact), ("a/foo/", prefix), ("a/foo/x", prefix)]);
    }

    #[test]
    fn the_most_specific_host_is_asked_and_no_other() {
        let rules =
            ["a.b.c prefix /x", "*.b.c prefix /y", "- prefix /z", "*.b.c else", "*.c prefix /y"];
        check(
            &rules,
            &[
                ("a.b.c/x", rules[0]),
                ("a.b.c/y", "all else"),
                ("d.b.c/y", rules[1]),
                ("d.b.c/x", rules[3]),
                ("b.c/y", rules[4]),
                ("c/z", rules[2]),
                (".b.c/z", rules[2]),
                ("e.d.b.c/y", "all else"),
                ("e.d.b.c/z", rules[2]),
                ("/z", rules[2]),
            ],
        );
    }

    #[test]
    fn patterns_are_read_as_users_write_them() {
        for (text, expected) in [
            ("", HostPattern::Any),
            ("A.Example.", HostPattern::Exact("a.example".into())),
            ("*.Example", HostPattern::Wildcard("example".into())),
        ] {
            assert_eq!(HostPattern::parse(text), expected);
        }
    }
}
