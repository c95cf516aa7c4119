//! Questions to others, with others that answer well, badly, late, or not at all. They are on
//! loopback.

use super::cluster::tests::{index, zone};
use super::corefile;
use super::message::Transport;
use super::names::name_of;
use super::resolver::{Resolver, Response};
use crate::stdx::Entropy;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How another server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Good,
    Silent,
    /// Answers something else first.
    Confused,
    /// By datagram there is too much to say.
    Long,
    Fails,
    NoSuchName,
}

/// Another server, for as long as it is not dropped.
pub(super) struct Other {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    behaviour: Arc<Mutex<Behaviour>>,
    _tasks: JoinSet<()>,
}

impl Other {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The same port is nearly always free for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let mut tasks = JoinSet::new();
        tasks.spawn(by_datagram(udp, Arc::clone(&asked), Arc::clone(&behaviour)));
        tasks.spawn(by_stream(tcp));
        Self { address, asked, behaviour, _tasks: tasks }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }
}

async fn by_datagram(udp: UdpSocket, asked: Arc<AtomicUsize>, behaviour: Arc<Mutex<Behaviour>>) {
    let mut buffer = [0; 4_096];
    loop {
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        // Looking for loops is not what is counted here.
        if question.queries[0].query_type() == RecordType::HINFO {
            let answer = answer(&question, ResponseCode::NXDomain);
            udp.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            continue;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let behaviour = *behaviour.lock().unwrap();
        let mut good = answer(&question, ResponseCode::NoError);
        match behaviour {
            Behaviour::Silent => continue,
            Behaviour::Good => {}
            Behaviour::Confused => {
                let mut wrong = good.clone();
                wrong.metadata.id ^= 1;
                udp.send_to(&wrong.to_vec().unwrap(), client).await.unwrap();
                let other = Query::query(name_of("other.example").unwrap(), RecordType::A);
                wrong = good.clone();
                wrong.queries = vec![other];
                udp.send_to(&wrong.to_vec().unwrap(), client).await.unwrap();
                udp.send_to(b"nonsense", client).await.unwrap();
            }
            Behaviour::Long => {
                good.metadata.truncation = true;
                good.answers.clear();
            }
            Behaviour::Fails => good = answer(&question, ResponseCode::ServFail),
            Behaviour::NoSuchName => good = answer(&question, ResponseCode::NXDomain),
        }
        udp.send_to(&good.to_vec().unwrap(), client).await.unwrap();
    }
}

async fn by_stream(tcp: TcpListener) {
    loop {
        let (mut stream, _) = tcp.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await.unwrap();
        let question = Message::from_vec(&question).unwrap();
        let mut answer = answer(&question, ResponseCode::NoError);
        let long = TXT::new(vec!["x".repeat(255); 8]);
        let name = question.queries[0].name().clone();
        answer.add_additional(Record::from_rdata(name, 60, RData::TXT(long)));
        let answer = answer.to_vec().unwrap();
        let length = u16::try_from(answer.len()).unwrap();
        stream.write_u16(length).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

fn answer(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.response_code = code;
    answer.queries.clone_from(&question.queries);
    if code == ResponseCode::NoError {
        let name = question.queries[0].name().clone();
        answer.add_answer(Record::from_rdata(name, 20, RData::A(A::new(192, 0, 2, 1))));
    }
    answer
}

pub(super) fn resolver(others: &[&Other]) -> Arc<Resolver> {
    let resolver = Resolver::new(zone(), Entropy::system(), CancellationToken::new());
    let servers: Vec<_> = others.iter().map(|other| other.address).collect();
    resolver.set_routes(corefile::read(&BTreeMap::new(), &servers).unwrap());
    resolver.change(|known| *known = index());
    Arc::new(resolver)
}

/// Who asks where it does not matter.
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 42, 0, 99));

pub(super) fn question(name: &str) -> Vec<u8> {
    let mut question = Message::new(9, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name_of(name).unwrap(), RecordType::A));
    question.to_vec().unwrap()
}

