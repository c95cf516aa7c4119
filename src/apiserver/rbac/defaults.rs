//! The roles and bindings that every cluster has.
//!
//! `defaults.txt` lists them and says how it is written; here they become objects. Who reconciles
//! a cluster with them leaves alone what its owner has taken the annotation away from.

use super::aggregate::aggregate;
use super::reconcile::AUTO_UPDATE;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
    Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

/// Upstream's.
const TABLE: &str = include_str!("defaults.txt");
/// What our components need besides.
const ADDITIONS: &str = include_str!("additions.txt");
const WHOLE: &str = "defaults.txt is well formed; a test reads it whole";

const GROUP: &str = "rbac.authorization.k8s.io";
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
const AGGREGATE_PREFIX: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// All of them, in the order of the table.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    pub cluster_roles: Vec<ClusterRole>,
    pub roles: Vec<Role>,
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    pub role_bindings: Vec<RoleBinding>,
}

/// Whoever collects a role may be collected: `view` goes into `edit`, and that into `admin`.
const ROUNDS: usize = 3;

impl Defaults {
    /// With the rules that aggregated roles are to have.
    #[must_use]
    pub fn with_collected_rules(mut self) -> Self {
        for _ in 0..ROUNDS {
            let known = self.cluster_roles.clone();
            for role in &mut self.cluster_roles {
                role.rules = aggregate(role, &known).or(role.rules.take());
            }
        }
        self
    }

    fn read(&mut self, table: &str) {
        // The rules that follow are those of the role of either kind that was opened last.
        let mut is_of_namespace = false;
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<_> = line.split_whitespace().collect();
            match *words.as_slice() {
                _ if line.starts_with(' ') => {
                    let rules = match is_of_namespace {
                        true => self.roles.last_mut().map(|role| &mut role.rules),
                        false => self.cluster_roles.last_mut().map(|role| &mut role.rules),
                    };
                    rules.expect(WHOLE).get_or_insert_default().push(rule(&words));
                }
                ["cluster-role", name, ref rest @ ..] => {
                    is_of_namespace = false;
                    self.cluster_roles.push(cluster_role(name, rest));
                }
                ["role", namespace, name] => {
                    is_of_namespace = true;
                    let metadata = metadata(name, Some(namespace));
                    self.roles.push(Role { metadata, rules: None });
                }
                ["cluster-role-binding", name, role, ref rest @ ..] => {
                    self.cluster_role_bindings.push(ClusterRoleBinding {
                        metadata: metadata(name, None),
                        role_ref: role_ref("ClusterRole", role),
                        subjects: subjects(rest),
                    });
                }
                ["role-binding", namespace, name, role, ref rest @ ..] => {
                    self.role_bindings.push(RoleBinding {
                        metadata: metadata(name, Some(namespace)),
                        role_ref: role_ref("Role", role),
                        subjects: subjects(rest),
                    });
                }
                _ => unreachable!("{WHOLE}: {line}"),
            }
        }
    }
}

/// Reads the tables. Aggregated roles are without rules.
#[must_use]
pub fn defaults() -> Defaults {
    let mut all = Defaults::default();
    for table in [TABLE, ADDITIONS] {
        all.read(table);
    }
    all
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    let pair = |(key, value): (&str, &str)| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(pair(BOOTSTRAPPING)),
        annotations: Some(pair((AUTO_UPDATE, "true"))),
        ..ObjectMeta::default()
    }
}

fn cluster_role(name: &str, settings: &[&str]) -> ClusterRole {
    let mut role = ClusterRole { metadata: metadata(name, None), ..ClusterRole::default() };
    for setting in settings {
        let (key, target) = setting.split_once('=').expect(WHOLE);
        let label = format!("{AGGREGATE_PREFIX}{target}");
        match key {
            "aggregates" => {
                let match_labels = Some(BTreeMap::from([(label, "true".to_owned())]));
                let selector = LabelSelector { match_labels, ..LabelSelector::default() };
                let cluster_role_selectors = Some(vec![selector]);
                role.aggregation_rule = Some(AggregationRule { cluster_role_selectors });
            }
            _ => {
                let labels = role.metadata.labels.get_or_insert_default();
                labels.insert(label, "true".to_owned());
            }
        }
    }
    role
}

