//! The kinds of the `networking.k8s.io` group.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;
