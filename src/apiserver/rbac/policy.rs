//! Who has which rules: roles and bindings, indexed by whom they name.
//!
//! Follows upstream `VisitRulesFor` (pkg/registry/rbac/validation/rule.go, v1.35). A request looks
//! only at the bindings that name its user or one of its groups, and only those of the cluster and of
//! its namespace, however many others there are. A change of a role or of a binding costs as much as
//! that one is large.

use super::rules::{Action, allows};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Where ClusterRoles and ClusterRoleBindings are: in the namespace without a name.
const CLUSTER: &str = "";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub user: &'a str,
    pub groups: &'a [String],
}

/// A role or a binding by its place. `namespace` is `None` for those of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub namespace: Option<&'a str>,
    pub name: &'a str,
}

/// A binding of either kind.
#[derive(Debug)]
struct Binding {
    name: String,
    /// `None` of a ClusterRoleBinding.
    namespace: Option<String>,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// What a binding gives to one of its subjects.
#[derive(Clone, Debug)]
pub struct Grant {
    binding: Arc<Binding>,
    subject: usize,
}

/// What a policy says to an action.
#[derive(Clone, Debug)]
pub enum Verdict {
    Allowed(Grant),
    /// Nothing allows it. Roles that bindings name and that are not there may be the reason.
    Unknown {
        missing: Vec<String>,
    },
}

/// By the name of the user or of the group.
type Grants = HashMap<String, Vec<Grant>>;

/// The roles and bindings of one namespace, or those of the cluster.
#[derive(Debug, Default)]
struct Namespace {
    roles: HashMap<String, Arc<[PolicyRule]>>,
    bindings: HashMap<String, Arc<Binding>>,
    by_user: Grants,
    by_group: Grants,
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub struct Policy {
    namespaces: HashMap<String, Namespace>,
}

impl Policy {
    /// A role has these rules from now on, or is gone.
    pub fn set_role(&mut self, place: Place<'_>, rules: Option<Vec<PolicyRule>>) {
        let namespace = self.namespaces.entry(place.namespace_name().to_owned()).or_default();
        match rules {
            Some(rules) => namespace.roles.insert(place.name.to_owned(), rules.into()),
            None => namespace.roles.remove(place.name),
        };
        self.drop_empty(place);
    }

    /// A binding gives this role to these from now on, or is gone.
    pub fn set_binding(&mut self, place: Place<'_>, bound: Option<(RoleRef, Vec<Subject>)>) {
        let namespace = self.namespaces.entry(place.namespace_name().to_owned()).or_default();
        if let Some(old) = namespace.bindings.remove(place.name) {
            namespace.unbind(&old);
        }
        if let Some((role, subjects)) = bound {
            let binding = Arc::new(Binding {
                name: place.name.to_owned(),
                namespace: place.namespace.map(str::to_owned),
                role,
                subjects,
            });
            namespace.bind(&binding);
            namespace.bindings.insert(place.name.to_owned(), binding);
        }
        self.drop_empty(place);
    }

    fn drop_empty(&mut self, place: Place<'_>) {
        let name = place.namespace_name();
        let is_empty = |known: &Namespace| known.roles.is_empty() && known.bindings.is_empty();
        if self.namespaces.get(name).is_some_and(is_empty) {
            self.namespaces.remove(name);
        }
    }

    /// Whether something allows the action. The bindings of the cluster come first, as they do
    /// upstream.
    #[must_use]
    pub fn decide(&self, asker: Asker<'_>, action: &Action<'_>) -> Verdict {
        let namespace = match action {
            Action::Resource { namespace, .. } => *namespace,
            Action::Path { .. } => None,
        };
        let mut missing = Vec::new();
        for grant in self.grants(asker, namespace) {
            match self.rules(&grant.binding) {
                Some(rules) if rules.iter().any(|rule| allows(rule, action)) => {
                    return Verdict::Allowed(grant.clone());
                }
                Some(_) => {}
                None => {
                    let error = grant.binding.role_is_missing();
                    if !missing.contains(&error) {
                        missing.push(error);
                    }
                }
            }
        }
        Verdict::Unknown { missing }
    }

