//! Servers that ask back here what they are asked. Pure: what is random is an argument.
//!
//! A server that is new is asked once about a name that nobody else can know. When that name is
//! asked for here, questions go round in a circle by way of that server, and it is left out
//! (coredns' plugin loop, which ends the whole process).

use std::collections::HashMap;
use std::net::SocketAddr;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Loops {
    probes: HashMap<SocketAddr, Probe>,
}

#[derive(Debug)]
struct Probe {
    name: String,
    came_back: bool,
}

impl Loops {
    /// The name that the server is to be asked about, if it is new.
    pub(super) fn begin(&mut self, server: SocketAddr, draw: u128) -> Option<String> {
        if self.probes.contains_key(&server) {
            return None;
        }
        let name = format!("{:016x}.{:016x}", draw >> 64, draw & u128::from(u64::MAX));
        self.probes.insert(server, Probe { name: name.clone(), came_back: false });
        Some(name)
    }

    /// The server that this name was for, at the first time that it comes back.
    pub(super) fn came_back(&mut self, name: &str) -> Option<SocketAddr> {
        let is_it = |(_, probe): &(&SocketAddr, &mut Probe)| probe.name == name && !probe.came_back;
        let (server, probe) = self.probes.iter_mut().find(is_it)?;
        probe.came_back = true;
        Some(*server)
    }

    pub(super) fn leads_back(&self, server: &SocketAddr) -> bool {
        self.probes.get(server).is_some_and(|probe| probe.came_back)
    }

    /// Servers are asked anew: those that led back may not any more.
    pub(super) fn forget(&mut self) {
        self.probes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_back_shows_the_server() {
        let (one, two) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        let mut loops = Loops::default();
        let name = loops.begin(one, 1 << 64 | 2).unwrap();
        assert_eq!(name, "0000000000000001.0000000000000002");
        assert_eq!(loops.begin(one, 3), None);
        loops.begin(two, 4).unwrap();
        assert_eq!(loops.came_back("example.org"), None);
        assert_eq!(loops.came_back(&name), Some(one));
        assert_eq!(loops.came_back(&name), None);
        assert!(loops.leads_back(&one) && !loops.leads_back(&two));
        loops.forget();
        assert!(!loops.leads_back(&one));
    }
}
