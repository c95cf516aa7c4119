//! What lies between components and the API server: answers that are late or lost, refusals, watches
//! that lag and end, and a crash at a write that was chosen before.

use crate::random::Random;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use kinglet::stdx::http::{Body, HttpService, Request, Response, full, streamed};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// The story of a world is told from this many requests before its end.
const STORY_LINES_MAX: usize = 250;

/// One in so many requests meets each fault.
const RARE: usize = 25;

/// One in so many pieces of a watch is its last.
const LAST_PIECE: usize = 60;

/// When the loops crash, of the writes they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashAt {
    /// At this write, which is not made any more.
    Before(usize),
    /// At this write, whose answer does not arrive any more.
    After(usize),
}

/// What is decided for a request.
enum Fate {
    Passes,
    Refused(StatusCode, &'static str),
    NeverArrives,
    AnswerIsLost,
}

/// All that goes wrong between components and the API server.
#[derive(Debug)]
pub(crate) struct Network {
    state: Mutex<State>,
    pub(crate) crashed: Notify,
}

#[derive(Debug)]
struct State {
    seed: u64,
    /// How often each question was asked. A request's fate follows from what it is and how many of
    /// its like there were, not from what happens to be asked beside it.
    asked: BTreeMap<String, u64>,
    has_faults: bool,
    crash: Option<CrashAt>,
    /// Writes of the loops so far.
    writes: usize,
    story: VecDeque<String>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            seed,
            asked: BTreeMap::new(),
            has_faults: false,
            crash: None,
            writes: 0,
            story: VecDeque::new(),
        };
        Arc::new(Self { state: Mutex::new(state), crashed: Notify::new() })
    }

    pub(crate) fn set_faults(&self, has_faults: bool) {
        self.lock().has_faults = has_faults;
    }

    pub(crate) fn has_faults(&self) -> bool {
        self.lock().has_faults
    }

    pub(crate) fn crash_at(&self, crash: Option<CrashAt>) {
        let mut state = self.lock();
        state.crash = crash;
        state.writes = 0;
    }

    pub(crate) fn writes(&self) -> usize {
        self.lock().writes
    }

    pub(crate) fn note(&self, line: String) {
        let mut state = self.lock();
        if state.story.len() == STORY_LINES_MAX {
            state.story.pop_front();
        }
        state.story.push_back(line);
    }

    pub(crate) fn story(&self) -> String {
        let state = self.lock();
        state.story.iter().map(|line| format!("{line}\n")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The lots of one question: of a request, or of a piece of a watch.
    fn lots(&self, question: &str) -> Option<Random> {
        let mut state = self.lock();
        if !state.has_faults {
            return None;
        }
        let seed = state.seed;
        let times = state.asked.entry(question.to_owned()).or_default();
        *times += 1;
        let mut hasher = std::hash::DefaultHasher::new();
        (seed, question, *times).hash(&mut hasher);
        Some(Random(hasher.finish()))
    }

    /// Counts a write of the loops; says whether they crash at it.
    fn count_write(&self) -> Option<CrashAt> {
        let mut state = self.lock();
        state.writes += 1;
        let number = state.writes;
        let at = |crash: &CrashAt| match crash {
            CrashAt::Before(at) | CrashAt::After(at) => *at == number,
        };
        state.crash.take_if(|crash| at(crash))
    }

    async fn crash(&self) -> ! {
        self.crashed.notify_one();
        std::future::pending().await
    }
}

fn delay(lots: &mut Option<Random>) -> Duration {
    let Some(lots) = lots else { return Duration::ZERO };
    let most = match lots.below(8) {
        0..5 => return Duration::ZERO,
        5..7 => 40,
        _ => 2_500,
    };
    Duration::from_millis(u64::try_from(lots.below(most)).unwrap())
}

fn fate(lots: &mut Option<Random>, method: &Method) -> Fate {
    let Some(lots) = lots else { return Fate::Passes };
    match lots.below(6 * RARE) {
        0 => Fate::NeverArrives,
        1 => Fate::AnswerIsLost,
        2 => Fate::Refused(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        3 => Fate::Refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        // Whoever creates cannot be told this.
        4..6 if matches!(*method, Method::PUT | Method::PATCH) => {
            Fate::Refused(StatusCode::CONFLICT, "Conflict")
        }
        _ => Fate::Passes,
    }
}

/// The way of one component to the API server.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) network: Arc<Network>,
    pub(crate) inner: Arc<dyn HttpService>,
    pub(crate) who: String,
    pub(crate) started: tokio::time::Instant,
}

impl HttpService for Line {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let Self { network, inner, who, started } = self;
        let (network, inner, who) = (Arc::clone(network), Arc::clone(inner), who.clone());
        let (method, path) = (request.method().clone(), request.uri().clone());
        let at = started.elapsed();
        Box::pin(async move {
            let answer = call(&network, &*inner, &who, request).await;
            // Events tell users what happens, and nothing follows from them.
            if method != Method::GET && !path.path().contains("/events") {
                let code = match &answer {
                    Ok(response) => response.status().as_u16().to_string(),
                    Err(error) => error.to_string(),
                };
                let seconds = at.as_secs_f64();
                network.note(format!("{seconds:9.3} {who} {method} {path}: {code}"));
            }
            answer
        })
    }
}

async fn call(
    network: &Arc<Network>,
    inner: &dyn HttpService,
    who: &str,
    request: Request,
) -> io::Result<Response> {
    let question = format!("{who} {} {}", request.method(), request.uri().path());
    let mut lots = network.lots(&question);
    let is_write = request.method() != Method::GET && !request.uri().path().contains("/events");
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let crash = if is_write { network.count_write() } else { None };
    if let Some(CrashAt::Before(_)) = crash {
        network.crash().await;
    }
    tokio::time::sleep(delay(&mut lots)).await;
    match fate(&mut lots, request.method()) {
        Fate::NeverArrives => return Err(io::ErrorKind::ConnectionReset.into()),
        Fate::Refused(code, reason) => return Ok(refusal(code, reason)),
        Fate::AnswerIsLost => {
            let answer = inner.call(request).await;
            drop(answer);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Fate::Passes => {}
    }
    let response = inner.call(request).await?;
    if let Some(CrashAt::After(_)) = crash {
        network.crash().await;
    }
    if is_watch {
        let network = Arc::clone(network);
        return Ok(response.map(|body| lagging(network, question, body)));
    }
    tokio::time::sleep(delay(&mut lots)).await;
    Ok(response)
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": "so it is played", "code": code.as_u16()});
    let mut response = Response::new(full(status.to_string()));
    *response.status_mut() = code;
    response
}

/// A watch whose pieces are late, each by as much as chance has it, and that may end at any.
fn lagging(network: Arc<Network>, question: String, body: Body) -> Body {
    let begin = (network, question, body);
    streamed(futures_util::stream::unfold(begin, |(network, question, mut body)| async move {
        let piece: io::Result<Bytes> = match body.frame().await? {
            Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
            Err(error) => Err(error),
        };
        let mut lots = network.lots(&question);
        if lots.as_mut().is_some_and(|lots| lots.one_in(LAST_PIECE)) {
            return None;
        }
        tokio::time::sleep(delay(&mut lots)).await;
        Some((piece, (network, question, body)))
    }))
}
