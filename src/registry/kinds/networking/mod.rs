//! The kinds of the `networking.k8s.io` group.

mod ingress;
mod ingress_class;
mod network_policy;
