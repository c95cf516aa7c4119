//! What an API server must be told, and every limit it keeps.

use super::tokens::TokenSettings;
use crate::stdx::{Clock, Entropy};
use ipnet::IpNet;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The settings of one API server.
#[derive(Clone, Debug)]
pub struct Config {
    pub clock: Clock,
    /// Names, uids and addresses come from here.
    pub entropy: Entropy,
    /// Where this server is reached: the endpoint of the Service `default/kubernetes`.
    pub advertise_address: IpAddr,
    pub https_port: u16,
    /// Where the addresses of Services come from; the first is the one of single-stack Services.
    /// Never empty.
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
    /// An Event goes this long after it was last reported.
    pub event_ttl: Duration,
    pub tokens: TokenSettings,
    /// What runs beside the server in this process, and ends it where it ends: for
    /// ComponentStatuses.
    pub components: Vec<&'static str>,
    /// With this many connections open, no more are accepted until one ends. Clients without a
    /// certificate have half of them.
    pub connections_max: usize,
}

impl Config {
    /// Upstream's `--event-ttl`.
    pub const EVENT_TTL: Duration = Duration::from_secs(60 * 60);
}

/// A request with a larger body is refused with 413 (upstream `MaxRequestBodyBytes`).
pub(super) const REQUEST_BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A larger body takes turns with others, and its bytes are counted; smaller ones never wait.
pub(super) const LARGE_BODY_BYTES: usize = 16 * 1024;

/// Large bodies of all requests at once, from when their bytes arrive until they are answered. More are
/// told to come again: 429. The cluster's own have as much again.
pub(super) const BODIES_HELD_BYTES_MAX: usize = 48 * 1024 * 1024;

/// As [`BODIES_HELD_BYTES_MAX`], of one user.
pub(super) const BODIES_OF_ONE_HELD_BYTES_MAX: usize = BODIES_HELD_BYTES_MAX / 2;

/// Large bodies of which something is made at once: two of the largest, and what they take in memory.
/// More wait for their turn. The cluster's own have as much again.
pub(super) const BODIES_JUDGED_BYTES_MAX: usize = 2 * REQUEST_BODY_BYTES_MAX;

/// As [`BODIES_JUDGED_BYTES_MAX`], of one user.
pub(super) const BODIES_OF_ONE_JUDGED_BYTES_MAX: usize = REQUEST_BODY_BYTES_MAX;

/// A request whose body has not arrived after this long is refused with 408.
pub(super) const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP/1 request whose head has not arrived after this long ends its connection.
pub(super) const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A longer head of a request, path and headers together, is refused with 431.
pub(super) const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Requests with more headers are refused with 431.
pub(super) const REQUEST_HEADERS_MAX: usize = 100;

/// A TLS handshake that takes longer ends its connection.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing has been asked after this long is closed.
pub(super) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing is under way for this long is closed (upstream's `IdleTimeout` of
/// HTTP/2, apiserver pkg/server/secure_serving.go).
pub(super) const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(90);

/// How long a connection that is closed for its idleness may take to say goodbye.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that is not answered after this long, its body included, is refused with 504; one whose
/// answer is not sent by then ends its connection. Clients can ask for less. Watches and logs are not
/// bounded (upstream `--request-timeout`).
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Requests under way on one HTTP/2 connection; the client holds back more.
pub(super) const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;

/// Requests executed at once, as priority levels share them; those of the exempt level, watches that have
/// begun and logs are not counted. More wait, and are told to come again where they cannot: 429
/// (upstream `--max-requests-inflight` and `--max-mutating-requests-inflight` together).
pub(super) const REQUESTS_IN_FLIGHT_MAX: usize = 600;

/// A request waits for its turn for at most this part of its time (upstream `getRequestWaitContext`,
/// apiserver pkg/server/filters/priority-and-fairness.go, v1.35).
pub(super) const WAIT_PART: u32 = 4;

/// As [`REQUESTS_IN_FLIGHT_MAX`], for what anybody may ask: health and version. Strangers take no
/// place from others.
pub(super) const PUBLIC_IN_FLIGHT_MAX: usize = 64;

/// Watches and logs under way at once over the network. More are told to come again: 429.
pub(super) const LONG_REQUESTS_MAX: usize = 10_000;

/// What `Retry-After` says to those who were sent away.
pub(super) const RETRY_AFTER_SECONDS: u32 = 1;

/// How long requests under way may take to end when the server stops. Watches end at once.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a write without a `resourceVersion` is tried again when another was faster; after
/// that it is answered with a conflict.
pub(super) const WRITE_ATTEMPTS_MAX: u32 = 32;

/// How often a patch is applied anew when another write was faster.
/// Upstream goes on until the time of the request is over.
pub(super) const PATCH_ATTEMPTS_MAX: u32 = 32;

/// How many names are tried for one `generateName` (upstream `maxNameGenerationCreateAttempts`).
pub(super) const NAME_ATTEMPTS_MAX: u32 = 8;

/// A watch that says nothing about how long it may last ends after this long or up to twice as
/// long, drawn by lot so that not all watches begin anew together (upstream `--min-request-timeout`).
pub(super) const WATCH_TIMEOUT_MIN: Duration = Duration::from_secs(30 * 60);

/// How often a watch with `allowWatchBookmarks` hears of the revision it has seen, where it moved.
pub(super) const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// Pieces of a response body are made about this large: few enough to send, small enough to hold.
pub(super) const BODY_PIECE_BYTES: usize = 128 * 1024;

/// Objects that a deletecollection reads at once.
pub(super) const DELETE_PAGE_OBJECTS: NonZeroUsize = NonZeroUsize::new(500).expect("not zero");

/// Objects that a deletecollection deletes side by side, so that they share commits.
pub(super) const DELETES_SIDE_BY_SIDE: usize = 32;

/// Entries that are decoded in one turn of a task; then others on its thread have theirs.
pub(super) const ENTRIES_PER_TURN: usize = 64;

/// Entries that a list with a selector reads at once while it looks for matches.
pub(super) const SELECTED_PAGE_ENTRIES: usize = 1_000;

/// A peer that acknowledges nothing for this long is gone, and its connection with it.
pub(super) const PEER_SILENCE_MAX: Duration = Duration::from_secs(60);
