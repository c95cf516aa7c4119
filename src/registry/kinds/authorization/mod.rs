//! Kinds of `authorization.k8s.io`: questions about what somebody may do. None is stored.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;
