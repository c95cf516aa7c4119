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

    /// Held by a thread that receives: when it ends, however it does, the inbox is closed and
    /// emptied, so that nobody waits for an answer that cannot come.
    pub(super) fn attend(&self) -> Attendance<'_, T> {
        Attendance(self)
    }
}

#[derive(Debug)]
pub(super) struct Attendance<'i, T>(&'i Inbox<T>);

impl<T> Drop for Attendance<'_, T> {
    fn drop(&mut self) {
        self.0.close();
        self.0.lock().queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn items(received: Received<u32>) -> Vec<u32> {
        match received {
            Received::Items(items) => items,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_queued_is_received_together_as_far_as_it_is_wanted() {
        let inbox = Inbox::new(8);
        for item in [1, 2, 3, 9, 4] {
            inbox.send(item).await.unwrap();
        }
        assert_eq!(items(inbox.receive(None, |item| *item < 9)), [1, 2, 3]);
        assert_eq!(items(inbox.receive(None, |_| false)), [9]);
        inbox.close();
        assert!(inbox.send(5).await.is_err());
        assert_eq!(items(inbox.receive(None, |_| true)), [4]);
        assert!(matches!(inbox.receive(None, |_| true), Received::Closed));
    }

    #[tokio::test]
    async fn senders_wait_for_room() {
        let inbox = Arc::new(Inbox::new(1));
        inbox.send(1).await.unwrap();
        let second = inbox.send(2);
        let received = async { items(inbox.receive(None, |_| true)) };
        let (sent, received) = futures_util::join!(second, received);
        sent.unwrap();
        assert_eq!(received, [1]);
        assert_eq!(items(inbox.receive(None, |_| true)), [2]);
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let inbox = Inbox::<u32>::new(1);
        let soon = crate::stdx::monotonic() + Duration::from_millis(5);
        assert!(matches!(inbox.receive(Some(soon), |_| true), Received::Deadline));
        assert!(crate::stdx::monotonic() >= soon);
    }

    #[tokio::test]
    async fn nothing_is_left_behind_by_a_thread_that_ends() {
        let inbox = Inbox::new(2);
        let (reply, answer) = tokio::sync::oneshot::channel::<()>();
        inbox.send(reply).await.unwrap();
        drop(inbox.attend());
        assert!(answer.await.is_err());
        let (reply, _answer) = tokio::sync::oneshot::channel::<()>();
        assert!(inbox.send(reply).await.is_err());
    }
}
