//! Questions: who somebody is, and what they may do. They are answered, and not stored.
//!
//! Follows upstream pkg/registry/authentication and pkg/registry/authorization (v1.35).

use super::super::authz::{Ask, Decision};
use super::super::identity::Identity;
use super::super::query::WriteOptions;
use super::super::rbac::{
    Action, Asker, everything, validate_local_review, validate_review, validate_self_review,
};
use super::{Call, decode};
use crate::api::FieldError;
use crate::api::fields::FieldSelector;
use crate::api::status::Status;
use crate::stdx::http::Response;
use crate::stdx::json;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{
    SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo,
};
use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule,
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectRulesReview,
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Serialize;

pub(super) async fn create(call: &Call<'_>) -> Result<Response, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let mut submitted = decode::object(call, options.field_validation)?.object;
    super::create::match_namespace(call, submitted.as_mut())?;
    let review = submitted.as_any_mut();
    if let Some(review) = review.downcast_mut::<SelfSubjectReview>() {
        let now = super::super::metadata::whole_second(call.server.config.clock.now());
        *review = SelfSubjectReview {
            metadata: ObjectMeta { creation_timestamp: Some(Time(now)), ..ObjectMeta::default() },
            status: Some(SelfSubjectReviewStatus { user_info: Some(user_info(call.identity)) }),
        };
        return answer(call, review);
    }
    if let Some(review) = review.downcast_mut::<TokenReview>() {
        review_token(call, review).await?;
        return answer(call, review);
    }
    if let Some(review) = review.downcast_mut::<SubjectAccessReview>() {
        refuse(call, &validate_review(review))?;
        review.status = Some(judge(call, &review.spec).await);
        return answer(call, review);
    }
    if let Some(review) = review.downcast_mut::<LocalSubjectAccessReview>() {
        refuse(call, &validate_local_review(review))?;
        review.status = Some(judge(call, &review.spec).await);
        return answer(call, review);
    }
    if let Some(review) = review.downcast_mut::<SelfSubjectAccessReview>() {
        refuse(call, &validate_self_review(review))?;
        let spec = SubjectAccessReviewSpec {
            user: Some(call.identity.user().to_owned()),
            groups: Some(call.identity.groups().to_vec()),
            resource_attributes: review.spec.resource_attributes.clone(),
            non_resource_attributes: review.spec.non_resource_attributes.clone(),
            ..SubjectAccessReviewSpec::default()
        };
        review.status = Some(judge(call, &spec).await);
        return answer(call, review);
    }
    if let Some(review) = review.downcast_mut::<SelfSubjectRulesReview>() {
        review.status = Some(own_rules(call, review.spec.namespace.as_deref()).await?);
        return answer(call, review);
    }
    Err(Status::internal("a question that nobody can answer"))
}

fn answer(call: &Call<'_>, review: &impl Serialize) -> Result<Response, Status> {
    let json = json::to_vec(review);
    let schema = call.kind.built_in_schema().expect("questions are of the table");
    call.respond_with(StatusCode::CREATED, schema, json)
}

fn refuse(call: &Call<'_>, problems: &[FieldError]) -> Result<(), Status> {
    let facts = &call.kind.facts;
    match problems {
        [] => Ok(()),
        problems => Err(Status::invalid(&facts.group, &facts.kind, "", problems)),
    }
}

fn user_info(identity: &Identity) -> UserInfo {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UserInfo {
        username: text(identity.user()),
        uid: text(identity.uid()),
        groups: Some(identity.groups().to_vec()).filter(|groups| !groups.is_empty()),
        extra: Some(identity.extra().clone()).filter(|extra| !extra.is_empty()),
    }
}

async fn review_token(call: &Call<'_>, review: &mut TokenReview) -> Result<(), Status> {
    let token = review.spec.token.as_deref().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let tokens = &call.server.tokens;
    let wanted = review.spec.audiences.as_deref().filter(|audiences| !audiences.is_empty());
    let wanted = wanted.unwrap_or(tokens.audiences());
    review.status = Some(match tokens.authenticate(token, wanted).await {
        Ok(authenticated) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(user_info(&authenticated.identity)),
            audiences: Some(authenticated.audiences),
            error: None,
        },
        Err(why) => TokenReviewStatus {
            error: Some(match why {
                Some(why) => format!("[invalid bearer token, {why}]"),
                None => "invalid bearer token".to_owned(),
            }),
            user: Some(UserInfo::default()),
            ..TokenReviewStatus::default()
        },
    });
    Ok(())
}

