//! What somebody asks for: of a claim, and of the template of one.
//!
//! Follows upstream `validateDeviceClaim` (pkg/apis/resource/validation, v1.35).

use super::configuration::{self, Novelty};
use super::selectors::{validate_selectors, validate_tolerations};
use super::{
    CONFIGURATIONS_MAX, REQUESTS_MAX, one_of_two, validate_distinct, validate_each,
    validate_fully_qualified, validate_label,
};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::required;
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSubRequest, ExactDeviceRequest,
    ResourceClaimSpec,
};
use std::collections::{BTreeMap, BTreeSet};

const CONSTRAINTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;

/// The requests of a claim, each with the alternatives that it has.
#[derive(Debug, Default)]
pub(super) struct RequestNames<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> RequestNames<'a> {
    pub(super) fn of(spec: &'a ResourceClaimSpec) -> Self {
        let requests = spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten());
        let alternatives = |request: &'a DeviceRequest| {
            let all = request.first_available.iter().flatten();
            all.map(|alternative| alternative.name.as_str()).collect()
        };
        Self(requests.map(|it| (it.name.as_str(), alternatives(it))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => {
                self.0.get(request).is_some_and(|known| known.contains(alternative))
            }
        }
    }

    /// The name of a request, or of an alternative within one (upstream `validateRequestNameRef`).
    pub(super) fn validate(&self, name: &str, path: &FieldPath) -> Vec<FieldError> {
        let detail = "must be the name of a request in the claim or the name of a request and a \
                      subrequest separated by '/'";
        let unknown = || FieldError::invalid(path, name, detail);
        if name.split('/').count() > 2 {
            return vec![unknown()];
        }
        let mut errors: Vec<_> =
            name.split('/').flat_map(|part| validate_label(part, path)).collect();
        errors.extend((!self.has(name)).then(unknown));
        errors
    }

    /// A list of such names.
    pub(super) fn validate_all(
        &self,
        names: Option<&[String]>,
        path: &FieldPath,
    ) -> Vec<FieldError> {
        let names = names.unwrap_or_default();
        let mut errors =
            validate_each(names, REQUESTS_MAX, path, |name, path| self.validate(name, path));
        errors.extend(validate_distinct(names, ("", path), String::clone));
        errors
    }
}

/// Upstream `SetDefaults_ExactDeviceRequest` and `SetDefaults_DeviceSubRequest`.
pub(super) fn apply_defaults(spec: &mut ResourceClaimSpec) {
    let fill = |mode: &mut Option<String>, count: &mut Option<i64>| {
        mode.take_if(|mode| mode.is_empty());
        let mode = mode.get_or_insert_with(|| "ExactCount".to_owned());
        count.take_if(|count| *count == 0);
        if mode == "ExactCount" {
            count.get_or_insert(1);
        }
    };
    let devices = spec.devices.get_or_insert_default();
    for request in devices.requests.iter_mut().flatten() {
        if let Some(exactly) = &mut request.exactly {
            fill(&mut exactly.allocation_mode, &mut exactly.count);
        }
        for alternative in request.first_available.iter_mut().flatten() {
            fill(&mut alternative.allocation_mode, &mut alternative.count);
        }
    }
}

/// Takes away what belongs to features that are off.
pub(super) fn drop_disabled(spec: &mut ResourceClaimSpec) {
    let requests = spec.devices.iter_mut().flat_map(|devices| devices.requests.iter_mut());
    for request in requests.flatten() {
        if let Some(exactly) = &mut request.exactly {
            exactly.capacity = None;
        }
        for alternative in request.first_available.iter_mut().flatten() {
            alternative.capacity = None;
        }
    }
}

