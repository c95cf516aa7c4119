//! Which flow a request belongs to. Pure.
//!
//! Follows upstream `matchesFlowSchema` (apiserver pkg/util/flowcontrol/rule.go, v1.35). Start at
//! [`Schema::matches`].

use k8s_openapi::api::flowcontrol::v1::{
    NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// What a request is told by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest<'a> {
    pub(super) user: &'a str,
    pub(super) groups: &'a [String],
    /// The method in lower case, where the path is no resource.
    pub(super) verb: &'a str,
    pub(super) path: &'a str,
    pub(super) resource: Option<ResourceDigest<'a>>,
}

/// Where it is for a resource: its words, empty where there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResourceDigest<'a> {
    pub(super) group: &'a str,
    pub(super) resource: &'a str,
    pub(super) subresource: &'a str,
    pub(super) namespace: &'a str,
}

/// What tells one flow of a schema from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

/// A flow schema, as far as it says which requests are meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schema {
    pub(super) name: Arc<str>,
    pub(super) uid: String,
    /// The name of the priority level.
    pub(super) level: Arc<str>,
    pub(super) precedence: i32,
    pub(super) distinguisher: Distinguisher,
    pub(super) rules: Vec<PolicyRulesWithSubjects>,
}

const ALL: &str = "*";
const ACCOUNT: &str = "system:serviceaccount:";

impl Schema {
    /// Of several that match, the least counts.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        (self.precedence, &self.name).cmp(&(other.precedence, &other.name))
    }

    /// Whether a request is one of its own.
    pub(super) fn matches(&self, digest: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| is_meant(subject, digest))
                && match &digest.resource {
                    Some(asked) => {
                        let mut rules = rule.resource_rules.iter().flatten();
                        rules.any(|rule| is_resource_meant(rule, digest.verb, asked))
                    }
                    None => {
                        let mut rules = rule.non_resource_rules.iter().flatten();
                        rules.any(|rule| is_path_meant(rule, digest))
                    }
                }
        })
    }

    /// What tells the flow of a request from others of the schema.
    pub(super) fn distinguish<'a>(&self, digest: &Digest<'a>) -> &'a str {
        match self.distinguisher {
            Distinguisher::Nothing => "",
            Distinguisher::User => digest.user,
            Distinguisher::Namespace => digest.resource.map_or("", |asked| asked.namespace),
        }
    }
}

fn is_meant(subject: &Subject, digest: &Digest<'_>) -> bool {
    match (&subject.user, &subject.group, &subject.service_account) {
        (Some(user), ..) if subject.kind == "User" => user.name == ALL || user.name == digest.user,
        (_, Some(group), _) if subject.kind == "Group" => {
            group.name == ALL || digest.groups.contains(&group.name)
        }
        (_, _, Some(account)) if subject.kind == "ServiceAccount" => {
            let words = digest.user.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
            words.is_some_and(|(namespace, name)| {
                account.namespace == namespace && (account.name == ALL || account.name == name)
            })
        }
        _ => false,
    }
}

fn is_resource_meant(rule: &ResourcePolicyRule, verb: &str, asked: &ResourceDigest<'_>) -> bool {
    contains(&rule.verbs, verb)
        && (is_all(&rule.resources) || rule.resources.iter().any(|named| names(named, asked)))
        && contains(&rule.api_groups, asked.group)
        && match asked.namespace {
            "" => rule.cluster_scope.unwrap_or_default(),
            namespace => contains(rule.namespaces.as_deref().unwrap_or_default(), namespace),
        }
}

/// `pods`, `pods/status`.
fn names(named: &str, asked: &ResourceDigest<'_>) -> bool {
    match named.split_once('/') {
        Some((resource, part)) => resource == asked.resource && part == asked.subresource,
        None => named == asked.resource && asked.subresource.is_empty(),
    }
}

/// As upstream has it, a path also means everything below it.
fn is_path_meant(rule: &NonResourcePolicyRule, digest: &Digest<'_>) -> bool {
    let is_meant = |named: &String| {
        if named == ALL || named == digest.path {
            return true;
        }
        let above = named.strip_suffix('*').unwrap_or(named);
        let below = digest.path.strip_prefix(above.strip_suffix('/').unwrap_or(above));
        below.is_some_and(|rest| rest.starts_with('/'))
    };
    contains(&rule.verbs, digest.verb) && rule.non_resource_urls.iter().any(is_meant)
}

