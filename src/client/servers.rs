//! Several API servers, one of which is asked at a time: the next when it cannot be connected to.

use super::remote::{Remote, RemoteError};
use crate::stdx::http::{HttpService, Request, Response};
use futures_util::future::BoxFuture;
use std::io;
use std::sync::{Arc, Mutex};
use tracing::info;

/// The servers of a cluster. Cheap to clone; who is asked, and with which certificate, can change
/// while requests are under way: those go on as they began.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What the ways to all of them are made of.
    way: Remote,
    /// Never empty. The one that is asked is the first.
    order: Vec<(String, Remote)>,
}

impl Servers {
    /// Asks the first of `servers`, in the way of `way`, until it cannot be connected to.
    ///
    /// # Errors
    /// Where one of them is no address.
    ///
    /// # Panics
    /// Where there is none.
    pub fn new(way: Remote, servers: &[String]) -> Result<Self, RemoteError> {
        assert!(!servers.is_empty(), "somebody has to be asked");
        let order = remotes(&way, servers)?;
        Ok(Self(Arc::new(Mutex::new(State { way, order }))))
    }

    /// These are the servers from now on. The one that is asked stays so where it is among them.
    ///
    /// # Errors
    /// Where one of them is no address; nothing changes then.
    pub fn set_servers(&self, servers: &[String]) -> Result<(), RemoteError> {
        let mut state = self.0.lock().expect("no panics under this lock");
        let mut order = remotes(&state.way, servers)?;
        let current = &state.order[0].0;
        if let Some(index) = order.iter().position(|(server, _)| server == current) {
            order.rotate_left(index);
        }
        if !order.is_empty() {
            state.order = order;
        }
        Ok(())
    }

    /// New requests go this way from now on: with another certificate.
    pub fn set_way(&self, way: Remote) {
        let mut state = self.0.lock().expect("no panics under this lock");
        for (server, remote) in &mut state.order {
            if let Ok(anew) = way.at(server) {
                *remote = anew;
            }
        }
        state.way = way;
    }

    fn order(&self) -> Vec<(String, Remote)> {
        self.0.lock().expect("no panics under this lock").order.clone()
    }

    /// `server` answers: it is asked first from now on.
    fn prefer(&self, server: &str) {
        let mut state = self.0.lock().expect("no panics under this lock");
        if let Some(index @ 1..) = state.order.iter().position(|(other, _)| other == server) {
            state.order.rotate_left(index);
            info!(server, "another server is asked from now on");
        }
    }
}

fn remotes(way: &Remote, servers: &[String]) -> Result<Vec<(String, Remote)>, RemoteError> {
    servers.iter().map(|server| Ok((server.clone(), way.at(server)?))).collect()
}

impl HttpService for Servers {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let own = self.clone();
        Box::pin(async move {
            let mut last = io::Error::other("there is no server");
            for (server, remote) in own.order() {
                match remote.call(request.clone()).await {
                    Ok(response) => {
                        own.prefer(&server);
                        return Ok(response);
                    }
                    // It has not heard of the request. Others may have: those are not sent twice.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => last = error,
                    Err(error) => return Err(error),
                }
            }
            Err(last)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(list: &[&str]) -> Vec<String> {
        list.iter().map(|server| (*server).to_owned()).collect()
    }

    fn shown(all: &Servers) -> Vec<String> {
        all.order().into_iter().map(|(server, _)| server).collect()
    }

    #[test]
    fn whoever_answers_is_asked_until_it_is_no_more() {
        let (a, b, c) = ("https://192.0.2.1:6443", "https://192.0.2.2:6443", "https://c:6443");
        let all = Servers::new(Remote::unknown(a).unwrap(), &servers(&[a, b, c])).unwrap();
        all.prefer(c);
        assert_eq!(shown(&all), [c, a, b]);
        all.prefer("https://gone:6443");
        assert_eq!(shown(&all), [c, a, b]);
        all.set_servers(&servers(&[a, b, c])).unwrap();
        assert_eq!(shown(&all), [c, a, b]);
        all.set_servers(&servers(&[b, a])).unwrap();
        assert_eq!(shown(&all), [b, a]);
        assert!(all.set_servers(&servers(&["http://192.0.2.1"])).is_err());
        assert_eq!(shown(&all), [b, a]);
        all.set_servers(&[]).unwrap();
        assert_eq!(shown(&all), [b, a]);
    }

    #[tokio::test]
    async fn who_cannot_be_connected_to_is_passed_over() {
        // Ports that nobody has: each refuses at once.
        let ports: Vec<String> = (0..2)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
            .map(|address| format!("https://{address}"))
            .collect();
        let all = Servers::new(Remote::unknown(&ports[0]).unwrap(), &ports).unwrap();
        let request = http::Request::get("/version").body(bytes::Bytes::new()).unwrap();
        let error = all.call(request).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}
