//! A bounded queue from async callers to threads.
//!
//! Callers wait for room without blocking a thread; threads wait for work without polling.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

#[derive(Debug)]
pub(super) struct Inbox<T> {
    room: Semaphore,
    state: Mutex<State<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    /// Threads that wait. A send wakes nobody when all are busy.
    waiting: usize,
    closed: bool,
}

/// What [`Inbox::receive`] came back with.
#[derive(Debug)]
pub(super) enum Received<T> {
    /// At least one.
    Items(Vec<T>),
    /// Nothing came before the deadline.
    Deadline,
    /// Closed, and everything sent before that has been received.
    Closed,
}

/// The inbox is closed.
#[derive(Debug)]
pub(super) struct Closed;

impl<T> Inbox<T> {
    pub(super) fn new(items_max: usize) -> Self {
        Self {
            room: Semaphore::new(items_max),
            state: Mutex::new(State { queue: VecDeque::new(), waiting: 0, closed: false }),
            arrived: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, once there is room.
    pub(super) async fn send(&self, item: T) -> Result<(), Closed> {
        let permit = self.room.acquire().await.map_err(|_closed| Closed)?;
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        permit.forget();
        state.queue.push_back(item);
        if state.waiting > 0 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for an item and takes the ones behind it too, as long as `more` wants them. Without a
    /// deadline it waits until the inbox is closed.
    pub(super) fn receive(
        &self,
        deadline: Option<Instant>,
        mut more: impl FnMut(&T) -> bool,
    ) -> Received<T> {
        let mut state = self.lock();
        while state.queue.is_empty() {
            if state.closed {
                return Received::Closed;
            }
            let left = deadline.map(|at| at.saturating_duration_since(crate::stdx::monotonic()));
            if left.is_some_and(|left| left.is_zero()) {
                return Received::Deadline;
            }
            state.waiting += 1;
            state = match left {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let woken = self.arrived.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.waiting -= 1;
        }
        let mut items = Vec::new();
        while let Some(item) = state.queue.pop_front_if(|item| items.is_empty() || more(item)) {
            items.push(item);
        }
        drop(state);
        self.room.add_permits(items.len());
        Received::Items(items)
    }

    /// Takes no more items. What is there is still received.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }
}
