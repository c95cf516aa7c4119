//! What has to be done so that a cluster has its default roles and bindings.
//!
//! Nothing is taken away: what an owner has added stays, what is missing is added, and what they have
//! forbidden to update by the annotation is left alone. Follows upstream
//! component-helpers/auth/rbac/reconciliation (v1.35).

use super::rules::uncovered;
use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Whoever sets this to `false` takes care of the object themselves.
pub(super) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What has to be done with one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    Nothing,
    Create(T),
    Update(T),
    /// It gives another role, which cannot be changed.
    Replace(T),
}

/// Something that every cluster has.
pub trait Reconcile: Clone + Metadata<Ty = ObjectMeta> {
    /// Adds what is expected and missing, but for labels and annotations. Says whether there was any.
    fn complete(&self, existing: &mut Self) -> bool;

    /// Whether what is there gives another role.
    fn gives_another_role(&self, _existing: &Self) -> bool {
        false
    }

    /// What has to be done where this is expected and `existing` is there.
    fn reconcile(&self, existing: Option<&Self>) -> Change<Self> {
        let Some(existing) = existing else { return Change::Create(self.clone()) };
        if is_protected(existing.metadata()) {
            return Change::Nothing;
        }
        if self.gives_another_role(existing) {
            return Change::Replace(self.clone());
        }
        let mut object = existing.clone();
        let merged = merge(object.metadata_mut(), self.metadata());
        let completed = self.complete(&mut object);
        if merged || completed { Change::Update(object) } else { Change::Nothing }
    }
}

impl Reconcile for ClusterRole {
    /// The rules of a role that collects those of others are not this function's business, but where
    /// it is new it begins with what it is expected to have.
    fn complete(&self, existing: &mut Self) -> bool {
        match &self.aggregation_rule {
            None => {
                let had = existing.aggregation_rule.take().is_some();
                had | add_rules(&mut existing.rules, self.rules.as_deref())
            }
            Some(expected) => add_selectors(&mut existing.aggregation_rule, expected),
        }
    }
}

impl Reconcile for Role {
    fn complete(&self, existing: &mut Self) -> bool {
        add_rules(&mut existing.rules, self.rules.as_deref())
    }
}

impl Reconcile for ClusterRoleBinding {
    fn complete(&self, existing: &mut Self) -> bool {
        add_subjects(&mut existing.subjects, self.subjects.as_deref())
    }

    fn gives_another_role(&self, existing: &Self) -> bool {
        existing.role_ref != self.role_ref
    }
}

impl Reconcile for RoleBinding {
    fn complete(&self, existing: &mut Self) -> bool {
        add_subjects(&mut existing.subjects, self.subjects.as_deref())
    }

    fn gives_another_role(&self, existing: &Self) -> bool {
        existing.role_ref != self.role_ref
    }
}

fn is_protected(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.iter().flatten();
    annotations.into_iter().any(|(key, value)| key == AUTO_UPDATE && value == "false")
}

/// Adds the labels and annotations that are missing. Says whether there were any.
fn merge(metadata: &mut ObjectMeta, expected: &ObjectMeta) -> bool {
    let mut changed = false;
    for (own, expected) in [
        (&mut metadata.labels, &expected.labels),
        (&mut metadata.annotations, &expected.annotations),
    ] {
        for (key, value) in expected.iter().flatten() {
            let own = own.get_or_insert_default();
            if !own.contains_key(key) {
                own.insert(key.clone(), value.clone());
                changed = true;
            }
        }
    }
    changed
}

fn add_rules(rules: &mut Option<Vec<PolicyRule>>, expected: Option<&[PolicyRule]>) -> bool {
    let missing = uncovered(rules.as_deref().unwrap_or_default(), expected.unwrap_or_default());
    let changed = !missing.is_empty();
    if changed {
        rules.get_or_insert_default().extend(missing);
    }
    changed
}

fn add_selectors(rule: &mut Option<AggregationRule>, expected: &AggregationRule) -> bool {
    let own = rule.clone().and_then(|rule| rule.cluster_role_selectors).unwrap_or_default();
    let expected = expected.cluster_role_selectors.iter().flatten();
    let missing: Vec<_> = expected.filter(|selector| !own.contains(selector)).cloned().collect();
    let changed = !missing.is_empty();
    if changed {
        let rule = rule.get_or_insert_default();
        rule.cluster_role_selectors.get_or_insert_default().extend(missing);
    }
    changed
}

