//! The endpoints of one backend, and which of them is asked next.

use super::super::model::{BackendId, Protocol};
use super::endpoint::{Endpoint, Kept};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

/// A backend, and what is spoken there where somebody knows better than its endpoints.
pub(in crate::ingress) type BackendKey = (BackendId, Option<Protocol>);

/// See the module.
#[derive(Debug)]
pub(in crate::ingress) struct Backend {
    pub(in crate::ingress) id: BackendId,
    protocol: Option<Protocol>,
    endpoints: RwLock<Arc<[Arc<Endpoint>]>>,
    /// Requests go round.
    next: AtomicUsize,
    kept: Arc<Kept>,
}

impl Backend {
    pub(in crate::ingress) fn new((id, protocol): BackendKey, kept: Arc<Kept>) -> Self {
        let (endpoints, next) = (RwLock::new(Arc::from([])), AtomicUsize::new(0));
        Self { id, protocol, endpoints, next, kept }
    }

    fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        Arc::clone(&self.endpoints.read().expect("no panics under this lock"))
    }

    /// These are the endpoints from now on. Those that were known keep their connections.
    pub(in crate::ingress) fn set(&self, found: &BTreeMap<SocketAddr, Protocol>) {
        let before = self.endpoints();
        let wanted = |(address, own): (&SocketAddr, &Protocol)| {
            let protocol = self.protocol.unwrap_or(*own);
            let known = before.iter().find(|it| it.address == *address && it.protocol == protocol);
            let new = || Arc::new(Endpoint::new(*address, protocol, Arc::clone(&self.kept)));
            known.cloned().unwrap_or_else(new)
        };
        let after: Arc<[Arc<Endpoint>]> = found.iter().map(wanted).collect();
        *self.endpoints.write().expect("no panics under this lock") = Arc::clone(&after);
        for old in before.iter().filter(|old| !after.iter().any(|new| Arc::ptr_eq(old, new))) {
            old.leave();
        }
    }

    /// The next endpoint that is none of `tried`. Those that ail are asked when no others are left.
    pub(in crate::ingress) fn choose(&self, tried: &[SocketAddr]) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints();
        let count = endpoints.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).map(|step| &endpoints[first.wrapping_add(step) % count]);
        let mut left = in_turn().filter(|endpoint| !tried.contains(&endpoint.address));
        let well = left.clone().find(|endpoint| !endpoint.is_ailing());
        well.or_else(|| left.next()).cloned()
    }

    /// Closes connections that are kept for too long. Says when the next is due.
    pub(in crate::ingress) fn sweep(&self, now: Instant) -> Option<Instant> {
        self.endpoints().iter().filter_map(|endpoint| endpoint.sweep(now)).min()
    }

    /// Nobody asks for it any more.
    pub(in crate::ingress) fn leave(&self) {
        self.set(&BTreeMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;

    fn backend(ports: &[u16]) -> Backend {
        let id = BackendId { service: ObjectKey::namespaced("n", "s"), port: String::new() };
        let backend = Backend::new((id, None), Arc::default());
        set(&backend, ports);
        backend
    }

    fn set(backend: &Backend, ports: &[u16]) {
        let address = |port: &u16| (SocketAddr::from(([127, 0, 0, 1], *port)), Protocol::Http1);
        backend.set(&ports.iter().map(address).collect());
    }

    fn ports(backend: &Backend, times: usize) -> Vec<u16> {
        let choose = || backend.choose(&[]).map_or(0, |endpoint| endpoint.address.port());
        (0..times).map(|_| choose()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_are_asked_in_turn() {
        assert_eq!(ports(&backend(&[]), 2), [0, 0]);
        let backend = backend(&[1, 2, 3]);
        assert_eq!(ports(&backend, 5), [1, 2, 3, 1, 2]);
        let tried = [SocketAddr::from(([127, 0, 0, 1], 3))];
        assert_eq!(backend.choose(&tried).unwrap().address.port(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_ail_are_asked_last_and_again_after_a_while() {
        let backend = backend(&[1, 2]);
        backend.choose(&[]).unwrap().ails();
        assert_eq!(ports(&backend, 3), [2, 2, 2]);
        let well = [SocketAddr::from(([127, 0, 0, 1], 2))];
        assert_eq!(backend.choose(&well).unwrap().address.port(), 1);
        tokio::time::advance(super::super::super::limits::AILING_FOR).await;
        assert!(ports(&backend, 2).contains(&1));
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_stay_are_the_same() {
        let backend = backend(&[1, 2]);
        let before = backend.endpoints();
        set(&backend, &[2, 3]);
        let after = backend.endpoints();
        assert!(Arc::ptr_eq(&before[1], &after[0]) && after.len() == 2);
    }
}
