//! The way to one shim: a connection, and another one when it breaks while the shim lives.

use super::ShimAddress;
use super::call::{CallError, Connection, Deadline};
use crate::stdx::{Backoff, monotonic};
use crate::sys::process_watch::ProcessWatch;
use containerd_shim_protos::protobuf::Message;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What passes before a shim that does not take a connection is tried again.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) };

/// A shim that has not taken a connection, or has dropped it, so often in a row cannot be asked any
/// more.
const FAILURES_MAX: u32 = 10;

/// A connection that has held for so long does not count as a failure.
const HELD: Duration = Duration::from_secs(60);

/// Whether a call may be made again when nobody knows what became of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Harmless,
    /// It may have been done: doing it twice is an error, or something else.
    Never,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    address: ShimAddress,
    connection: Mutex<Arc<Connection>>,
    /// Held by the one who makes a new connection.
    mending: tokio::sync::Mutex<()>,
}

impl Line {
    pub(super) async fn open(address: &ShimAddress) -> Result<Self, CallError> {
        let connection = Connection::open(address).await?;
        Ok(Self {
            address: address.clone(),
            connection: Mutex::new(Arc::new(connection)),
            mending: tokio::sync::Mutex::default(),
        })
    }

    /// The connection that is used now.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection.lock().expect("no panics under this lock"))
    }

    /// Asks, over another connection where one breaks and `shim` lives.
    pub(super) async fn call<Answer: Message>(
        &self,
        (method, message): (&str, &impl Message),
        deadline: Deadline,
        repeat: Repeat,
        shim: &ProcessWatch,
    ) -> Result<Answer, CallError> {
        let mut failures = 0;
        loop {
            let connection = self.connection();
            let since = monotonic();
            let lost = match connection.call(method, message, deadline).await {
                Err(lost @ CallError::Lost(_)) if shim.is_running() => lost,
                answer => return answer,
            };
            failures = if monotonic().duration_since(since) < HELD { failures + 1 } else { 1 };
            if failures > FAILURES_MAX {
                return Err(lost);
            }
            tracing::debug!(method, "the connection to a shim that lives is lost");
            tokio::time::sleep(RECONNECT.delay(failures)).await;
            let mended = self.mend(&connection, shim).await;
            match repeat {
                Repeat::Harmless => mended?,
                // Whoever asks next has the new connection.
                Repeat::Never => return Err(lost),
            }
        }
    }

    /// Makes another connection in place of `broken`, unless somebody else has.
    async fn mend(&self, broken: &Arc<Connection>, shim: &ProcessWatch) -> Result<(), CallError> {
        let _one_at_a_time = self.mending.lock().await;
        if !Arc::ptr_eq(&self.connection(), broken) {
            return Ok(());
        }
        let mut failures = 0;
        loop {
            match Connection::open(&self.address).await {
                Ok(connection) => {
                    *self.connection.lock().expect("no panics under this lock") =
                        Arc::new(connection);
                    return Ok(());
                }
                Err(error) if failures == FAILURES_MAX || !shim.is_running() => return Err(error),
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(RECONNECT.delay(failures)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Process, Shim, TaskApi};
    use super::*;
    use async_trait::async_trait;
    use containerd_shim_protos::api;
    use containerd_shim_protos::shim_async::{Task, create_task};
    use containerd_shim_protos::ttrpc::Result as TtrpcResult;
    use containerd_shim_protos::ttrpc::asynchronous::{Server, TtrpcContext};
    use std::path::Path;
    use tokio::io::copy_bidirectional;
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    /// A shim that says this process is it, and what it is asked for.
    struct FakeShim {
        asked: mpsc::UnboundedSender<&'static str>,
        /// Of all tasks. `None`: they run, and nothing is answered.
        exit_code: Option<u32>,
    }

    impl FakeShim {
        async fn take(&self, method: &'static str) -> u32 {
            self.asked.send(method).unwrap();
            match self.exit_code {
                Some(exit_code) => exit_code,
                None => std::future::pending().await,
            }
        }
    }

    #[async_trait]
    impl Task for FakeShim {
        async fn connect(
            &self,
            _context: &TtrpcContext,
            _request: api::ConnectRequest,
        ) -> TtrpcResult<api::ConnectResponse> {
            let mut answer = api::ConnectResponse::new();
            answer.shim_pid = std::process::id();
            Ok(answer)
        }

        async fn start(
            &self,
            _context: &TtrpcContext,
            _request: api::StartRequest,
        ) -> TtrpcResult<api::StartResponse> {
            self.take("start").await;
            Ok(api::StartResponse::new())
        }

        async fn wait(
            &self,
            _context: &TtrpcContext,
            _request: api::WaitRequest,
        ) -> TtrpcResult<api::WaitResponse> {
            let mut answer = api::WaitResponse::new();
            answer.exit_status = self.take("wait").await;
            Ok(answer)
        }
    }

    async fn serve(
        socket: &Path,
        exit_code: Option<u32>,
    ) -> (Server, mpsc::UnboundedReceiver<&'static str>) {
        let (asked, hears) = mpsc::unbounded_channel();
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .unwrap()
            .register_service(create_task(Arc::new(FakeShim { asked, exit_code })));
        server.start().await.unwrap();
        (server, hears)
    }

    /// Leads what connects to `front` to `back`. Dropping it cuts all of that off.
    fn relay(front: &Path, back: &Path) -> JoinSet<()> {
        std::fs::remove_file(front).ok();
        let listener = UnixListener::bind(front).unwrap();
        let back = back.to_owned();
        let mut relay = JoinSet::new();
        relay.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = UnixStream::connect(&back).await.unwrap();
                connections.spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            }
        });
        relay
    }

    #[tokio::test]
    async fn a_broken_connection_is_not_the_end_of_a_shim() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (_silent, mut hears) = serve(&path("silent"), None).await;
        let (_answers, mut hears_later) = serve(&path("answers"), Some(7)).await;
        let line = relay(&path("front"), &path("silent"));
        let socket = format!("unix://{}", path("front").display());
        let shim = Shim::connect(&ShimAddress { socket, task_api: TaskApi::V3 }).await.unwrap();
        let task = Process::first_of("t");
        let breaks = async {
            let mut asked = [hears.recv().await.unwrap(), hears.recv().await.unwrap()];
            asked.sort_unstable();
            assert_eq!(asked, ["start", "wait"]);
            drop(line);
            relay(&path("front"), &path("answers"))
        };
        let all = async { tokio::join!(shim.wait(task), shim.start(task), breaks) };
        let (exit, started, _line) =
            tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
        assert_eq!(exit.unwrap().code, 7);
        assert_eq!(hears_later.recv().await, Some("wait"));
        // It may have been started: that is not done again unasked.
        assert!(matches!(started, Err(CallError::Lost(_))), "{started:?}");
        assert!(hears_later.try_recv().is_err());
        shim.start(task).await.unwrap();
    }
}