fn add_subjects(subjects: &mut Option<Vec<Subject>>, expected: Option<&[Subject]>) -> bool {
    let mut changed = false;
    for subject in expected.unwrap_or_default() {
        if !subjects.as_ref().is_some_and(|own| own.contains(subject)) {
            subjects.get_or_insert_default().push(subject.clone());
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::super::defaults;
    use super::*;
    use serde_json::{Value, json};
    use std::fmt::Debug;

    fn find<T: Clone>(all: &[T], is_it: impl Fn(&T) -> bool) -> T {
        all.iter().find(|one| is_it(one)).unwrap().clone()
    }

    fn viewer() -> ClusterRole {
        let name = Some("system:public-info-viewer");
        find(&defaults().cluster_roles, |role| role.metadata.name.as_deref() == name)
    }

    fn discovery() -> ClusterRoleBinding {
        let name = Some("system:discovery");
        find(&defaults().cluster_role_bindings, |role| role.metadata.name.as_deref() == name)
    }

    fn show<T: Debug + serde::Serialize>(change: Change<T>, field: &str) -> Value {
        match change {
            Change::Nothing => json!("nothing"),
            Change::Create(_) => json!("create"),
            Change::Replace(_) => json!("replace"),
            Change::Update(object) => serde_json::to_value(object).unwrap()[field].take(),
        }
    }

    #[test]
    fn what_is_there_stays_and_what_is_missing_comes() {
        let expected = viewer();
        assert_eq!(show(expected.reconcile(None), ""), "create");
        assert_eq!(show(expected.reconcile(Some(&expected)), ""), "nothing");
        let own = PolicyRule {
            verbs: vec!["get".to_owned()],
            non_resource_urls: Some(vec!["/metrics".to_owned()]),
            ..PolicyRule::default()
        };
        let mut more = expected.clone();
        more.rules.get_or_insert_default().push(own.clone());
        assert_eq!(show(expected.reconcile(Some(&more)), ""), "nothing");
        let less = ClusterRole { rules: Some(vec![own]), ..expected.clone() };
        let rules = show(expected.reconcile(Some(&less)), "rules");
        assert_eq!(rules[0]["nonResourceURLs"], json!(["/metrics"]));
        assert_eq!(rules[1]["nonResourceURLs"], json!(["/healthz"]));
    }

    #[test]
    fn labels_come_back_and_keep_their_values() {
        let expected = viewer();
        let mut bare = expected.clone();
        bare.metadata.labels = None;
        let metadata = show(expected.reconcile(Some(&bare)), "metadata");
        assert_eq!(metadata["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        let mut other = expected.clone();
        for value in other.metadata.labels.get_or_insert_default().values_mut() {
            "mine".clone_into(value);
        }
        assert_eq!(show(expected.reconcile(Some(&other)), ""), "nothing");
    }

    #[test]
    fn an_owner_may_forbid_it() {
        let expected = viewer();
        let mut own = expected.clone();
        own.rules = None;
        let annotations = own.metadata.annotations.get_or_insert_default();
        annotations.insert(AUTO_UPDATE.to_owned(), "false".to_owned());
        assert_eq!(show(expected.reconcile(Some(&own)), ""), "nothing");
    }

    #[test]
    fn a_binding_of_another_role_is_replaced() {
        let expected = discovery();
        let mut other = expected.clone();
        other.role_ref.name = "cluster-admin".to_owned();
        assert_eq!(show(expected.reconcile(Some(&other)), ""), "replace");
        let mut empty = expected.clone();
        empty.subjects = None;
        let subjects = show(expected.reconcile(Some(&empty)), "subjects");
        assert_eq!(subjects[0]["name"], "system:authenticated");
    }

    #[test]
    fn rules_that_were_collected_are_left_alone() {
        let name = Some("view");
        let expected =
            find(&defaults().cluster_roles, |role| role.metadata.name.as_deref() == name);
        let mut existing = expected.clone();
        existing.rules = None;
        assert_eq!(show(expected.reconcile(Some(&existing)), ""), "nothing");
        existing.aggregation_rule = None;
        let rule = show(expected.reconcile(Some(&existing)), "aggregationRule");
        assert_eq!(rule["clusterRoleSelectors"].as_array().unwrap().len(), 1);
    }
}
