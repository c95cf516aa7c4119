//! Questions to the cluster's DNS: a few clients that keep several questions each under way.

use super::machine::Machine;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Where the machine's DNS answers.
const DNS: &str = "10.43.0.10:53";

/// One client saturates a core of its own; the DNS has the other.
const CLIENTS: usize = 2;

/// So many questions of one client are under way at once.
const UNDER_WAY: usize = 16;

/// A question that is not answered by then is lost.
const LOST: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Answers a second.
    pub(super) rate: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) lost: usize,
}

/// Asks for `names` in turn, all of which are the cluster's.
pub(super) fn ask(machine: &Machine, names: &[&str], duration: Duration) -> Outcome {
    let began = super::now();
    let mut milliseconds = Vec::new();
    let mut lost = 0;
    machine.inside(|| {
        std::thread::scope(|scope| {
            // Threads keep the network of the one that starts them.
            let clients: Vec<_> =
                (0..CLIENTS).map(|_| scope.spawn(|| client(names, began + duration))).collect();
            for client in clients {
                let (answered, unanswered) = client.join().unwrap();
                milliseconds.extend(answered);
                lost += unanswered;
            }
        });
    });
    milliseconds.sort_by(f64::total_cmp);
    let at = |part: usize| milliseconds[milliseconds.len() * part / 100];
    let rate = milliseconds.len() as f64 / began.elapsed().as_secs_f64();
    Outcome { rate, p50: at(50), p99: at(99), lost }
}

/// How long each answer took, in milliseconds, and how many are missing.
fn client(names: &[&str], end: Instant) -> (Vec<f64>, usize) {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    socket.connect(DNS).unwrap();
    socket.set_read_timeout(Some(LOST)).unwrap();
    let questions: Vec<_> = names.iter().map(|name| question(name)).collect();
    let (mut asked, mut milliseconds, mut lost) = (vec![None; UNDER_WAY], Vec::new(), 0);
    let mut next = 0;
    let mut ask = |slot: usize, asked: &mut Vec<Option<Instant>>| {
        let mut question = questions[next % questions.len()].clone();
        next += 1;
        question[..2].copy_from_slice(&u16::try_from(slot).unwrap().to_be_bytes());
        asked[slot] = Some(super::now());
        socket.send(&question).unwrap();
    };
    (0..UNDER_WAY).for_each(|slot| ask(slot, &mut asked));
    let mut answer = [0; 1_500];
    while super::now() < end {
        if socket.recv(&mut answer).is_err() {
            lost += asked.iter().flatten().count();
            (0..UNDER_WAY).for_each(|slot| ask(slot, &mut asked));
            continue;
        }
        assert_eq!(answer[3] & 0x0f, 0, "the name is there");
        let slot = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
        if let Some(at) = asked[slot].take() {
            milliseconds.push(at.elapsed().as_secs_f64() * 1e3);
            ask(slot, &mut asked);
        }
    }
    (milliseconds, lost)
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    message.add_query(Query::query(name, RecordType::A));
    message.to_vec().unwrap()
}
