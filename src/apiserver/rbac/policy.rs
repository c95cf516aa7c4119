//! Who has which rules: roles and bindings, indexed by whom they name.
//!
//! Follows upstream `VisitRulesFor` (pkg/registry/rbac/validation/rule.go, v1.35). A request looks
//! only at the bindings that name its user or one of its groups, however many others there are.

use super::rules::{Action, allows};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use std::collections::HashMap;
use std::sync::Arc;

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub user: &'a str,
    pub groups: &'a [String],
}

/// What a policy is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a> {
    pub roles: &'a [Role],
    pub cluster_roles: &'a [ClusterRole],
    pub role_bindings: &'a [RoleBinding],
    pub cluster_role_bindings: &'a [ClusterRoleBinding],
}

/// Rules that somebody has by one binding.
#[derive(Clone, Debug)]
struct Grant {
    /// `None`: everywhere, also where there are no namespaces.
    namespace: Option<Arc<str>>,
    rules: Arc<[PolicyRule]>,
    /// Which binding of which role to whom, for the audit.
    origin: Arc<str>,
}

/// All roles and bindings at one time.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    by_user: HashMap<String, Vec<Grant>>,
    by_group: HashMap<String, Vec<Grant>>,
}

/// The rules of every role, by namespace (empty for ClusterRoles) and name.
type Rules<'a> = HashMap<(&'a str, &'a str), Arc<[PolicyRule]>>;

/// A binding of either kind.
#[derive(Clone, Copy)]
struct Binding<'a> {
    name: &'a str,
    /// `None` of a ClusterRoleBinding.
    namespace: Option<&'a str>,
    role: &'a RoleRef,
}

impl Policy {
    /// A binding whose role there is not gives nothing.
    #[must_use]
    pub fn new(objects: Objects<'_>) -> Self {
        let rules = rules_by_name(objects);
        let mut policy = Self::default();
        for binding in objects.cluster_role_bindings {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            let named = Binding { name, namespace: None, role: &binding.role_ref };
            policy.bind(named, binding.subjects.as_deref().unwrap_or_default(), &rules);
        }
        for binding in objects.role_bindings {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            let namespace = Some(binding.metadata.namespace.as_deref().unwrap_or_default());
            let named = Binding { name, namespace, role: &binding.role_ref };
            policy.bind(named, binding.subjects.as_deref().unwrap_or_default(), &rules);
        }
        policy
    }

    fn bind(&mut self, binding: Binding<'_>, subjects: &[Subject], rules: &Rules<'_>) {
        let namespace = match binding.role.kind.as_str() {
            "ClusterRole" => "",
            _ => binding.namespace.unwrap_or_default(),
        };
        let Some(rules) = rules.get(&(namespace, binding.role.name.as_str())) else {
            return;
        };
        for subject in subjects {
            let grant = Grant {
                namespace: binding.namespace.map(Arc::from),
                rules: Arc::clone(rules),
                origin: describe(binding, subject).into(),
            };
            match subject.kind.as_str() {
                "User" => self.by_user.entry(subject.name.clone()).or_default().push(grant),
                "Group" => self.by_group.entry(subject.name.clone()).or_default().push(grant),
                "ServiceAccount" => {
                    if let Some(namespace) = namespace_of(subject, binding) {
                        let user = format!("{ACCOUNT_PREFIX}{namespace}:{}", subject.name);
                        self.by_user.entry(user).or_default().push(grant);
                    }
                }
                _ => {}
            }
        }
    }

    /// Why the action is allowed, or `None` where nothing allows it. The bindings of the cluster
    /// come first, as they do upstream.
    #[must_use]
    pub fn decide(&self, asker: Asker<'_>, action: &Action<'_>) -> Option<String> {
        let namespace = match action {
            Action::Resource { namespace, .. } => *namespace,
            Action::Path { .. } => None,
        };
        let allowing = |grant: &&Grant| grant.rules.iter().any(|rule| allows(rule, action));
        let mut grants = self.grants(asker, None);
        let found = grants.find(allowing).or_else(|| {
            let namespace = namespace?;
            self.grants(asker, Some(namespace)).find(allowing)
        });
        found.map(|grant| format!("RBAC: allowed by {}", grant.origin))
    }

    /// Every rule that somebody has in a namespace, or outside of all of them.
    #[must_use]
    pub fn rules_of(&self, asker: Asker<'_>, namespace: Option<&str>) -> Vec<PolicyRule> {
        let local = namespace.map(|namespace| self.grants(asker, Some(namespace)));
        let grants = self.grants(asker, None).chain(local.into_iter().flatten());
        grants.flat_map(|grant| grant.rules.iter().cloned()).collect()
    }

    /// What the asker has by bindings of exactly this namespace.
    fn grants<'a>(
        &'a self,
        asker: Asker<'a>,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Grant> {
        let of_user = self.by_user.get(asker.user).into_iter();
        let of_groups = asker.groups.iter().filter_map(|group| self.by_group.get(group));
        let all = of_user.chain(of_groups).flatten();
        all.filter(move |grant| grant.namespace.as_deref() == namespace)
    }
}

