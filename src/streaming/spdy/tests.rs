//! SPDY against a client of our own, and against rubbish.

use super::frame::{self, Decoder, Encoder, Frame, ResetStatus};
use super::session::{Effect, STREAMS_MAX, Session};
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

/// The client's side of a connection.
pub(in crate::streaming) struct Client<S = DuplexStream> {
    stream: S,
    encoder: Encoder,
    decoder: Decoder,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(in crate::streaming) fn new(stream: S) -> Self {
        Self { stream, encoder: Encoder::new(), decoder: Decoder::new() }
    }

    async fn say(&mut self, write: impl FnOnce(&mut Encoder, &mut BytesMut)) {
        let mut bytes = BytesMut::new();
        write(&mut self.encoder, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub(in crate::streaming) async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = headers.iter().map(pair).collect();
        self.say(|encoder, bytes| encoder.open(bytes, id, &headers)).await;
    }

    pub(in crate::streaming) async fn data(&mut self, id: u32, data: &[u8], is_last: bool) {
        self.say(|_, bytes| frame::data(bytes, id, data, is_last)).await;
    }

    pub(in crate::streaming) async fn reset(&mut self, id: u32) {
        self.say(|_, bytes| frame::reset(bytes, id, ResetStatus::Cancel)).await;
    }

    pub(in crate::streaming) async fn ping(&mut self, id: u32) {
        self.say(|_, bytes| frame::ping(bytes, id)).await;
    }

    /// `None` when the connection has ended.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next().unwrap() {
                Some(Frame::Nothing) => {}
                Some(frame) => return Some(frame),
                None if self.stream.read_buf(&mut self.decoder.buffer).await.ok()? == 0 => {
                    return None;
                }
                None => {}
            }
        }
    }

    /// What a stream brings until it ends; what others bring meanwhile is dropped.
    pub(in crate::streaming) async fn read(&mut self, wanted: u32) -> String {
        let mut read = Vec::new();
        while let Some(frame) = self.next().await {
            match frame {
                Frame::Data { id, bytes, is_last } if id == wanted => {
                    read.extend_from_slice(&bytes);
                    if is_last {
                        break;
                    }
                }
                Frame::Reset { id } if id == wanted => {
                    read.extend_from_slice(b"<reset>");
                    break;
                }
                _ => {}
            }
        }
        String::from_utf8(read).unwrap()
    }

    /// What streams bring until so many of them have ended.
    pub(in crate::streaming) async fn read_streams(
        &mut self,
        count: usize,
    ) -> BTreeMap<u32, String> {
        let mut said: BTreeMap<u32, String> = BTreeMap::new();
        let mut ended = 0;
        while ended < count
            && let Some(frame) = self.next().await
        {
            if let Frame::Data { id, bytes, is_last } = frame {
                said.entry(id).or_default().push_str(std::str::from_utf8(&bytes).unwrap());
                ended += usize::from(is_last);
            }
        }
        said
    }

    /// Everything that comes until the connection ends, in short.
    pub(in crate::streaming) async fn read_all(&mut self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(match frame {
                Frame::Data { id, bytes, is_last } => {
                    let end = if is_last { " end" } else { "" };
                    format!("{id} {:?}{end}", String::from_utf8_lossy(&bytes))
                }
                Frame::Reset { id } => format!("{id} reset"),
                Frame::Ping { id } => format!("ping {id}"),
                Frame::GoAway => "go away".to_owned(),
                other => format!("{other:?}"),
            });
        }
        all
    }
}

fn bytes_of(frames: &[(u32, Vec<u8>, bool)]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for (id, data, is_last) in frames {
        frame::data(&mut bytes, *id, data, *is_last);
    }
    bytes
}

