//! nftables by scripts of text, and what a table holds as JSON.
//!
//! Text says what `nft --json` of Debian 12 (1.0.6) cannot: maps whose keys or values have no named
//! type. And where nft refuses a script, it says at which line and why.

use super::nft::Author;
use super::process::{ProcessError, Program};
use serde_json::Value;
use std::time::Duration;

/// A transaction that takes longer than this is given up; the kernel then has none of it.
const RUN_DEADLINE: Duration = Duration::from_secs(30);

/// A table that takes more than this to print cannot be looked at: about a million elements.
const LISTING_BYTES_MAX: usize = 256 << 20;

/// Runs a script as one transaction, on behalf of nobody who listens: see [`Author::run`].
///
/// # Errors
/// Where nft is missing ([`ProcessError::Start`]) or refuses; nothing has changed then.
pub async fn run(script: String) -> Result<(), ProcessError> {
    Author::default().run(script).await
}

/// Has nft and the kernel look at a script without doing anything.
///
/// # Errors
/// Where nft is missing or the script would be refused.
pub async fn check(script: String) -> Result<(), ProcessError> {
    let nft = Program::new("nft").args(["--check", "-f", "-"]).input(script).deadline(RUN_DEADLINE);
    nft.run_checked().await.map(|_| ())
}

/// What nft prints of a table of the family `inet`, with all that is in it; `None` where there is no
/// such table.
///
/// # Errors
/// Where nft is missing or says something else than JSON.
pub async fn list(table: &str) -> Result<Option<Value>, ProcessError> {
    if !has_table(table).await? {
        return Ok(None);
    }
    print(&["list", "table", "inet", table]).await.map(Some)
}

/// Whether there is a table of that name of the family `inet`. Costs the same whatever is in it.
///
/// # Errors
/// As [`list`].
pub async fn has_table(table: &str) -> Result<bool, ProcessError> {
    let tables = print(&["list", "tables", "inet"]).await?;
    let is_it = |object: &Value| object["table"]["name"] == table;
    Ok(tables["nftables"].as_array().is_some_and(|all| all.iter().any(is_it)))
}

async fn print(what: &[&str]) -> Result<Value, ProcessError> {
    let nft = Program::new("nft").arg("--json").args(what).deadline(RUN_DEADLINE);
    let finished = nft.output_bytes_max(LISTING_BYTES_MAX).run_checked().await?;
    // nft prints nothing at all where there is nothing.
    if finished.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&finished.stdout)
        .map_err(|error| ProcessError::Exchange { program: "nft".to_owned(), source: error.into() })
}
