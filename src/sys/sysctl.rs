//! Settings of the kernel, by their path below `/proc/sys`: those of networks are the calling thread's
//! network namespace's.

use std::fs;
use std::io;
use std::path::Path;

/// Writes only what differs: some hosts have /proc/sys read-only with the right value there.
///
/// # Errors
/// Where the kernel has no such setting, or does not let it be written.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    if read(name)? == value { Ok(()) } else { write(name, value) }
}

/// Has a number be at least this much.
///
/// # Errors
/// As [`set`], and where the setting is no number.
pub fn raise(name: &str, least: u64) -> io::Result<()> {
    let value: u64 = read(name)?.parse().map_err(|error| named(name, io::Error::other(error)))?;
    if value >= least { Ok(()) } else { write(name, &least.to_string()) }
}

fn read(name: &str) -> io::Result<String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name));
    Ok(value.map_err(|error| named(name, error))?.trim().to_owned())
}

fn write(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value).map_err(|error| named(name, error))
}

fn named(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/proc/sys/{name}: {error}"))
}
