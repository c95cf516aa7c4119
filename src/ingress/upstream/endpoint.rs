//! One endpoint: its address, the connections that are kept to it, and whether it ails.

use super::super::limits::{AILING_FOR, KEPT_FOR, KEPT_MAX};
use super::super::model::Protocol;
use super::exchange::Exchange;
use super::multiplexed::Shared;
use crate::stdx::monotonic;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub(in crate::ingress) struct Endpoint {
    pub(in crate::ingress) address: SocketAddr,
    pub(in crate::ingress) protocol: Protocol,
    /// No slice has it any more: connections are not kept.
    is_gone: AtomicBool,
    state: Mutex<State>,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is the last, and the first to be used again.
    idle: Vec<Idle>,
    /// The connection that all requests share, where the endpoint speaks HTTP/2.
    shared: Option<Shared>,
    ailing_until: Option<Instant>,
}

#[derive(Debug)]
struct Idle {
    exchange: Box<Exchange>,
    until: Instant,
}

/// Told when there is a connection whose time will be over.
#[derive(Debug, Default)]
pub(in crate::ingress) struct Kept(Notify);

impl Kept {
    /// Waits until a connection is kept.
    pub(in crate::ingress) async fn more(&self) {
        self.0.notified().await;
    }
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, protocol: Protocol, kept: Arc<Kept>) -> Self {
        let (is_gone, state) = (AtomicBool::new(false), Mutex::default());
        Self { address, protocol, is_gone, state, kept }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panics under this lock")
    }

    /// A connection on which nothing is asked.
    pub(in crate::ingress) fn take(&self) -> Option<Box<Exchange>> {
        let now = monotonic();
        let mut state = self.state();
        let idle = state.idle.pop()?;
        if idle.until > now {
            return Some(idle.exchange);
        }
        // The others are older, as a rule, and the sweep sees to the rest.
        let over = std::mem::take(&mut state.idle);
        drop(state);
        drop(over);
        None
    }

    /// Keeps a connection whose answer is whole. The endpoint may have said for how long it does.
    pub(super) fn keep(&self, exchange: Box<Exchange>, kept_for: Option<Duration>) {
        let own = kept_for.map(|kept_for| kept_for.saturating_sub(Duration::from_secs(1)));
        let kept_for = own.unwrap_or(KEPT_FOR).min(KEPT_FOR);
        if kept_for.is_zero() || self.is_gone.load(Ordering::Relaxed) {
            return;
        }
        let until = monotonic() + kept_for;
        let mut state = self.state();
        if state.idle.len() < KEPT_MAX {
            state.idle.push(Idle { exchange, until });
            if state.idle.len() == 1 {
                self.kept.0.notify_one();
            }
        }
    }

    pub(super) fn shared(&self) -> Option<Shared> {
        let mut state = self.state();
        state.shared.take_if(|shared| shared.is_closed());
        state.shared.clone()
    }

    pub(super) fn share(&self, shared: Shared) {
        if !self.is_gone.load(Ordering::Relaxed) {
            self.state().shared = Some(shared);
        }
    }

    /// It has not accepted a connection: others are asked first for a while.
    pub(in crate::ingress) fn ails(&self) {
        self.state().ailing_until = Some(monotonic() + AILING_FOR);
    }

    pub(super) fn is_ailing(&self) -> bool {
        let mut state = self.state();
        // Whoever is well does not ask for the time.
        state.ailing_until.take_if(|until| *until <= monotonic());
        state.ailing_until.is_some()
    }

    /// Closes what is kept for too long. Says when the next is due.
    pub(super) fn sweep(&self, now: Instant) -> Option<Instant> {
        let over = {
            let mut state = self.state();
            let (keep, over) = state.idle.drain(..).partition(|idle| idle.until > now);
            state.idle = keep;
            over
        };
        // Closing takes a call of the kernel's each, which others need not wait for.
        drop::<Vec<Idle>>(over);
        self.state().idle.iter().map(|idle| idle.until).min()
    }

    /// Nobody is to use it any more. What is under way goes on.
    pub(super) fn leave(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        let mut state = self.state();
        let (idle, shared) = (std::mem::take(&mut state.idle), state.shared.take());
        drop(state);
        drop((idle, shared));
    }
}
