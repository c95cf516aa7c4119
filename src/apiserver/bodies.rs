//! Large bodies take turns: what several of them take in memory at the same time has a bound.
//!
//! A body may stand for much more than its bytes, and several hundred requests are executed at once.
//! Start at [`Bodies::room`]. What arrives is counted while it does, and refused where there is too much
//! of it: a slow sender holds what it has sent and no more. Then a request waits, in its seat, until so few bytes are
//! being judged that its own may be. Who waits is called in the order in which they came; nobody has more
//! than half, so that a flood of one user leaves the others theirs, and what a webhook
//! sends back while it is asked about a large object has room. The cluster's own components and its
//! administrators have room of their own.
//!
//! Small bodies are not counted, and pay nothing. Callers in this process do not come here: see
//! [`local`](super::local). Architecture invariant: nobody waits for room to send who has some already,
//! and who is judged waits for nobody else's body.

use super::config::{
    BODIES_HELD_BYTES_MAX, BODIES_JUDGED_BYTES_MAX, BODIES_OF_ONE_HELD_BYTES_MAX,
    BODIES_OF_ONE_JUDGED_BYTES_MAX, LARGE_BODY_BYTES,
};
use super::identity::{Identity, MASTERS, NODES};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const NEVER_CLOSED: &str = "no one closes it";

/// See the module.
#[derive(Debug)]
pub(super) struct Bodies {
    of_cluster: Part,
    of_others: Part,
}

/// There is too much already, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What some share.
#[derive(Debug)]
struct Part {
    all: Bounds,
    users: Mutex<HashMap<String, Weak<Bounds>>>,
}

/// Bytes that may yet be held, and judged.
#[derive(Debug)]
struct Bounds {
    held: Arc<Semaphore>,
    judged: Arc<Semaphore>,
}

impl Bounds {
    fn new(held: usize, judged: usize) -> Self {
        Self { held: Arc::new(Semaphore::new(held)), judged: Arc::new(Semaphore::new(judged)) }
    }
}

impl Part {
    fn new() -> Self {
        let all = Bounds::new(BODIES_HELD_BYTES_MAX, BODIES_JUDGED_BYTES_MAX);
        Self { all, users: Mutex::default() }
    }

    /// What a user has, as long as somebody holds some of it.
    fn of_user(&self, user: &str) -> Arc<Bounds> {
        let mut users = self.users.lock().expect("no panics under this lock");
        if let Some(known) = users.get(user).and_then(Weak::upgrade) {
            return known;
        }
        users.retain(|_, bounds| bounds.strong_count() > 0);
        let bounds = Bounds::new(BODIES_OF_ONE_HELD_BYTES_MAX, BODIES_OF_ONE_JUDGED_BYTES_MAX);
        let bounds = Arc::new(bounds);
        users.insert(user.to_owned(), Arc::downgrade(&bounds));
        bounds
    }
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self { of_cluster: Part::new(), of_others: Part::new() }
    }

    /// For the body of one request of somebody.
    pub(super) fn room<'a>(&'a self, identity: &'a Identity) -> Room<'a> {
        let part = if is_of_cluster(identity) { &self.of_cluster } else { &self.of_others };
        Room { part, user: identity.user(), held: None, turn: None }
    }
}

/// Whose requests keep the cluster going: those of upstream's flow schemas `exempt`, `system-nodes`,
/// `kube-controller-manager`, `kube-scheduler` and `kube-system-service-accounts`
/// (apiserver pkg/apis/flowcontrol/bootstrap/default.go, v1.35).
fn is_of_cluster(identity: &Identity) -> bool {
    const GROUPS: &[&str] = &[MASTERS, NODES, "system:serviceaccounts:kube-system"];
    const USERS: &[&str] = &["system:kube-controller-manager", "system:kube-scheduler"];
    USERS.contains(&identity.user())
        || identity.groups().iter().any(|group| GROUPS.contains(&group.as_str()))
}

/// The room that one body takes, until this is dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    part: &'a Part,
    user: &'a str,
    held: Option<Held>,
    turn: Option<[OwnedSemaphorePermit; 2]>,
}

/// Bytes that are here.
#[derive(Debug)]
struct Held {
    bounds: Arc<Bounds>,
    bytes: usize,
    permits: [OwnedSemaphorePermit; 2],
}

impl Room<'_> {
    /// So much of the body is here.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes <= LARGE_BODY_BYTES {
            return Ok(());
        }
        let Some(held) = &mut self.held else {
            let bounds = self.part.of_user(self.user);
            let permits = self.part.try_hold(&bounds, bytes)?;
            self.held = Some(Held { bounds, bytes, permits });
            return Ok(());
        };
        let [own, of_all] = self.part.try_hold(&held.bounds, bytes.saturating_sub(held.bytes))?;
        held.permits[0].merge(own);
        held.permits[1].merge(of_all);
        held.bytes = held.bytes.max(bytes);
        Ok(())
    }

    /// Waits until the body may be judged, for as long as its sender may be let wait.
    pub(super) async fn turn(&mut self, patience: Duration) -> Result<(), Full> {
        let Some(held) = &self.held else { return Ok(()) };
        let bytes = permits(held.bytes);
        let [own, of_all] = [&held.bounds.judged, &self.part.all.judged].map(Arc::clone);
        let turn = async {
            // A user's own bodies wait for each other outside of the line of all.
            let own = own.acquire_many_owned(bytes).await.expect(NEVER_CLOSED);
            [own, of_all.acquire_many_owned(bytes).await.expect(NEVER_CLOSED)]
        };
        self.turn = Some(timeout(patience, turn).await.map_err(|_elapsed| Full)?);
        Ok(())
    }
}