async fn ask(resolver: &Arc<Resolver>, name: &str) -> Message {
    let bytes = match resolver.respond(&question(name), Transport::Udp, CLIENT).unwrap() {
        Response::Now(bytes) => bytes,
        Response::Later(bytes) => bytes.await,
    };
    Message::from_vec(&bytes).unwrap()
}

/// Code and answers, as short text.
pub(super) async fn told(resolver: &Arc<Resolver>, name: &str) -> String {
    let answer = ask(resolver, name).await;
    let answers: Vec<_> = answer.answers.iter().map(|it| it.data.to_string()).collect();
    format!("{:?} {}", answer.metadata.response_code, answers.join(", ")).trim_end().to_owned()
}

#[tokio::test]
async fn an_answer_is_kept() {
    let other = Other::start(Behaviour::Good).await;
    let resolver = resolver(&[&other]);
    for _ in 0..3 {
        assert_eq!(told(&resolver, "example.org").await, "NoError 192.0.2.1");
        assert_eq!(told(&resolver, "Example.ORG").await, "NoError 192.0.2.1");
    }
    assert_eq!(other.asked(), 1);
    assert_eq!(
        told(&resolver, "out.shop.svc.cluster.local").await,
        "NoError www.example.org., 192.0.2.1"
    );
    assert_eq!((other.asked(), resolver.cached()), (2, 2));
    other.set(Behaviour::NoSuchName);
    for _ in 0..2 {
        assert_eq!(told(&resolver, "example.net").await, "NXDomain");
    }
    assert_eq!(other.asked(), 3);
}

#[tokio::test]
async fn the_same_question_is_asked_once() {
    let other = Other::start(Behaviour::Good).await;
    let resolver = resolver(&[&other]);
    let all = (0..50).map(|_| told(&resolver, "example.org"));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|told| told == "NoError 192.0.2.1"), "{all:?}");
    assert_eq!(other.asked(), 1);
}

#[tokio::test]
async fn what_is_no_answer_is_not_believed() {
    let other = Other::start(Behaviour::Confused).await;
    assert_eq!(told(&resolver(&[&other]), "example.org").await, "NoError 192.0.2.1");
}

#[tokio::test]
async fn long_answers_come_by_tcp() {
    let other = Other::start(Behaviour::Long).await;
    assert_eq!(told(&resolver(&[&other]), "example.org").await, "NoError 192.0.2.1");
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails() {
    let (silent, failing) =
        (Other::start(Behaviour::Silent).await, Other::start(Behaviour::Fails).await);
    let good = Other::start(Behaviour::Good).await;
    let all = resolver(&[&failing, &silent, &good]);
    assert_eq!(told(&all, "example.org").await, "NoError 192.0.2.1");
    // The silent one has its rest.
    assert_eq!(told(&all, "example.net").await, "NoError 192.0.2.1");
    assert_eq!((failing.asked(), silent.asked(), good.asked()), (2, 1, 2));
    assert_eq!(told(&resolver(&[&failing]), "example.org").await, "ServFail");
    assert_eq!(told(&resolver(&[]), "example.org").await, "ServFail");
}

#[tokio::test]
async fn a_server_that_leads_back_is_left_out() {
    let udp = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let address = udp.local_addr().unwrap();
    let circle = Resolver::new(zone(), Entropy::system(), CancellationToken::new());
    circle.set_routes(corefile::read(&BTreeMap::new(), &[address]).unwrap());
    let circle = Arc::new(circle);
    // It is its own other server.
    let served = super::serve::udp::serve(udp, &circle);
    tokio::select! {
        told = told(&circle, "example.org") => assert_eq!(told, "ServFail"),
        () = served => unreachable!("it serves for ever"),
    }
}

#[tokio::test]
async fn old_answers_are_better_than_none() {
    let other = Other::start(Behaviour::Good).await;
    let resolver = resolver(&[&other]);
    assert_eq!(told(&resolver, "example.org").await, "NoError 192.0.2.1");
    other.set(Behaviour::Fails);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    for _ in 0..3 {
        assert_eq!(told(&resolver, "example.org").await, "NoError 192.0.2.1");
    }
    // Once, and not for every question.
    assert_eq!(other.asked(), 2);
}