proptest! {
    #[test]
    fn data_comes_whole_however_it_is_cut(
        frames in prop::collection::vec(
            (1_u32..9, prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..8),
        cut in 1_usize..200,
    ) {
        let mut decoder = Decoder::new();
        let mut seen: Vec<(u32, Vec<u8>, bool)> = Vec::new();
        let mut is_open = false;
        for piece in bytes_of(&frames).chunks(cut) {
            decoder.buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.next().unwrap() {
                let Frame::Data { id, bytes, is_last } = frame else { panic!("{frame:?}") };
                if is_open && seen.last().is_some_and(|(last, ..)| *last == id) {
                    let last = seen.last_mut().unwrap();
                    last.1.extend_from_slice(&bytes);
                    last.2 |= is_last;
                } else {
                    seen.push((id, bytes.to_vec(), is_last));
                }
                is_open = decoder.is_inside_payload();
            }
        }
        prop_assert_eq!(seen, frames);
    }

    #[test]
    fn rubbish_breaks_nothing(rubbish in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut decoder = Decoder::new();
        let mut session = Session::default();
        decoder.buffer.extend_from_slice(&rubbish);
        for _ in 0..2_000 {
            match decoder.next() {
                Ok(Some(frame)) => drop(session.receive(frame)),
                Ok(None) | Err(_) => break,
            }
        }
    }

    #[test]
    fn control_frames_of_any_content_break_nothing(
        kind in 0_u8..12,
        flags in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut decoder = Decoder::new();
        let length = u8::try_from(body.len()).unwrap();
        decoder.buffer.extend_from_slice(&[0x80, 3, 0, kind, flags, 0, 0, length]);
        decoder.buffer.extend_from_slice(&body);
        // Either is right; it must only be one of them.
        drop(decoder.next());
    }
}

fn open(id: u32) -> Frame {
    Frame::Open { id, headers: Headers::new(), is_last: false, is_one_way: false }
}

fn data(id: u32, is_last: bool) -> Frame {
    Frame::Data { id, bytes: Bytes::from_static(b"x"), is_last }
}

#[track_caller]
fn check(session: &mut Session, frame: Frame, expected: &str) {
    let shown = match session.receive(frame.clone()) {
        Effect::Deliver { id, is_last, .. } => format!("deliver {id} {is_last}"),
        Effect::Open { id, is_ended, .. } => format!("open {id} {is_ended}"),
        Effect::Reset { id, status } => format!("reset {id} {status:?}"),
        other => format!("{other:?}"),
    };
    assert_eq!(shown, expected, "{frame:?}");
}

#[test]
fn streams_live_until_both_halves_are_over() {
    let mut session = Session::default();
    check(&mut session, data(1, false), "Nothing");
    check(&mut session, open(2), "reset 2 ProtocolError");
    check(&mut session, open(3), "open 3 false");
    check(&mut session, open(1), "reset 1 ProtocolError");
    check(&mut session, data(3, true), "deliver 3 true");
    check(&mut session, data(3, false), "Nothing");
    assert!(session.may_send(3));
    assert!(session.end(3));
    assert!(!session.may_send(3) && !session.end(3));
    check(&mut session, Frame::Reset { id: 3 }, "Nothing");
    check(&mut session, open(5), "open 5 false");
    check(&mut session, Frame::Reset { id: 5 }, "Abort { id: 5 }");
    assert!(!session.may_send(5) && !session.reset(5));
    check(&mut session, Frame::Ping { id: 7 }, "Pong { id: 7 }");
    check(&mut session, Frame::Ping { id: 8 }, "Nothing");
    check(&mut session, Frame::GoAway, "Close");
}

#[test]
fn too_many_streams_are_refused() {
    let mut session = Session::default();
    let ids = (1_u32..).step_by(2);
    for id in ids.clone().take(STREAMS_MAX) {
        check(&mut session, open(id), &format!("open {id} false"));
    }
    let next = ids.clone().nth(STREAMS_MAX).unwrap();
    check(&mut session, open(next), &format!("reset {next} RefusedStream"));
    assert!(session.reset(1));
    check(&mut session, open(next + 2), &format!("open {} false", next + 2));
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_and_ends_by_halves() {
    // This client does not read while it writes.
    let (near, far) = tokio::io::duplex(64 << 10);
    let work = |mut new: NewStreams| async move {
        let stream = new.next().await.unwrap();
        assert_eq!(stream.header("streamtype"), "echo");
        let (mut receiver, mut sender) = stream.accept().await;
        while let Some(piece) = receiver.next().await {
            sender.send(piece).await.unwrap();
        }
        sender.send(Bytes::from_static(b"bye")).await.unwrap();
        sender.finish().await;
        new.next().await.unwrap().refuse().await;
    };
    // And it closes when it has been told that all is over.
    let talk = async {
        let mut client = Client::new(near);
        client.open(1, &[("streamtype", "echo")]).await;
        let long = "0123456789".repeat(1_000);
        let (sent, cut) = (long.clone(), long.len() / 2);
        client.data(1, sent.as_bytes().split_at(cut).0, false).await;
        client.say(|_, bytes| frame::ping(bytes, 9)).await;
        client.data(1, sent.as_bytes().split_at(cut).1, true).await;
        assert_eq!(client.read(1).await, long + "bye");
        client.open(3, &[]).await;
        let rest = client.read_all().await;
        assert_eq!(rest, ["3 reset", "go away"]);
    };
    let serving = serve(Box::new(far), work);
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        tokio::join!(serving, talk);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_goes_takes_the_work_with_it() {
    let (near, far) = tokio::io::duplex(64);
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    let work = |mut new: NewStreams| async move {
        let _held = held;
        new.next().await;
        std::future::pending::<()>().await;
    };
    let mut client = Client::new(near);
    client.open(1, &[]).await;
    drop(client);
    serve(Box::new(far), work).await;
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let (mut near, far) = tokio::io::duplex(64);
    // A control frame of version 2.
    near.write_all(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]).await.unwrap();
    serve(Box::new(far), |mut new| async move { drop(new.next().await) }).await;
}
