//! The kinds of the `node.k8s.io` group.

mod runtime_class;