fn is_all(list: &[String]) -> bool {
    matches!(list, [only] if only == ALL)
}

fn contains(list: &[String], word: &str) -> bool {
    is_all(list) || list.iter().any(|listed| listed == word)
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;

    /// Which of the schemas that every cluster has a request belongs to: `user verb what`, where `what` is
    /// a path, or `group/resource/namespace`.
    #[track_caller]
    fn check(user: &str, groups: &[&str], (verb, what): (&str, &str), expected: &str) {
        let groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        let words: Vec<_> = what.split(',').collect();
        let resource = match words[..] {
            [group, resource, namespace] => {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                Some(ResourceDigest { group, resource, subresource, namespace })
            }
            _ => None,
        };
        let digest = Digest { user, groups: &groups, verb, path: what, resource };
        let config = Config::well_known();
        let schema = config.classify(&digest);
        let told = format!("{} {} {}", schema.name, schema.level, schema.distinguish(&digest));
        assert_eq!(told.trim_end(), expected, "{user} {verb} {what}");
    }

    const AUTHENTICATED: &str = "system:authenticated";

    #[test]
    fn requests_belong_to_the_schemas_of_upstream() {
        let masters = &["system:masters", AUTHENTICATED];
        check("admin", masters, ("get", ",pods,default"), "exempt exempt");
        let nobody = &["system:unauthenticated"];
        check("system:anonymous", nobody, ("get", "/healthz"), "probes exempt");
        check("system:anonymous", nobody, ("get", "/livez/ping"), "probes exempt");
        check("system:anonymous", nobody, ("get", "/livezzz"), {
            "global-default global-default system:anonymous"
        });
        let node = &["system:nodes", AUTHENTICATED];
        let lease = ("update", "coordination.k8s.io,leases,kube-node-lease");
        check("system:node:a", node, lease, "system-node-high node-high system:node:a");
        check("system:node:a", node, ("patch", ",nodes/status,"), {
            "system-node-high node-high system:node:a"
        });
        check(
            "system:node:a",
            node,
            ("patch", ",nodes/proxy,"),
            "system-nodes system system:node:a",
        );
        check("system:node:a", node, ("list", ",pods,"), "system-nodes system system:node:a");
        let scheduler = ("system:kube-scheduler", &[AUTHENTICATED]);
        check(scheduler.0, scheduler.1, ("create", ",pods/binding,shop"), {
            "kube-scheduler workload-high shop"
        });
        check(scheduler.0, scheduler.1, ("update", "coordination.k8s.io,leases,kube-system"), {
            "system-leader-election leader-election system:kube-scheduler"
        });
        let accounts = &["system:serviceaccounts", AUTHENTICATED];
        let own = "system:serviceaccount:kube-system:a";
        check(own, accounts, ("list", ",pods,"), "kube-system-service-accounts workload-high");
        let shop = "system:serviceaccount:shop:a";
        check(shop, accounts, ("list", ",pods,"), {
            "service-accounts workload-low system:serviceaccount:shop:a"
        });
        check("alice", &[AUTHENTICATED], ("get", ",pods,a"), "global-default global-default alice");
        check("stranger", &[], ("get", ",pods,a"), "catch-all catch-all stranger");
    }

    #[test]
    fn paths_mean_what_is_below_them() {
        let digest = |path| Digest { user: "a", groups: &[], verb: "get", path, resource: None };
        let rule = |named: &str| NonResourcePolicyRule {
            verbs: vec!["get".to_owned()],
            non_resource_urls: vec![named.to_owned()],
        };
        for (named, path, expected) in [
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/slis", true),
            ("/metrics", "/metricsx", false),
            ("/metrics/*", "/metrics/slis", true),
            ("/metrics/*", "/metrics", false),
            ("*", "/any", true),
        ] {
            assert_eq!(is_path_meant(&rule(named), &digest(path)), expected, "{named} {path}");
        }
    }
}