    /// Every rule that somebody has in a namespace, or outside of all of them, and what is missing.
    #[must_use]
    pub fn rules_of(
        &self,
        asker: Asker<'_>,
        namespace: Option<&str>,
    ) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut owned, mut missing) = (Vec::new(), Vec::new());
        for grant in self.grants(asker, namespace) {
            match self.rules(&grant.binding) {
                Some(rules) => owned.extend(rules.iter().cloned()),
                None => missing.push(grant.binding.role_is_missing()),
            }
        }
        (owned, missing)
    }

    /// The rules of a role that a binding in `namespace` names.
    #[must_use]
    pub fn rules_of_role(
        &self,
        role: &RoleRef,
        namespace: Option<&str>,
    ) -> Option<Arc<[PolicyRule]>> {
        let place = if role.kind == "ClusterRole" { CLUSTER } else { namespace? };
        self.namespaces.get(place)?.roles.get(&role.name).cloned()
    }

    fn rules(&self, binding: &Binding) -> Option<&Arc<[PolicyRule]>> {
        let place = match binding.role.kind.as_str() {
            "ClusterRole" => CLUSTER,
            _ => binding.namespace.as_deref()?,
        };
        self.namespaces.get(place)?.roles.get(&binding.role.name)
    }

    /// What the asker has by bindings of the cluster, and by those of this namespace.
    fn grants<'a>(
        &'a self,
        asker: Asker<'a>,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Grant> {
        let namespace = namespace.filter(|namespace| *namespace != CLUSTER);
        let places = [Some(CLUSTER), namespace].into_iter().flatten();
        places.filter_map(|place| self.namespaces.get(place)).flat_map(move |namespace| {
            let of_user = namespace.by_user.get(asker.user).into_iter();
            let of_groups = asker.groups.iter().filter_map(|group| namespace.by_group.get(group));
            of_user.chain(of_groups).flatten()
        })
    }
}

impl Place<'_> {
    fn namespace_name(&self) -> &str {
        self.namespace.unwrap_or(CLUSTER)
    }
}

impl Namespace {
    fn bind(&mut self, binding: &Arc<Binding>) {
        for (index, subject) in binding.subjects.iter().enumerate() {
            if let Some((by_name, name)) = self.index(binding, subject) {
                let grant = Grant { binding: Arc::clone(binding), subject: index };
                by_name.entry(name).or_default().push(grant);
            }
        }
    }

    fn unbind(&mut self, binding: &Arc<Binding>) {
        for subject in &binding.subjects {
            if let Some((by_name, name)) = self.index(binding, subject)
                && let Some(grants) = by_name.get_mut(&name)
            {
                grants.retain(|grant| !Arc::ptr_eq(&grant.binding, binding));
                if grants.is_empty() {
                    by_name.remove(&name);
                }
            }
        }
    }

    /// Where the grants of a binding's subject are. `None` if nobody can be that subject.
    fn index(&mut self, binding: &Binding, subject: &Subject) -> Option<(&mut Grants, String)> {
        match subject.kind.as_str() {
            "User" => Some((&mut self.by_user, subject.name.clone())),
            "Group" => Some((&mut self.by_group, subject.name.clone())),
            "ServiceAccount" => {
                let namespace = binding.namespace_of(subject)?;
                let user = format!("{ACCOUNT_PREFIX}{namespace}:{}", subject.name);
                Some((&mut self.by_user, user))
            }
            _ => None,
        }
    }
}

impl Binding {
    /// The namespace of a service account: its own, or else that of the binding.
    fn namespace_of<'a>(&'a self, subject: &'a Subject) -> Option<&'a str> {
        let own = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        own.or(self.namespace.as_deref())
    }

