//! The ranges of the addresses of Services, remembered as everything that many writes rest on.

use super::super::server::Server;
use super::facts::{Want, read};
use crate::api::status::Status;
use k8s_openapi::api::networking::v1::ServiceCIDR;

/// All ServiceCIDRs, in the order of their names.
pub(in super::super) async fn service_ranges(server: &Server) -> Result<Vec<ServiceCIDR>, Status> {
    let facts = read(server, &Want::all("networking.k8s.io", "servicecidrs")).await?;
    let ranges = facts.iter().filter_map(|fact| fact.object.as_any().downcast_ref());
    Ok(ranges.cloned().collect())
}
