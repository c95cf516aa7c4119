//! The kinds of the `certificates.k8s.io` group.

mod certificate_signing_request;
