//! Profiles of the node that confine a container: a file for seccomp, the kernel's own for AppArmor.

use super::super::{DEFAULT_APPARMOR_PROFILE, RuntimeError, SecurityConfig};
use super::failed;
use crate::stdx::{blocking, chain};
use crate::sys::apparmor;
use oci_spec::runtime::LinuxSeccomp;
use std::fs;
use std::io;

/// What containers may do by default where AppArmor confines them.
const DEFAULT_PROFILE: &str = include_str!("apparmor_default.txt");

/// Reads the seccomp profile, and has the kernel know the AppArmor profile that the container wants.
pub(super) async fn prepare(
    security: &SecurityConfig,
) -> Result<Option<LinuxSeccomp>, RuntimeError> {
    if let Some(name) = &security.apparmor_profile {
        confine(name).await?;
    }
    let Some(path) = security.seccomp_profile.clone() else { return Ok(None) };
    let shown = path.display().to_string();
    let read = blocking(move || {
        let text = fs::read(&path)?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    });
    read.await.map(Some).map_err(|error| {
        RuntimeError::Invalid(format!("cannot load seccomp profile {shown:?}: {}", chain(&error)))
    })
}

async fn confine(name: &str) -> Result<(), RuntimeError> {
    const OPERATION: &str = "looking for an AppArmor profile";
    let wanted = name.to_owned();
    let is_loaded = blocking(move || apparmor::is_loaded(&wanted)).await;
    if is_loaded.map_err(|error| failed(OPERATION, error))? {
        return Ok(());
    }
    if name != DEFAULT_APPARMOR_PROFILE {
        return Err(RuntimeError::Invalid(format!("AppArmor profile {name:?} is not loaded")));
    }
    apparmor::load(DEFAULT_PROFILE).await.map_err(|error| failed(OPERATION, error))
}
