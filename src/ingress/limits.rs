//! Every limit that the proxy keeps, and what happens at it.

use std::time::Duration;

/// With this many connections open, those go that have waited longest without asking anything.
pub(super) const CONNECTIONS_MAX: usize = 10_000;

/// After a failed accept nothing is accepted for this long, so that the failure does not become a
/// busy loop.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A TLS handshake that takes longer ends its connection.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A longer head of a request, path and headers together, is refused with 431.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Requests with more headers are refused with 431, and answers with more with 502.
pub(super) const HEADERS_MAX: usize = 100;

/// A connection on which no whole head of a request has come for this long is closed, whether it is
/// idle or sends one byte now and then.
pub(super) const WAITING_MAX: Duration = Duration::from_secs(60);

/// A client that owes the rest of a request and sends nothing for this long has its connection
/// closed; so has one that takes nothing of its answer for this long.
pub(super) const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(60);

/// A peer that acknowledges nothing for this long is gone, and its connection with it.
pub(super) const PEER_SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a connection that is told to end may take to say goodbye.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long requests under way may take to end when the proxy stops.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests under way on one HTTP/2 connection; the client holds back more.
pub(super) const STREAMS_MAX: u32 = 128;

/// So much of a request's body is taken in advance on HTTP/2; and on all of a connection's together.
pub(super) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// So many endpoints are tried for one request where none accepts a connection.
pub(super) const ENDPOINTS_TRIED_MAX: usize = 3;

/// An endpoint that accepted no connection is asked last for so long.
pub(super) const AILING_FOR: Duration = Duration::from_secs(10);

/// Connections to one endpoint that are kept while nothing is asked on them. More are closed.
pub(super) const KEPT_MAX: usize = 64;

/// Kept connections are closed after this long, or a second before the endpoint says it does.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);

/// An endpoint that has not accepted a connection after this long is given up, for this request.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An endpoint that has not begun to answer after this long, or takes nothing of a request for this
/// long, is given up with 504 (as nginx has it).
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream on which neither side has said anything for this long is broken off: an answer that has
/// begun, and all of what is asked over HTTP/2, where answers may begin late and last for long.
pub(super) const STREAM_SILENCE_MAX: Duration = Duration::from_secs(60 * 60);

/// Kept connections whose time is over are looked for no more often than this.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);