fn rules_by_name(objects: Objects<'_>) -> Rules<'_> {
    let shared = |rules: &Option<Vec<PolicyRule>>| rules.clone().unwrap_or_default().into();
    let roles = objects.roles.iter().map(|role| {
        let namespace = role.metadata.namespace.as_deref().unwrap_or_default();
        let name = role.metadata.name.as_deref().unwrap_or_default();
        ((namespace, name), shared(&role.rules))
    });
    let cluster_roles = objects
        .cluster_roles
        .iter()
        .map(|role| (("", role.metadata.name.as_deref().unwrap_or_default()), shared(&role.rules)));
    roles.chain(cluster_roles).collect()
}

/// The namespace of a service account: its own, or else that of the binding.
fn namespace_of<'a>(subject: &'a Subject, binding: Binding<'a>) -> Option<&'a str> {
    subject.namespace.as_deref().filter(|namespace| !namespace.is_empty()).or(binding.namespace)
}

fn describe(binding: Binding<'_>, subject: &Subject) -> String {
    let Binding { name, namespace, role } = binding;
    let (kind, name) = match namespace {
        None => ("ClusterRoleBinding", name.to_owned()),
        Some(namespace) => ("RoleBinding", format!("{name}/{namespace}")),
    };
    let subject_name = match subject.kind.as_str() {
        "ServiceAccount" => {
            format!("{}/{}", subject.name, namespace_of(subject, binding).unwrap_or_default())
        }
        _ => subject.name.clone(),
    };
    let (role_kind, role_name, subject_kind) = (&role.kind, &role.name, &subject.kind);
    format!("{kind} {name:?} of {role_kind} {role_name:?} to {subject_kind} {subject_name:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn rules(verb: &str) -> Value {
        json!([
            {"verbs": [verb], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": [verb], "nonResourceURLs": ["/metrics"]},
        ])
    }

    fn policy() -> Policy {
        let role = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let binding = |name: &str, role: Value, subjects: Value| json!({"metadata": {"name": name, "namespace": "dev"}, "roleRef": role, "subjects": subjects});
        let roles = json!([{"metadata": {"name": "r", "namespace": "dev"}, "rules": rules("get")}]);
        let cluster_roles = json!([{"metadata": {"name": "r"}, "rules": rules("list")}]);
        let role_bindings = json!([
            binding("a", role("Role", "r"), json!([{"kind": "User", "name": "alice"}])),
            binding(
                "b",
                role("ClusterRole", "r"),
                json!([{"kind": "ServiceAccount", "name": "bot"}])
            ),
            binding("c", role("Role", "gone"), json!([{"kind": "User", "name": "bob"}])),
            binding(
                "d",
                role("ClusterRole", "r"),
                json!([
                    {"kind": "ServiceAccount", "name": "bot", "namespace": "ops"},
                ])
            ),
        ]);
        let cluster_role_bindings = json!([
            binding("e", role("ClusterRole", "r"), json!([{"kind": "Group", "name": "ops"}])),
            binding(
                "f",
                role("ClusterRole", "r"),
                json!([{"kind": "ServiceAccount", "name": "x"}])
            ),
        ]);
        Policy::new(Objects {
            roles: &from_value::<Vec<_>>(roles).unwrap(),
            cluster_roles: &from_value::<Vec<_>>(cluster_roles).unwrap(),
            role_bindings: &from_value::<Vec<_>>(role_bindings).unwrap(),
            cluster_role_bindings: &from_value::<Vec<_>>(cluster_role_bindings).unwrap(),
        })
    }

    /// `user[@group] verb pods[@namespace]` or `user verb /path`.
    #[track_caller]
    fn check(request: &str, expected: Option<&str>) {
        let words: Vec<_> = request.split(' ').collect();
        let (user, group) = words[0].split_once('@').unwrap_or((words[0], ""));
        let groups = [group.to_owned()];
        let (resource, namespace) = match words[2].split_once('@') {
            Some((resource, namespace)) => (resource, Some(namespace)),
            None => (words[2], None),
        };
        let verb = words[1];
        let action = if resource.starts_with('/') {
            Action::Path { verb, path: resource }
        } else {
            Action::Resource { verb, group: "", resource, subresource: "", name: "", namespace }
        };
        let reason = policy().decide(Asker { user, groups: &groups }, &action);
        let expected = expected.map(|origin| format!("RBAC: allowed by {origin}"));
        assert_eq!(reason, expected, "{request}");
    }

    #[test]
    fn bindings_of_a_namespace_count_there_only() {
        check("alice get pods@dev", Some(r#"RoleBinding "a/dev" of Role "r" to User "alice""#));
        check("alice get pods@ops", None);
        check("alice get pods", None);
        check("alice list pods@dev", None);
        check("alice get /metrics", None);
        check("bob get pods@dev", None);
    }

    #[test]
    fn accounts_are_users_with_a_long_name() {
        check(
            "system:serviceaccount:dev:bot list pods@dev",
            Some(r#"RoleBinding "b/dev" of ClusterRole "r" to ServiceAccount "bot/dev""#),
        );
        check(
            "system:serviceaccount:ops:bot list pods@dev",
            Some(r#"RoleBinding "d/dev" of ClusterRole "r" to ServiceAccount "bot/ops""#),
        );
        check("system:serviceaccount:ops:bot list pods@ops", None);
        check("bot list pods@dev", None);
        // In a binding of the cluster, an account without a namespace is nobody.
        check("system:serviceaccount:dev:x list pods@dev", None);
        check("system:serviceaccount::x list pods", None);
    }

    #[test]
    fn bindings_of_the_cluster_count_everywhere() {
        let origin = Some(r#"ClusterRoleBinding "e" of ClusterRole "r" to Group "ops""#);
        check("carol@ops list pods@dev", origin);
        check("carol@ops list pods", origin);
        check("carol@ops list /metrics", origin);
        check("carol@dev list pods", None);
        check("ops list pods", None);
    }

    #[test]
    fn all_rules_of_somebody() {
        let groups = ["ops".to_owned()];
        let verbs = |user: &str, namespace| {
            let rules = policy().rules_of(Asker { user, groups: &groups }, namespace);
            rules.iter().map(|rule| rule.verbs.join("")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(verbs("alice", Some("dev")), "list,list,get,get");
        assert_eq!(verbs("alice", Some("ops")), "list,list");
        assert_eq!(verbs("alice", None), "list,list");
    }
}