impl Part {
    fn try_hold(&self, own: &Bounds, bytes: usize) -> Result<[OwnedSemaphorePermit; 2], Full> {
        let take = |from: &Arc<Semaphore>| {
            Arc::clone(from).try_acquire_many_owned(permits(bytes)).map_err(|_none| Full)
        };
        Ok([take(&own.held)?, take(&self.all.held)?])
    }
}

/// No body is as large as four gibibytes.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::config::REQUEST_BODY_BYTES_MAX;
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    const MIB: usize = 1024 * 1024;
    const PATIENCE: Duration = Duration::from_secs(15);

    fn identity(user: &str) -> Identity {
        match user {
            "admin" => Identity::new(user, &[MASTERS]),
            _ => Identity::new(user, &[]),
        }
    }

    /// What becomes of bodies, `b:3` being one of Bob's of three mebibytes and `-b` the end of the first
    /// of his that is judged: `+` for one that is judged at once, `.` for one that waits, `!` for one
    /// that finds no room; after an end, who is called.
    #[track_caller]
    fn check(story: &str, expected: &str) {
        let users = ["admin", "a", "b", "c", "d"].map(identity);
        let bodies = Bodies::new();
        let mut judged: Vec<(&str, Room<'_>)> = Vec::new();
        let mut waiting: Vec<(&str, BoxFuture<'_, Room<'_>>)> = Vec::new();
        let mut told = Vec::new();
        for word in story.split(' ') {
            if let Some(user) = word.strip_prefix('-') {
                let at = judged.iter().position(|(of, _)| *of == user).expect(word);
                drop(judged.remove(at));
                let mut called = Vec::new();
                waiting.retain_mut(|(user, turn)| match turn.now_or_never() {
                    Some(room) => {
                        called.push(*user);
                        judged.push((*user, room));
                        false
                    }
                    None => true,
                });
                told.push(format!("<{}>", called.join(" ")));
                continue;
            }
            let (user, size) = word.split_once(':').unwrap();
            let identity = users.iter().find(|identity| identity.user() == user).unwrap();
            let mut room = bodies.room(identity);
            let bytes = size.parse::<usize>().unwrap() * MIB;
            if room.hold(bytes / 2).and_then(|()| room.hold(bytes)).is_err() {
                told.push("!".to_owned());
                continue;
            }
            let mut turn = async move {
                room.turn(PATIENCE).await.unwrap();
                room
            }
            .boxed();
            match turn.as_mut().now_or_never() {
                Some(room) => {
                    judged.push((user, room));
                    told.push("+".to_owned());
                }
                None => {
                    waiting.push((user, turn));
                    told.push(".".to_owned());
                }
            }
        }
        assert_eq!(told.join(" "), expected, "{story}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_of_the_largest_are_judged_at_once() {
        check("a:3 b:3 c:3 c:1 d:1 -a -b", "+ + . . . <c> <d>");
        check("a:1 a:1 a:1 b:2 c:1 d:1", "+ + + + + .");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_waits_for_their_own_and_leaves_others_their_place() {
        check("a:3 a:3 a:3 b:3 b:1 -a -b", "+ . . + . <a> <b>");
        check("a:2 a:2 a:1 b:2 -a", "+ . . + <a a>");
    }

    #[tokio::test(start_paused = true)]
    async fn the_clusters_own_do_not_wait_for_others() {
        check("a:3 b:3 c:3 admin:3 admin:1 -admin", "+ + . + . <admin>");
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_never_wait() {
        check("a:3 b:3 a:0 c:0", "+ + + +");
        let bodies = Bodies::new();
        let user = identity("a");
        let mut small = bodies.room(&user);
        small.hold(LARGE_BODY_BYTES).unwrap();
        assert!(small.held.is_none());
        small.hold(LARGE_BODY_BYTES + 1).unwrap();
        let held = &bodies.of_others.all.held;
        assert_eq!(held.available_permits(), BODIES_HELD_BYTES_MAX - LARGE_BODY_BYTES - 1);
        drop(small);
        assert_eq!(held.available_permits(), BODIES_HELD_BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_beyond_the_limit_is_refused() {
        let largest = "a:3 ".repeat(8) + "a:1 b:3";
        check(&largest, &("+".to_owned() + &" .".repeat(7) + " ! +"));
        let of_all = "a:3 ".repeat(8) + &"b:3 ".repeat(8) + "c:1 c:0 admin:1";
        let expected = format!("+{} +{} ! + +", " .".repeat(7), " .".repeat(7));
        check(&of_all, &expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_called_in_time_goes_and_holds_nothing() {
        let bodies = Bodies::new();
        let user = identity("a");
        let mut first = bodies.room(&user);
        first.hold(REQUEST_BODY_BYTES_MAX).unwrap();
        first.turn(PATIENCE).await.unwrap();
        let mut second = bodies.room(&user);
        second.hold(MIB).unwrap();
        assert_eq!(second.turn(PATIENCE).await, Err(Full));
        drop(second);
        drop(first);
        let all = &bodies.of_others.all;
        assert_eq!(all.held.available_permits(), BODIES_HELD_BYTES_MAX);
        assert_eq!(all.judged.available_permits(), BODIES_JUDGED_BYTES_MAX);
        bodies.of_others.of_user("b");
        assert_eq!(bodies.of_others.users.lock().unwrap().len(), 1, "a is forgotten");
    }
}
