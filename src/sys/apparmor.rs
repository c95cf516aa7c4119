//! AppArmor: whether the kernel has it, which profiles it knows, and how it is told another.

use super::process::{ProcessError, Program, find};
use std::fs;
use std::io;

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Whether the kernel confines processes by profiles.
#[must_use]
pub fn is_enabled() -> bool {
    fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'))
}

/// Whether the kernel knows a profile of that name.
///
/// # Errors
/// Where it does not say which it knows.
pub fn is_loaded(name: &str) -> io::Result<bool> {
    Ok(is_listed(name, &fs::read_to_string(PROFILES)?))
}

/// Each line has a name and, in brackets, what becomes of who does what it forbids.
fn is_listed(name: &str, profiles: &str) -> bool {
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name))
}

/// Tells the kernel the profiles of a text, in place of those of the same names.
///
/// # Errors
/// Where the parser of profiles is missing, or refuses the text.
pub async fn load(text: &str) -> Result<(), ProcessError> {
    const PARSER: &str = "apparmor_parser";
    let parser = find(PARSER).unwrap_or_else(|| PARSER.into());
    Program::new(parser).args(["-K", "-r"]).input(text).run_checked().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_their_whole_names() {
        let profiles = "docker-default (enforce)\n/usr/bin/man//filter (complain)\na b (enforce)\n";
        for (name, expected) in [
            ("docker-default", true),
            ("docker", false),
            ("/usr/bin/man//filter", true),
            ("a b", true),
        ] {
            assert_eq!(is_listed(name, profiles), expected, "{name}");
        }
    }
}
