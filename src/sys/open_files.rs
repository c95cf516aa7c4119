//! How many files this process may have open, and how many the programs it starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::sync::OnceLock;

/// A limit of open files. The process itself may raise the soft one up to the hard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    pub soft: u64,
    pub hard: u64,
}

impl From<Rlimit> for OpenFiles {
    fn from(limit: Rlimit) -> Self {
        let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        Self { soft: number(limit.current), hard: number(limit.maximum) }
    }
}

/// What this process was started with.
static INHERITED: OnceLock<OpenFiles> = OnceLock::new();

/// Raises the soft limit to the hard one, and returns it.
///
/// # Errors
/// Where the kernel refuses; the limit stays as it was.
pub fn raise() -> io::Result<u64> {
    let inherited = inherited();
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    Ok(inherited.hard)
}

/// The limit that this process was started with: what containers get, whatever this process has
/// made of its own. Programs that use `select` fail with descriptors above 1023, and others close
/// every number up to the soft limit, so a high one must be their own choice.
pub fn inherited() -> OpenFiles {
    *INHERITED.get_or_init(|| getrlimit(Resource::Nofile).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_the_limit_is_remembered() {
        let before = inherited();
        assert_eq!(raise().unwrap(), before.hard);
        assert_eq!(OpenFiles::from(getrlimit(Resource::Nofile)).soft, before.hard);
        assert_eq!(inherited(), before);
    }
}
