//! More questions than can be answered: the limits hold, and what needs nobody else is answered.

use super::message::Transport;
use super::resolver::{Resolver, Response, WAITING_MAX, WAITING_OF_ONE_MAX};
use super::resolver_tests::{Behaviour, CLIENT, Other, question, resolver, told};
use super::serve::tcp::{self, CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX};
use futures_util::future::{BoxFuture, join_all};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const CLIENTS: u32 = 10_000;

const REFUSED: u8 = 5;

const SERVICE: &str = "web.shop.svc.cluster.local";

/// An answer that is to be waited for.
type Waiting = BoxFuture<'static, Vec<u8>>;

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 42, 0, 0).to_bits() + number).into()
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0x0f
}

/// What came of questions of so many clients: who waits, and how many were refused.
fn stormed(
    resolver: &Arc<Resolver>,
    asked: impl Iterator<Item = (IpAddr, String)>,
) -> (Vec<Waiting>, usize) {
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for (client, name) in asked {
        match resolver.respond(&question(&name), Transport::Udp, client).unwrap() {
            Response::Later(answer) => waiting.push(answer),
            Response::Now(answer) => {
                assert_eq!(code(&answer), REFUSED, "{name}");
                refused += 1;
            }
        }
    }
    (waiting, refused)
}

fn names(from: &str) -> impl Iterator<Item = (IpAddr, String)> {
    (0..CLIENTS).map(move |number| (client(number), format!("{number}.{from}.example")))
}

#[tokio::test]
async fn so_many_wait_for_others_and_no_more() {
    let other = Other::start(Behaviour::Silent).await;
    let resolver = resolver(&[&other]);
    let (waiting, refused) = stormed(&resolver, names("a"));
    assert_eq!(waiting.len(), WAITING_MAX);
    assert_eq!(refused, CLIENTS as usize - WAITING_MAX);
    assert_eq!(told(&resolver, SERVICE).await, "NoError 10.43.0.5");
    assert_eq!(told(&resolver, "nothing.shop.svc.cluster.local").await, "NXDomain");
    // All are told when there is no hope left, and then others may wait.
    tokio::time::pause();
    let answers = join_all(waiting).await;
    assert!(answers.iter().all(|answer| code(answer) == 2));
    let (waiting, _) = stormed(&resolver, names("b"));
    assert_eq!(waiting.len(), WAITING_MAX);
    assert!(other.asked() <= WAITING_MAX, "{}", other.asked());
}

#[tokio::test]
async fn nobody_keeps_the_others_from_asking() {
    let other = Other::start(Behaviour::Silent).await;
    let resolver = resolver(&[&other]);
    let (waiting, _) = stormed(&resolver, names("a").map(|(_, name)| (CLIENT, name)));
    assert_eq!(waiting.len(), WAITING_OF_ONE_MAX);
    let (others, _) = stormed(&resolver, names("b").take(10));
    assert_eq!(others.len(), 10);
}

#[tokio::test]
async fn everybody_gets_the_answer_to_one_question() {
    let other = Other::start(Behaviour::Good).await;
    let resolver = resolver(&[&other]);
    let asked = names("a").take(WAITING_MAX).map(|(client, _)| (client, "one.example".to_owned()));
    let (waiting, _) = stormed(&resolver, asked);
    let answers = join_all(waiting).await;
    assert!(answers.iter().all(|answer| code(answer) == 0));
    assert_eq!(other.asked(), 1);
}

#[tokio::test]
async fn what_was_said_before_is_better_than_no() {
    let other = Other::start(Behaviour::Good).await;
    let resolver = resolver(&[&other]);
    assert_eq!(told(&resolver, "old.example").await, "NoError 192.0.2.1");
    other.set(Behaviour::Silent);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let (waiting, _) = stormed(&resolver, names("a"));
    assert_eq!(waiting.len(), WAITING_MAX);
    let answer = resolver.respond(&question("old.example"), Transport::Udp, client(0)).unwrap();
    let Response::Now(answer) = answer else { panic!("it is not waited for") };
    assert_eq!(code(&answer), 0);
}

/// A connection from an address of this machine.
async fn connected(to: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(from), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the server has closed the connection, which says nothing else.
async fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]).await {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// What is answered on a connection.
async fn asked_on(stream: &mut TcpStream, name: &str) -> Vec<u8> {
    let question = question(name);
    stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
    stream.write_all(&question).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn connections_that_say_nothing_are_few_and_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, resolver) = (listener.local_addr().unwrap(), resolver(&[]));
    let served = tcp::serve(listener, &resolver);
    let work = async {
        let mut silent = Vec::new();
        let of_one = u8::try_from(CONNECTIONS_OF_ONE_MAX).unwrap();
        for guest in 1..=u8::try_from(CONNECTIONS_MAX / CONNECTIONS_OF_ONE_MAX).unwrap() {
            for _ in 0..of_one {
                silent.push(connected(address, [127, 0, 1, guest]).await);
            }
            let mut further = connected(address, [127, 0, 1, guest]).await;
            assert!(is_closed(&mut further).await, "guest {guest} has its share");
        }
        let mut another = connected(address, [127, 0, 2, 1]).await;
        assert!(is_closed(&mut another).await, "nothing is left");
        // One that asks in time may stay, and half a question is none.
        let answer = asked_on(&mut silent[0], SERVICE).await;
        assert_eq!(code(&answer), 0);
        silent[1].write_all(&[0, 40, 1, 2, 3]).await.unwrap();
        tokio::time::pause();
        for stream in &mut silent {
            assert!(is_closed(stream).await, "it has waited for long enough");
        }
        tokio::time::resume();
        let mut another = connected(address, [127, 0, 2, 1]).await;
        assert_eq!(code(&asked_on(&mut another, SERVICE).await), 0);
        another.write_all(&[0xff, 0xff]).await.unwrap();
        assert!(is_closed(&mut another).await, "no question is so long");
    };
    tokio::select! {
        () = work => {}
        () = served => unreachable!("it serves for ever"),
    }
}
