//! Many questions to a DNS at once, and how long their answers take.
//!
//! Start at [`ask`]. The questions are encoded before, and one thread asks them all: what is measured
//! is the server.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A question that is not answered by then is lost.
const LOST: Duration = Duration::from_secs(1);

/// So much may wait at the client for when it gets round to it.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Ids of questions: none is used again before its answer has had [`LOST`].
const IDS: usize = 1 << 16;

/// When questions are asked.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many are under way at any time.
    UnderWay(usize),
    /// So many are asked each second, whatever becomes of them. A question has waited from when it
    /// should have been asked.
    EachSecond(u32),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Answers {
    /// How long each took, in milliseconds.
    pub milliseconds: Vec<f64>,
    pub lost: usize,
}

impl Answers {
    pub fn add(&mut self, other: Self) {
        self.milliseconds.extend(other.milliseconds);
        self.lost += other.lost;
    }

    /// The times that half of the answers, and 99 of a hundred, were within.
    pub fn percentiles(&mut self) -> (f64, f64) {
        self.milliseconds.sort_by(f64::total_cmp);
        let at = |part: usize| {
            let at = self.milliseconds.len() * part / 100;
            self.milliseconds.get(at).copied().unwrap_or(f64::NAN)
        };
        (at(50), at(99))
    }
}

/// A question, as bytes.
pub fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    message.add_query(Query::query(name, kind));
    message.to_vec().unwrap()
}

/// Asks the questions in turn until `end`. `code` is what each has to be answered with.
pub fn ask(
    server: SocketAddr,
    questions: &[Vec<u8>],
    (pace, code): (Pace, u8),
    end: Instant,
) -> Answers {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES).unwrap();
    socket.connect(server).unwrap();
    let client = Client {
        socket,
        questions,
        code,
        next: 0,
        asked: vec![None; IDS],
        answers: Answers::default(),
    };
    match pace {
        Pace::UnderWay(count) => client.keep_under_way(count, end),
        Pace::EachSecond(count) => client.keep_pace(count, end),
    }
}

struct Client<'a> {
    socket: UdpSocket,
    questions: &'a [Vec<u8>],
    code: u8,
    next: usize,
    /// By id.
    asked: Vec<Option<Instant>>,
    answers: Answers,
}

impl Client<'_> {
    fn ask(&mut self, due: Instant) {
        let mut question = self.questions[self.next % self.questions.len()].clone();
        let id = self.next % IDS;
        question[..2].copy_from_slice(&u16::try_from(id).unwrap().to_be_bytes());
        self.next += 1;
        if self.asked[id].replace(due).is_some() {
            self.answers.lost += 1;
        }
        self.socket.send(&question).unwrap();
    }

    /// Whether there was an answer.
    fn hear(&mut self) -> bool {
        let mut answer = [0; 1_500];
        match self.socket.recv(&mut answer) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(answer[3] & 0x0f, self.code, "the code of the answer");
        let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
        if let Some(at) = self.asked[id].take() {
            self.answers.milliseconds.push(at.elapsed().as_secs_f64() * 1e3);
        }
        true
    }

    fn keep_under_way(mut self, count: usize, end: Instant) -> Answers {
        self.socket.set_read_timeout(Some(LOST)).unwrap();
        (0..count).for_each(|_| self.ask(now()));
        while now() < end {
            if self.hear() {
                self.ask(now());
            } else {
                // None of those that were under way is answered any more.
                (0..count).for_each(|_| self.ask(now()));
            }
        }
        self.answers
    }

    fn keep_pace(mut self, each_second: u32, end: Instant) -> Answers {
        self.socket.set_nonblocking(true).unwrap();
        let (began, each) = (now(), Duration::from_secs(1) / each_second);
        let mut count = 0;
        while now() < end {
            let due = began + each * count;
            if now() >= due {
                self.ask(due);
                count += 1;
            }
            while self.hear() {}
        }
        let last = now() + LOST;
        while now() < last && self.asked.iter().any(Option::is_some) {
            self.hear();
        }
        self.answers.lost += self.asked.iter().flatten().count();
        self.answers
    }
}

fn now() -> Instant {
    kinglet::stdx::monotonic()
}