    fn role_is_missing(&self) -> String {
        let RoleRef { kind, name, .. } = &self.role;
        format!("{}.rbac.authorization.k8s.io {name:?} not found", kind.to_lowercase())
    }
}

/// Which binding of which role to whom, in upstream's words.
impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { name, namespace, role, subjects } = &*self.binding;
        let (kind, name) = match namespace {
            None => ("ClusterRoleBinding", name.clone()),
            Some(namespace) => ("RoleBinding", format!("{name}/{namespace}")),
        };
        let subject = &subjects[self.subject];
        let subject_name = match subject.kind.as_str() {
            "ServiceAccount" => {
                let namespace = self.binding.namespace_of(subject).unwrap_or_default();
                format!("{}/{namespace}", subject.name)
            }
            _ => subject.name.clone(),
        };
        let (role_kind, role_name, subject_kind) = (&role.kind, &role.name, &subject.kind);
        write!(
            formatter,
            "{kind} {name:?} of {role_kind} {role_name:?} to {subject_kind} {subject_name:?}"
        )
    }
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
        let mut policy = Policy::default();
        for (namespace, list) in [(Some("dev"), &roles), (None, &cluster_roles)] {
            for role in list.as_array().unwrap() {
                let name = role["metadata"]["name"].as_str().unwrap();
                let rules = from_value(role["rules"].clone()).unwrap();
                policy.set_role(Place { namespace, name }, Some(rules));
            }
        }
        for (namespace, list) in [(Some("dev"), &role_bindings), (None, &cluster_role_bindings)] {
            for binding in list.as_array().unwrap() {
                let name = binding["metadata"]["name"].as_str().unwrap();
                let role = from_value(binding["roleRef"].clone()).unwrap();
                let subjects = from_value(binding["subjects"].clone()).unwrap();
                policy.set_binding(Place { namespace, name }, Some((role, subjects)));
            }
        }
        policy
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
        let reason = match policy().decide(Asker { user, groups: &groups }, &action) {
            Verdict::Allowed(grant) => Some(grant.to_string()),
            Verdict::Unknown { .. } => None,
        };
        assert_eq!(reason.as_deref(), expected, "{request}");
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
            let (rules, _) = policy().rules_of(Asker { user, groups: &groups }, namespace);
            rules.iter().map(|rule| rule.verbs.join("")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(verbs("alice", Some("dev")), "list,list,get,get");
        assert_eq!(verbs("alice", Some("ops")), "list,list");
        assert_eq!(verbs("alice", None), "list,list");
    }

    #[test]
    fn a_role_that_is_not_there_is_told() {
        let action = Action::Path { verb: "get", path: "/" };
        let asker = Asker { user: "bob", groups: &[] };
        assert!(
            matches!(policy().decide(asker, &action), Verdict::Unknown { missing } if missing.is_empty())
        );
        let pods = Action::Resource {
            verb: "get",
            group: "",
            resource: "pods",
            subresource: "",
            name: "",
            namespace: Some("dev"),
        };
        let Verdict::Unknown { missing } = policy().decide(asker, &pods) else { panic!() };
        assert_eq!(missing, ["role.rbac.authorization.k8s.io \"gone\" not found"]);
    }

    #[test]
    fn what_is_gone_gives_nothing() {
        let mut policy = policy();
        let place = |name| Place { namespace: Some("dev"), name };
        let cluster = |name| Place { namespace: None, name };
        for name in ["a", "b", "c", "d"] {
            policy.set_binding(place(name), None);
        }
        policy.set_role(place("r"), None);
        assert_eq!(policy.namespaces.len(), 1);
        for name in ["e", "f"] {
            policy.set_binding(cluster(name), None);
        }
        policy.set_role(cluster("r"), None);
        assert!(policy.namespaces.is_empty(), "{policy:?}");
    }
}
