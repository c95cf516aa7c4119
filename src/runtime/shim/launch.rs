//! Starting shims, and cleaning up after those that died.

use super::{Handler, ShimAddress, TaskApi};
use crate::runtime::RuntimeError;
use crate::sys::process::{ProcessError, Program};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The namespace of containerd's that its CRI plugin uses; shims put their state below it.
pub(in super::super) const NAMESPACE: &str = "k8s.io";

/// A shim answers in milliseconds; a machine that swaps takes longer.
const START_DEADLINE: Duration = Duration::from_secs(30);
const DELETE_DEADLINE: Duration = Duration::from_secs(30);

/// How many processors the Go runtime of a shim uses: a shim waits, and each thread costs memory.
const GO_PROCESSORS: &str = "2";

/// A shim to start.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Launch<'a> {
    pub(in super::super) handler: &'a Handler,
    pub(in super::super) sandbox: &'a str,
    /// Where `config.json` names the sandbox as the shim's group, and where the shim leaves its
    /// own files. Has an empty file `log`, which the shim appends to.
    pub(in super::super) directory: &'a Path,
    /// Where the shim and what it starts put what they need for a moment.
    pub(in super::super) temporary: &'a Path,
    /// Together with the sandbox it makes the name of the shim's socket.
    pub(in super::super) node: &'a Path,
    /// See [`Program::cgroup`]: for the shim and what it starts outside of containers.
    pub(in super::super) cgroup_files: &'a [PathBuf],
    /// Where the shim reports what happens.
    pub(in super::super) events_socket: &'a Path,
}

/// Starts a shim. Where the sandbox has one already, that one's address is returned.
pub(in super::super) async fn start(launch: Launch<'_>) -> Result<ShimAddress, RuntimeError> {
    let program = program(launch.handler, launch.node, launch.directory)
        .args(["-id", launch.sandbox, "start"])
        .cgroup(launch.cgroup_files.to_vec())
        .env("TTRPC_ADDRESS", launch.events_socket)
        .env("MAX_SHIM_VERSION", "3")
        .env("TMPDIR", launch.temporary)
        .deadline(START_DEADLINE);
    let finished =
        program.run_checked().await.map_err(|error| failed("starting the shim", error))?;
    let said = String::from_utf8_lossy(&finished.stdout);
    parse_address(said.trim()).ok_or_else(|| RuntimeError::Refused {
        operation: "starting the shim",
        message: format!("it answered `{}`, which is no address", said.trim()),
    })
}

/// The address that a shim has left in its directory: shims of containerd 2 and older ones.
pub(in super::super) fn left_address(directory: &Path) -> Option<ShimAddress> {
    let files = ["bootstrap.json", "address"].map(|name| directory.join(name));
    files.iter().find_map(|file| parse_address(std::fs::read_to_string(file).ok()?.trim()))
}

/// Has a shim's program clean up what a container of a dead shim left: the OCI runtime's state.
pub(in super::super) async fn delete(
    handler: &Handler,
    node: &Path,
    bundle: &Path,
    container: &str,
) -> Result<(), RuntimeError> {
    let program = program(handler, node, bundle)
        .arg("-bundle")
        .arg(bundle)
        .args(["-id", container, "delete"])
        .deadline(DELETE_DEADLINE);
    program.run_checked().await.map_err(|error| failed("cleaning up after a shim", error))?;
    Ok(())
}

fn program(handler: &Handler, node: &Path, directory: &Path) -> Program {
    Program::new(&handler.shim)
        .args(["-namespace", NAMESPACE, "-publish-binary", "/bin/true", "-address"])
        .arg(node)
        .directory(directory)
        .env("NAMESPACE", NAMESPACE)
        .env("GRPC_ADDRESS", node)
        .env("GOMAXPROCS", GO_PROCESSORS)
}

fn failed(operation: &'static str, error: ProcessError) -> RuntimeError {
    match error {
        ProcessError::Failed { said, .. } if !said.is_empty() => {
            RuntimeError::Refused { operation, message: said }
        }
        error => RuntimeError::Failed { operation, source: Arc::new(error) },
    }
}

/// Shims of containerd 2 answer in JSON; older ones say the address and nothing else.
fn parse_address(said: &str) -> Option<ShimAddress> {
    #[derive(Deserialize)]
    struct Answer {
        version: u32,
        address: String,
        protocol: String,
    }
    if said.starts_with("unix://") {
        return Some(ShimAddress { socket: said.to_owned(), task_api: TaskApi::V2 });
    }
    let answer: Answer = serde_json::from_str(said).ok()?;
    let task_api = if answer.version >= 3 { TaskApi::V3 } else { TaskApi::V2 };
    let is_known = answer.protocol == "ttrpc" && answer.address.starts_with("unix://");
    is_known.then_some(ShimAddress { socket: answer.address, task_api })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_old_and_new_shims_are_understood() {
        let check = |said: &str, expected: Option<(&str, TaskApi)>| {
            let address = parse_address(said);
            let actual = address.as_ref().map(|each| (each.socket.as_str(), each.task_api));
            assert_eq!(actual, expected, "{said}");
        };
        check("unix:///run/s/a", Some(("unix:///run/s/a", TaskApi::V2)));
        let json = |version, protocol| {
            format!(r#"{{"version":{version},"address":"unix:///a","protocol":"{protocol}"}}"#)
        };
        check(&json(3, "ttrpc"), Some(("unix:///a", TaskApi::V3)));
        check(&json(2, "ttrpc"), Some(("unix:///a", TaskApi::V2)));
        check(&json(3, "grpc"), None);
        check("", None);
    }

    #[test]
    fn what_a_shim_has_left_tells_its_address() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(left_address(directory.path()), None);
        std::fs::write(directory.path().join("address"), "unix:///run/s/a").unwrap();
        let address = left_address(directory.path()).unwrap();
        assert_eq!(address.socket, "unix:///run/s/a");
    }
}
