//! Asking other servers.
//!
//! Start at [`Upstream::ask`]. Architecture invariant: each question goes out by a socket, a port
//! and an id of its own, and only the server that was asked can answer it.

mod exchange;
mod loops;
mod plan;

use self::loops::Loops;
use self::plan::{Record as ServerRecord, next_servers};
use super::message::{AskFlags, Reply};
use super::names;
use super::routes::{AskBy, Forward, Order};
use crate::stdx::{Entropy, monotonic};
use futures_util::future::join_all;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tracing::{debug, error};

/// A server that has not answered by then is not waited for; the next one is asked (coredns'
/// `read_timeout`).
const SERVER_DEADLINE: Duration = Duration::from_secs(2);

/// A server that leads back does so at once: it is near.
const LOOP_DEADLINE: Duration = Duration::from_millis(500);

/// Whoever asked has given up by then: resolvers wait five seconds.
const ANSWER_DEADLINE: Duration = Duration::from_millis(4_800);

/// Asks other servers, and remembers which of them answer.
#[derive(Debug)]
pub(super) struct Upstream {
    servers: Mutex<HashMap<SocketAddr, ServerRecord>>,
    loops: Mutex<Loops>,
    turn: AtomicUsize,
    entropy: Entropy,
}

impl Upstream {
    pub(super) fn new(entropy: Entropy) -> Self {
        let (servers, loops) = (Mutex::default(), Mutex::default());
        Self { servers, loops, turn: AtomicUsize::new(0), entropy }
    }

    /// `None` where no server has answered.
    pub(super) async fn ask(
        &self,
        forward: &Forward,
        query: &Query,
        flags: AskFlags,
    ) -> Option<Reply> {
        let asking = self.ask_in_order(forward, query, flags);
        tokio::time::timeout(ANSWER_DEADLINE, asking).await.unwrap_or_default()
    }

    async fn ask_in_order(
        &self,
        forward: &Forward,
        query: &Query,
        flags: AskFlags,
    ) -> Option<Reply> {
        let mut refusal = None;
        let servers = self.in_order(forward);
        self.look_for_loops(&servers, forward.transport).await;
        for server in servers {
            if self.leads_back(&server) {
                continue;
            }
            let id = low_bits(self.entropy.draw());
            let attempt = exchange::exchange(server, (id, query, flags), forward.transport);
            let answered = match tokio::time::timeout(SERVER_DEADLINE, attempt).await {
                Ok(Ok(message)) => Some(message),
                Ok(Err(error)) => {
                    debug!(%server, %error, "a name server cannot be asked");
                    None
                }
                Err(_elapsed) => None,
            };
            self.note(server, answered.is_some());
            match answered.map(|message| reply_of(*message, query, flags)) {
                Some(reply) if is_answer(reply.code) => return Some(reply),
                Some(reply) => refusal = refusal.or(Some(reply)),
                None => {}
            }
        }
        refusal
    }

    /// Asks servers that are new about names that only they are asked about. Whether and what they
    /// answer does not matter.
    async fn look_for_loops(&self, servers: &[SocketAddr], by: AskBy) {
        join_all(servers.iter().map(|server| self.look_for_loop(*server, by))).await;
    }

    async fn look_for_loop(&self, server: SocketAddr, by: AskBy) {
        let draw = self.entropy.draw();
        let name = self.loops.lock().expect("no panics under this lock").begin(server, draw);
        let Some(name) = name.as_deref().and_then(names::name_of) else { return };
        let query = Query::query(name, RecordType::HINFO);
        let question = (low_bits(draw), &query, AskFlags::default());
        let asked = exchange::exchange(server, question, by);
        let in_time = tokio::time::timeout(LOOP_DEADLINE, asked).await;
        debug!(%server, answers = matches!(in_time, Ok(Ok(_))), "a name server is new");
    }

    fn leads_back(&self, server: &SocketAddr) -> bool {
        self.loops.lock().expect("no panics under this lock").leads_back(server)
    }

    /// Whether a question is one that a server was asked to find out whether it asks back here.
    pub(super) fn is_own_question(&self, text: &str, kind: RecordType) -> bool {
        if kind != RecordType::HINFO {
            return false;
        }
        let server = self.loops.lock().expect("no panics under this lock").came_back(text);
        if let Some(server) = server {
            error!(
                "name server {server} asks the cluster's DNS what it is asked by it, and is left \
                 out: the nameservers in this node's resolv.conf have to be others than the cluster's"
            );
        }
        server.is_some()
    }

    fn in_order(&self, forward: &Forward) -> Vec<SocketAddr> {
        let turn = match forward.order {
            Order::Turns => self.turn.fetch_add(1, Ordering::Relaxed),
            Order::AsWritten => 0,
        };
        let servers = self.servers.lock().expect("no panics under this lock");
        next_servers(&forward.servers, &servers, turn, monotonic())
    }

    fn note(&self, server: SocketAddr, has_answered: bool) {
        let now = monotonic();
        let mut servers = self.servers.lock().expect("no panics under this lock");
        if has_answered {
            servers.remove(&server);
        } else {
            servers.entry(server).or_default().failed(now);
        }
    }

    /// Other servers are asked from now on, or the same ones in another way.
    pub(super) fn forget(&self) {
        self.servers.lock().expect("no panics under this lock").clear();
        self.loops.lock().expect("no panics under this lock").forget();
    }
}

fn low_bits(draw: u128) -> u16 {
    let [low, high, ..] = draw.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Another server may know better than one that says anything else.
fn is_answer(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// What of an answer is of use to those who ask here.
fn reply_of(message: Message, query: &Query, flags: AskFlags) -> Reply {
    let Message { metadata, answers, mut authorities, additionals, .. } = message;
    // Who else could be asked is of no use to a client that asks here. Proofs are to those who
    // want them, and so is who says that there is nothing.
    if !flags.dnssec_ok && query.query_type() != RecordType::NS {
        authorities.retain(|record| record.record_type() == RecordType::SOA);
    }
    Reply {
        code: metadata.response_code,
        is_authoritative: false,
        is_authentic: metadata.authentic_data,
        answers,
        authorities,
        additional: additionals,
    }
}
