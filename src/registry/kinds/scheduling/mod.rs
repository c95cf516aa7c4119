//! The kinds of the `scheduling.k8s.io` group.

mod priority_class;
