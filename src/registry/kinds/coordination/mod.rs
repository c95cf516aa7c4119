//! The kinds of the `coordination.k8s.io` group.

mod lease;