/// What somebody may do whom a validated review names.
async fn judge(call: &Call<'_>, spec: &SubjectAccessReviewSpec) -> SubjectAccessReviewStatus {
    let mut problems = Vec::new();
    let resource = spec.resource_attributes.as_ref();
    let selected_node = resource
        .and_then(|resource| resource.field_selector.as_ref())
        .and_then(|selector| selected_node(selector, &mut problems));
    let ask = Ask {
        user: spec.user.as_deref().unwrap_or_default(),
        groups: spec.groups.as_deref().unwrap_or_default(),
        action: action(resource, spec.non_resource_attributes.as_ref()),
        selected_node,
    };
    let store = &call.server.store;
    let decision = call.server.authorizer.judge(&ask, || store.revision()).await;
    let (allowed, reason) = match decision {
        Decision::Allow(grant) => {
            (true, grant.map(|grant| format!("RBAC: allowed by {grant}")).unwrap_or_default())
        }
        Decision::Deny(reason) => (false, reason),
    };
    SubjectAccessReviewStatus {
        allowed,
        reason: Some(reason).filter(|reason| !reason.is_empty()),
        evaluation_error: Some(problems.join("; ")).filter(|problems| !problems.is_empty()),
        denied: None,
    }
}

fn action<'a>(
    resource: Option<&'a ResourceAttributes>,
    other: Option<&'a NonResourceAttributes>,
) -> Action<'a> {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    match (resource, other) {
        (Some(resource), _) => Action::Resource {
            verb: text(&resource.verb),
            group: text(&resource.group),
            resource: text(&resource.resource),
            subresource: text(&resource.subresource),
            name: text(&resource.name),
            namespace: resource.namespace.as_deref().filter(|namespace| !namespace.is_empty()),
        },
        (None, other) => Action::Path {
            verb: other.map(|other| text(&other.verb)).unwrap_or_default(),
            path: other.map(|other| text(&other.path)).unwrap_or_default(),
        },
    }
}

/// The node whose objects are asked for (upstream `fieldSelectorAsSelector`). What cannot be
/// understood makes the question a wider one.
fn selected_node(
    selector: &FieldSelectorAttributes,
    problems: &mut Vec<&'static str>,
) -> Option<String> {
    const NODE: &str = "spec.nodeName";
    if let Some(raw) = selector.raw_selector.as_deref().filter(|raw| !raw.is_empty()) {
        let parsed = raw.parse::<FieldSelector>();
        if parsed.is_err() {
            problems.push("spec.resourceAttributes.fieldSelector ignored due to parse error");
        }
        return parsed.ok()?.required(NODE).map(str::to_owned);
    }
    let requirements = selector.requirements.as_deref().unwrap_or_default();
    let is_understood =
        |operator: &str, values: usize| ["In", "NotIn"].contains(&operator) && values == 1;
    let understood: Vec<_> = requirements
        .iter()
        .filter(|it| is_understood(&it.operator, it.values.as_ref().map_or(0, Vec::len)))
        .collect();
    if understood.len() < requirements.len() {
        problems.push(match understood.len() {
            0 => "spec.resourceAttributes.fieldSelector ignored due to parse error",
            _ => "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
        });
    }
    let node = understood.into_iter().find(|it| it.key == NODE && it.operator == "In")?;
    node.values.as_ref()?.first().cloned()
}

async fn own_rules(
    call: &Call<'_>,
    namespace: Option<&str>,
) -> Result<SubjectRulesReviewStatus, Status> {
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.ok_or_else(|| Status::bad_request("no namespace on request"))?;
    let asker = Asker { user: call.identity.user(), groups: call.identity.groups() };
    call.server.authorizer.know(call.server.store.revision()).await;
    let (mut rules, mut problems) =
        call.server.authorizer.policy().rules_of(asker, Some(namespace));
    // Members of the group may do everything, whatever roles there are.
    if call.identity.is_in(super::super::identity::MASTERS) {
        rules.splice(0..0, everything());
    }
    let is_node = super::super::authz::node_of(asker).is_some();
    if is_node {
        problems.insert(0, "node authorizer does not support user rule resolution".to_owned());
    }
    let mut status = SubjectRulesReviewStatus {
        incomplete: is_node,
        evaluation_error: match problems.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("[{}]", many.join(", "))),
        },
        ..SubjectRulesReviewStatus::default()
    };
    for rule in rules {
        let PolicyRule { api_groups, non_resource_urls, resource_names, resources, verbs } = rule;
        if non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            let verbs = verbs.clone();
            status.non_resource_rules.push(NonResourceRule { non_resource_urls, verbs });
        }
        if resources.as_ref().is_some_and(|resources| !resources.is_empty()) {
            let rule = ResourceRule { api_groups, resource_names, resources, verbs };
            status.resource_rules.push(rule);
        }
    }
    Ok(status)
}
