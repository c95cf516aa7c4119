//! Creating and deleting pods one by one, with what users are told: upstream `RealPodControl`
//! (pkg/controller/controller_utils.go, v1.35).

use crate::control::{Detail, Planned, Report, Write};
use k8s_openapi::api::core::v1::Pod;

/// Creates a pod whose name the API server chooses.
pub(super) fn creation(pod: &Pod) -> Planned {
    Planned {
        write: Write::create(pod),
        succeeded: Some(Report::normal("SuccessfulCreate", "Created pod: ").with(Detail::Name)),
        failed: Some(Report::warning("FailedCreate", "Error creating: ").with(Detail::Error)),
    }
}

pub(super) fn deletion(pod: &Pod) -> Planned {
    Planned {
        write: Write::delete(pod),
        succeeded: Some(Report::normal("SuccessfulDelete", "Deleted pod: ").with(Detail::Name)),
        failed: Some(Report::warning("FailedDelete", "Error deleting: ").with(Detail::Error)),
    }
}
