//! Nobody may give out more than they have: checked where a role or a binding is written.
//!
//! Follows upstream pkg/registry/rbac/escalation_check.go and the `policybased` storages (v1.35).

use super::super::authz::{Ask, Decision};
use super::super::identity::MASTERS;
use super::super::verbs::Call;
use super::policy::{Asker, Policy};
use super::rules::{Action, describe_escalation, everything, uncovered};
use crate::api::status::{Status, Subject};
use crate::registry::Object;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What of an object gives somebody something.
enum Gives<'a> {
    Rules { rules: &'a [PolicyRule], collects: bool },
    Role(&'a RoleRef),
}

/// Lets a write of a role or a binding through, and of whatever else.
///
/// # Errors
/// Forbidden, where it would give out what the asker does not have; not found, where a binding names
/// a role that is not there.
pub(in super::super) async fn check_escalation(
    call: &Call<'_>,
    new: &dyn Object,
    old: Option<&dyn Object>,
) -> Result<(), Status> {
    if call.kind.facts.group != GROUP || call.identity.is_in(MASTERS) {
        return Ok(());
    }
    let Some(gives) = gives(new, old) else { return Ok(()) };
    if old.is_some_and(|old| is_about_collection_only(new, old)) {
        return Ok(());
    }
    let action = match &gives {
        Gives::Rules { .. } => Action::Resource {
            verb: "escalate",
            group: GROUP,
            resource: &call.kind.facts.plural,
            subresource: "",
            name: call.name.unwrap_or_default(),
            namespace: call.namespace,
        },
        Gives::Role(role) => Action::Resource {
            verb: "bind",
            group: &role.api_group,
            resource: if role.kind == "Role" { "roles" } else { "clusterroles" },
            subresource: "",
            name: &role.name,
            namespace: call.namespace,
        },
    };
    let ask = Ask::of(call.identity, action);
    let store = &call.server.store;
    if let Decision::Allow(_) = call.server.authorizer.judge(&ask, || store.revision()).await {
        return Ok(());
    }
    // Whoever was refused was judged by what the store knows.
    confirm(call, new, &gives)
}

fn confirm(call: &Call<'_>, new: &dyn Object, gives: &Gives<'_>) -> Result<(), Status> {
    let policy = call.server.authorizer.policy();
    let forbidden = |why: &str| {
        let name = new.metadata().name.as_deref().unwrap_or_default();
        let facts = &call.kind.facts;
        Status::forbidden(Subject { group: &facts.group, resource: &facts.plural, name }, why)
    };
    match gives {
        Gives::Rules { rules, collects } => {
            confirm_rules(call, &policy, rules).map_err(|why| forbidden(&why))?;
            if *collects && confirm_rules(call, &policy, &everything()).is_err() {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(forbidden(why));
            }
            Ok(())
        }
        Gives::Role(role) => {
            let Some(rules) = policy.rules_of_role(role, call.namespace) else {
                let resource = if role.kind == "Role" { "roles" } else { "clusterroles" };
                return Err(Status::not_found(Subject {
                    group: GROUP,
                    resource,
                    name: &role.name,
                }));
            };
            confirm_rules(call, &policy, &rules).map_err(|why| forbidden(&why))
        }
    }
}

/// Upstream `ConfirmNoEscalation`.
fn confirm_rules(call: &Call<'_>, policy: &Policy, wanted: &[PolicyRule]) -> Result<(), String> {
    let asker = Asker { user: call.identity.user(), groups: call.identity.groups() };
    let (owned, problems) = policy.rules_of(asker, call.namespace);
    let missing = uncovered(&owned, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut why = describe_escalation(asker.user, asker.groups, &missing);
    if !problems.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", problems.join(", ")));
    }
    Err(why)
}

fn gives<'a>(new: &'a dyn Object, old: Option<&dyn Object>) -> Option<Gives<'a>> {
    let object = new.as_any();
    if let Some(role) = object.downcast_ref::<ClusterRole>() {
        let old = old.and_then(|old| old.as_any().downcast_ref::<ClusterRole>());
        let old_rule = old.and_then(|old| old.aggregation_rule.as_ref());
        return Some(Gives::Rules {
            rules: role.rules.as_deref().unwrap_or_default(),
            collects: has_selectors(role.aggregation_rule.as_ref()) || has_selectors(old_rule),
        });
    }
    if let Some(role) = object.downcast_ref::<Role>() {
        let rules = role.rules.as_deref().unwrap_or_default();
        return Some(Gives::Rules { rules, collects: false });
    }
    let role = object.downcast_ref::<RoleBinding>().map(|binding| &binding.role_ref);
    let role = role.or_else(|| object.downcast_ref::<ClusterRoleBinding>().map(|it| &it.role_ref));
    role.map(Gives::Role)
}

fn has_selectors(rule: Option<&AggregationRule>) -> bool {
    let selectors = rule.and_then(|rule| rule.cluster_role_selectors.as_ref());
    selectors.is_some_and(|selectors| !selectors.is_empty())
}

/// Whether nothing changes but what the garbage collector needs (upstream
/// `IsOnlyMutatingGCFields`).
fn is_about_collection_only(new: &dyn Object, old: &dyn Object) -> bool {
    let mut same = new.clone_box();
    let (metadata, old_metadata) = (same.metadata_mut(), old.metadata());
    metadata.finalizers.clone_from(&old_metadata.finalizers);
    metadata.owner_references.clone_from(&old_metadata.owner_references);
    metadata.managed_fields.clone_from(&old_metadata.managed_fields);
    same.encode() == old.encode()
}