fn rule(words: &[&str]) -> PolicyRule {
    let group = |word: &str| if word == "core" { String::new() } else { word.to_owned() };
    let plain = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let (verbs, rest) = words.split_first().expect(WHOLE);
    let verbs = plain(verbs);
    match *rest {
        ["urls", paths] => {
            PolicyRule { verbs, non_resource_urls: Some(plain(paths)), ..PolicyRule::default() }
        }
        [groups, resources, ref names @ ..] => PolicyRule {
            verbs,
            api_groups: Some(groups.split(',').map(group).collect()),
            resources: Some(plain(resources)),
            resource_names: names
                .first()
                .map(|names| plain(names.strip_prefix("names=").expect(WHOLE))),
            ..PolicyRule::default()
        },
        _ => unreachable!("{WHOLE}: {words:?}"),
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: GROUP.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn subjects(words: &[&str]) -> Option<Vec<Subject>> {
    (!words.is_empty()).then(|| words.iter().map(|word| subject(word)).collect())
}

fn subject(word: &str) -> Subject {
    let (kind, name) = word.split_once('=').expect(WHOLE);
    if kind == "account" {
        let (namespace, name) = name.split_once('/').expect(WHOLE);
        return Subject {
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
            api_group: None,
        };
    }
    Subject {
        kind: if kind == "user" { "User" } else { "Group" }.to_owned(),
        name: name.to_owned(),
        api_group: Some(GROUP.to_owned()),
        namespace: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Asker, Place, Policy, Verdict};
    use super::*;
    use std::collections::BTreeSet;

    /// What upstream's own test data says of each role and binding, one fact a line, each rule
    /// taken apart: so grouping and order do not matter here.
    const UPSTREAM: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rbac/defaults.txt"));

    fn facts_of_rules(place: &str, rules: Option<&Vec<PolicyRule>>, facts: &mut BTreeSet<String>) {
        let mut cells: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for rule in rules.into_iter().flatten() {
            let list = |field: &Option<Vec<String>>| field.clone().unwrap_or_default();
            let mut subjects: Vec<_> =
                list(&rule.non_resource_urls).iter().map(|path| format!("path {path}")).collect();
            for group in list(&rule.api_groups) {
                for resource in list(&rule.resources) {
                    let subject = format!("{resource}.{group}");
                    match list(&rule.resource_names).as_slice() {
                        [] => subjects.push(subject),
                        names => {
                            subjects.extend(names.iter().map(|name| format!("{subject} {name}")));
                        }
                    }
                }
            }
            for subject in subjects {
                cells.entry(subject).or_default().extend(rule.verbs.iter().cloned());
            }
        }
        for (subject, verbs) in cells {
            let verbs: Vec<_> = verbs.into_iter().collect();
            facts.insert(format!("{place} on {subject} may {}", verbs.join(",")));
        }
        facts.insert(format!("{place} exists"));
    }

    fn facts_of_binding(
        place: &str,
        role: &RoleRef,
        subjects: Option<&Vec<Subject>>,
        facts: &mut BTreeSet<String>,
    ) {
        let role = format!("{place} gives {} {}", role.kind, role.name);
        if subjects.is_none() {
            facts.insert(format!("{role} to nobody"));
        }
        for Subject { kind, name, namespace, .. } in subjects.into_iter().flatten() {
            let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/"));
            facts.insert(format!("{role} to {kind} {}{name}", namespace.unwrap_or_default()));
        }
    }

    #[test]
    fn every_role_and_binding_is_upstreams() {
        let mut all = Defaults::default();
        all.read(TABLE);
        let mut facts = BTreeSet::new();
        let name = |metadata: &ObjectMeta| metadata.name.clone().unwrap();
        let both = |metadata: &ObjectMeta| {
            format!("{} {}", metadata.namespace.clone().unwrap(), name(metadata))
        };
        for role in &all.cluster_roles {
            let place = format!("cluster-role {}", name(&role.metadata));
            facts_of_rules(&place, role.rules.as_ref(), &mut facts);
            let rule = role.aggregation_rule.iter();
            let selectors = rule.flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
            for label in selectors.flat_map(|selector| selector.match_labels.iter().flatten()) {
                facts.insert(format!("{place} aggregates {}", label.0));
            }
            let labels = role.metadata.labels.iter().flatten();
            for (label, _) in labels.filter(|(label, _)| label.starts_with(AGGREGATE_PREFIX)) {
                facts.insert(format!("{place} has {label}"));
            }
        }
        for role in &all.roles {
            let place = format!("role {}", both(&role.metadata));
            facts_of_rules(&place, role.rules.as_ref(), &mut facts);
        }
        for binding in &all.cluster_role_bindings {
            let place = format!("cluster-role-binding {}", name(&binding.metadata));
            facts_of_binding(&place, &binding.role_ref, binding.subjects.as_ref(), &mut facts);
        }
        for binding in &all.role_bindings {
            let place = format!("role-binding {}", both(&binding.metadata));
            facts_of_binding(&place, &binding.role_ref, binding.subjects.as_ref(), &mut facts);
        }
        let upstream: BTreeSet<_> = UPSTREAM.lines().map(str::to_owned).collect();
        let missing: Vec<_> = upstream.difference(&facts).collect();
        let extra: Vec<_> = facts.difference(&upstream).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:#?}\nextra {extra:#?}");
    }

    /// The policy of a cluster with nothing but the defaults.
    fn policy() -> Policy {
        let mut all = defaults().with_collected_rules();
        let admin = ClusterRoleBinding {
            metadata: metadata("alice", None),
            role_ref: role_ref("ClusterRole", "admin"),
            subjects: subjects(&["user=alice"]),
        };
        all.cluster_role_bindings.push(admin);
        let mut policy = Policy::default();
        for role in all.cluster_roles {
            let name = role.metadata.name.as_deref().unwrap();
            policy.set_role(Place { namespace: None, name }, role.rules);
        }
        for binding in all.cluster_role_bindings {
            let name = binding.metadata.name.as_deref().unwrap();
            let bound = (binding.role_ref, binding.subjects.unwrap_or_default());
            policy.set_binding(Place { namespace: None, name }, Some(bound));
        }
        policy
    }

    #[test]
    fn what_the_defaults_allow() {
        let policy = policy();
        let check =
            |user: &str, group: &str, (verb, api, resource): (&str, &str, &str), expected| {
                let groups = [group.to_owned()];
                let action = match resource.starts_with('/') {
                    true => Action::Path { verb, path: resource },
                    false => {
                        let namespace = Some("kube-system");
                        let (resource, subresource) =
                            resource.split_once('/').unwrap_or((resource, ""));
                        Action::Resource {
                            verb,
                            group: api,
                            resource,
                            subresource,
                            name: "a",
                            namespace,
                        }
                    }
                };
                let verdict = policy.decide(Asker { user, groups: &groups }, &action);
                let allowed = matches!(verdict, Verdict::Allowed(_));
                assert_eq!(allowed, expected, "{user} {group} {verb} {api} {resource}");
            };
        let everybody = "system:authenticated";
        check("root", "system:masters", ("escalate", GROUP, "clusterroles"), true);
        check("root", "system:masters", ("post", "", "/anything"), true);
        check("bob", everybody, ("get", "", "/version"), true);
        check(
            "bob",
            everybody,
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
            true,
        );
        check("bob", everybody, ("get", "", "pods"), false);
        check("system:anonymous", "system:unauthenticated", ("get", "", "/healthz"), true);
        check("system:anonymous", "system:unauthenticated", ("get", "", "/metrics"), false);
        check("alice", everybody, ("create", "apps", "deployments"), true);
        check("alice", everybody, ("get", "", "pods/log"), true);
        check("alice", everybody, ("create", GROUP, "rolebindings"), true);
        check("alice", everybody, ("create", GROUP, "clusterrolebindings"), false);
        check("system:kube-scheduler", everybody, ("create", "", "pods/binding"), true);
        check("system:kube-scheduler", everybody, ("create", "", "secrets"), false);
        let controller = "system:serviceaccount:kube-system:deployment-controller";
        check(controller, everybody, ("create", "apps", "replicasets"), true);
        check(controller, everybody, ("create", "apps", "daemonsets"), false);
    }

    #[test]
    fn every_default_is_marked() {
        let all = defaults();
        for metadata in all.cluster_roles.iter().map(|role| &role.metadata) {
            assert_eq!(metadata.annotations.as_ref().unwrap()[AUTO_UPDATE], "true");
            assert_eq!(metadata.labels.as_ref().unwrap()[BOOTSTRAPPING.0], BOOTSTRAPPING.1);
        }
    }
}