pub(super) fn validate(spec: &ResourceClaimSpec, path: &FieldPath) -> Vec<FieldError> {
    let known = RequestNames::of(spec);
    let DeviceClaim { config, constraints, requests } = spec.devices.clone().unwrap_or_default();
    let path = path.child("devices");
    let (requests, requests_path) = (requests.unwrap_or_default(), path.child("requests"));
    let mut errors = validate_each(&requests, REQUESTS_MAX, &requests_path, validate_request);
    let name = |request: &DeviceRequest| request.name.clone();
    errors.extend(validate_distinct(&requests, ("name", &requests_path), name));
    let constraints = constraints.unwrap_or_default();
    let constraints_path = path.child("constraints");
    errors.extend(validate_each(&constraints, CONSTRAINTS_MAX, &constraints_path, |it, path| {
        validate_constraint(it, &known, path)
    }));
    let config = config.unwrap_or_default();
    errors.extend(validate_each(&config, CONFIGURATIONS_MAX, &path.child("config"), |it, path| {
        let mut errors = known.validate_all(it.requests.as_deref(), &path.child("requests"));
        errors.extend(configuration::validate(it.opaque.as_ref(), Novelty::New, path));
        errors
    }));
    errors
}

/// Upstream `validateDeviceRequest`.
fn validate_request(request: &DeviceRequest, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_label(&request.name, &path.child("name"));
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    if !alternatives.is_empty() {
        let path = path.child("firstAvailable");
        errors.extend(validate_each(alternatives, ALTERNATIVES_MAX, &path, validate_alternative));
        let name = |alternative: &DeviceSubRequest| alternative.name.clone();
        errors.extend(validate_distinct(alternatives, ("name", &path), name));
    }
    if let Some(exactly) = &request.exactly {
        errors.extend(validate_exactly(exactly, &path.child("exactly")));
    }
    let count = usize::from(!alternatives.is_empty()) + usize::from(request.exactly.is_some());
    errors.extend(one_of_two(path, count, "`exactly` or `firstAvailable`"));
    errors
}

fn validate_alternative(request: &DeviceSubRequest, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_label(&request.name, &path.child("name"));
    let exactly = ExactDeviceRequest {
        admin_access: None,
        allocation_mode: request.allocation_mode.clone(),
        capacity: None,
        count: request.count,
        device_class_name: request.device_class_name.clone(),
        selectors: request.selectors.clone(),
        tolerations: request.tolerations.clone(),
    };
    errors.extend(validate_exactly(&exactly, path));
    errors
}

/// Upstream `validateExactDeviceRequest`.
fn validate_exactly(request: &ExactDeviceRequest, path: &FieldPath) -> Vec<FieldError> {
    let class_path = path.child("deviceClassName");
    let mut errors = required(&class_path, &request.device_class_name, names::dns1123_subdomain);
    errors.extend(validate_selectors(request.selectors.as_deref(), &path.child("selectors")));
    let (count, count_path) = (request.count.unwrap_or_default(), path.child("count"));
    match request.allocation_mode.as_deref().unwrap_or_default() {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&count_path, count, detail));
        }
        "ExactCount" if count <= 0 => {
            errors.push(FieldError::invalid(&count_path, count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => {
            let path = path.child("allocationMode");
            errors.push(FieldError::not_supported(&path, other, &["All", "ExactCount"]));
        }
    }
    let path = path.child("tolerations");
    errors.extend(validate_tolerations(request.tolerations.as_deref(), &path));
    errors
}

/// Upstream `validateDeviceConstraint`.
fn validate_constraint(
    constraint: &DeviceConstraint,
    known: &RequestNames<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = known.validate_all(constraint.requests.as_deref(), &path.child("requests"));
    let attribute = match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(name), _) => Some(("matchAttribute", name)),
        (None, Some(name)) => Some(("distinctAttribute", name)),
        (None, None) => None,
    };
    errors.extend(match attribute {
        None => vec![FieldError::required(&path.child("matchAttribute"), "")],
        Some((field, name)) => validate_fully_qualified(name, &path.child(field)),
    });
    errors
}
