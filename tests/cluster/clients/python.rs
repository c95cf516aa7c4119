//! The Python client, as programs use it: `python/` has the programs.

use super::Served;
use crate::support::DEADLINE;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Where `packaging/deps.sh test` installs it.
const PYTHON: &str = "/var/cache/kinglet-tests/python/bin/python";

#[tokio::test]
async fn its_own_suite_passes() {
    assert!(Path::new(PYTHON).exists(), "{PYTHON} is missing: run packaging/deps.sh test");
    let served = Served::start().await;
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/clients/python");
    let run = Command::new(PYTHON)
        .args(["-B", "-m", "unittest", "-v", "suite"])
        .current_dir(suite)
        .env("KUBECONFIG", served.kubeconfig_file())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(2 * DEADLINE, run).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("skipped"), "{said}");
}
