//! Which shim and which OCI runtime a RuntimeClass handler means on this machine.

use crate::runtime::RuntimeError;
use crate::sys::process::find;
use std::path::PathBuf;

/// The shim that drives OCI runtimes by their command line.
const RUNC_SHIM: &str = "containerd-shim-runc-v2";

/// A shim, and for [`RUNC_SHIM`] the program it drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Handler {
    pub(in super::super) shim: PathBuf,
    pub(in super::super) oci_runtime: Option<PathBuf>,
}

/// The handler of that name: empty for the machine's default, `runc`, `crun`, or any other shim, by
/// the name of its program or the middle of it: `containerd-shim-<name>-v2` or `-v1`.
///
/// # Errors
/// Where something is not installed; the text says how to get it.
pub(in super::super) fn find_handler(name: &str, is_hybrid: bool) -> Result<Handler, RuntimeError> {
    let preferred: &[&str] = match name {
        "runc" => &["runc"],
        "crun" => &["crun"],
        // crun is smaller and quicker; it refuses to work with cgroups of both versions.
        "" if is_hybrid => &["runc"],
        "" => &["crun", "runc"],
        other => return find_shim(other),
    };
    let shim = find(RUNC_SHIM).ok_or_else(|| missing(RUNC_SHIM, "containerd"))?;
    let oci_runtime = preferred.iter().find_map(|program| find(program));
    let wanted = preferred.last().copied().unwrap_or("runc");
    let oci_runtime = oci_runtime.ok_or_else(|| missing(wanted, wanted))?;
    Ok(Handler { shim, oci_runtime: Some(oci_runtime) })
}

fn find_shim(name: &str) -> Result<Handler, RuntimeError> {
    let found = programs(name).iter().find_map(|program| find(program));
    let shim = found.ok_or_else(|| {
        RuntimeError::Invalid(format!(
            "there is no runtime handler `{name}` on this node: it takes a program \
             `containerd-shim-{name}-v2` in the search path"
        ))
    })?;
    Ok(Handler { shim, oci_runtime: None })
}

/// The programs that may be meant, the likeliest first; none for what would lead elsewhere.
fn programs(name: &str) -> Vec<String> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match name {
        _ if !is_plain => Vec::new(),
        program if program.starts_with("containerd-shim-") => vec![program.to_owned()],
        name => ["v2", "v1"].map(|version| format!("containerd-shim-{name}-{version}")).into(),
    }
}

fn missing(program: &str, package: &str) -> RuntimeError {
    RuntimeError::Invalid(format!(
        "`{program}` is not installed on this node; on Debian: apt-get install {package}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_name_shims_and_nothing_else() {
        let check = |name: &str, expected: &[&str]| assert_eq!(programs(name), expected, "{name}");
        check("kata", &["containerd-shim-kata-v2", "containerd-shim-kata-v1"]);
        check("containerd-shim-wasmtime-v1", &["containerd-shim-wasmtime-v1"]);
        check("../../bin/sh", &[]);
        check("a b", &[]);
    }
}
