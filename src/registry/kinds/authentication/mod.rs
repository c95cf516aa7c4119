//! Kinds of `authentication.k8s.io`: questions about who somebody is. None is stored.

mod self_subject_review;
mod token_review;
