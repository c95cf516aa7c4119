//! Requests and replies on the wire. Pure: bytes to a request, a reply to bytes.
//!
//! Start at [`read`]. Architecture invariants: a reply is never answered, so that two servers never
//! talk to each other for ever; nothing that arrives makes this take more memory than it is long.

use super::names;
use hickory_proto::op::emit_message_parts;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use std::iter;

/// Id, flags and four counts.
const HEADER_BYTES: usize = 12;

/// The shortest a record can be: a root name, type, class, time to live, and no data.
const RECORD_BYTES_MIN: usize = 11;

/// What takes part in a request besides the question: options, perhaps a signature.
const REQUEST_ADDITIONAL_MAX: u16 = 2;

/// What clients without EDNS can take in one datagram (RFC 1035, 4.2.1).
const PLAIN_BYTES_MAX: u16 = 512;

/// No datagram is longer: what is, is lost where fragments are (DNS flag day 2020).
pub(super) const DATAGRAM_BYTES_MAX: u16 = 1_232;

/// An options record without options.
const OPTIONS_BYTES: u16 = 11;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What the options record of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// The longest datagram that the client takes.
    bytes_max: u16,
    pub(super) dnssec_ok: bool,
}

/// A question, and what its answer has to repeat and to keep within.
#[derive(Clone, Debug)]
pub(super) struct Request {
    metadata: Metadata,
    query: Query,
    /// The name as text ([`names::text_of`]).
    pub(super) text: String,
    pub(super) options: Option<Options>,
    transport: Transport,
}

/// What to do about bytes that came.
#[derive(Debug)]
pub(super) enum Read {
    Ask(Box<Request>),
    /// It cannot be answered, and this says so.
    Refuse(Vec<u8>),
    /// It is no request.
    Ignore,
}

/// What a request is answered with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) is_authoritative: bool,
    /// Somebody else has checked signatures, and says so.
    pub(super) is_authentic: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additional: Vec<Record>,
}

impl Reply {
    /// Says no more than `code`.
    pub(super) fn of(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

/// Reads a request.
pub(super) fn read(bytes: &[u8], transport: Transport) -> Read {
    let Some(header) = RawHeader::read(bytes).filter(|header| !header.is_response) else {
        return Read::Ignore;
    };
    let refuse = |code| Read::Refuse(header.refusal(code));
    if header.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [questions, answers, authorities, additional] = header.counts;
    if (questions, answers, authorities) != (1, 0, 0) || additional > REQUEST_ADDITIONAL_MAX {
        return refuse(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr) };
    let Some(query) = message.queries.into_iter().next() else {
        return refuse(ResponseCode::FormErr);
    };
    let text = names::text_of(query.name());
    let options = message.edns.as_ref().map(Options::of);
    let version = message.edns.as_ref().map_or(0, Edns::version);
    let metadata = message.metadata;
    let request = Request { metadata, query, text, options, transport };
    match refused(&request, version) {
        Some(code) => Read::Refuse(request.encode(&Reply::of(code))),
        None => Read::Ask(Box::new(request)),
    }
}

fn refused(request: &Request, version: u8) -> Option<ResponseCode> {
    if version > 0 {
        return Some(ResponseCode::BADVERS);
    }
    if request.query.query_class() != DNSClass::IN {
        return Some(ResponseCode::Refused);
    }
    // Whole zones are handed to nobody.
    match request.kind() {
        RecordType::AXFR | RecordType::IXFR => Some(ResponseCode::Refused),
        RecordType::OPT | RecordType::TSIG | RecordType::ZERO => Some(ResponseCode::FormErr),
        _ => None,
    }
}

impl Options {
    fn of(edns: &Edns) -> Self {
        Self { bytes_max: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok }
    }
}

impl Request {
    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    pub(super) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    pub(super) fn checking_disabled(&self) -> bool {
        self.metadata.checking_disabled
    }

    /// Whether records that sign others are wanted.
    pub(super) fn dnssec_ok(&self) -> bool {
        self.options.is_some_and(|options| options.dnssec_ok)
    }

    /// Encodes a reply. What the client cannot take is left out: first what is additional, then
    /// the answers that come last, and then the reply says so.
    pub(super) fn encode(&self, reply: &Reply) -> Vec<u8> {
        let limit = match (self.transport, self.options) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_BYTES_MAX,
            (Transport::Udp, Some(Options { bytes_max, .. })) => {
                bytes_max.clamp(PLAIN_BYTES_MAX, DATAGRAM_BYTES_MAX)
            }
        };
        let room = limit - if self.options.is_some() { OPTIONS_BYTES } else { 0 };
        let whole = self.encode_within(reply, &reply.additional, room);
        let encoded = match whole {
            Some((_, Whole::No)) if !reply.additional.is_empty() => {
                self.encode_within(reply, &[], room)
            }
            other => other,
        };
        let Some((mut bytes, _)) = encoded else {
            let header = RawHeader::of(&self.metadata);
            return header.refusal(ResponseCode::ServFail);
        };
        if let Some(options) = self.options {
            append_options(&mut bytes, options, reply.code);
        }
        bytes
    }

    /// `None` where a record cannot be encoded at all.
    fn encode_within(
        &self,
        reply: &Reply,
        additional: &[Record],
        limit: u16,
    ) -> Option<(Vec<u8>, Whole)> {
        let mut metadata = Metadata::response_from_request(&self.metadata);
        metadata.authoritative = reply.is_authoritative;
        metadata.authentic_data = reply.is_authentic;
        metadata.recursion_available = true;
        metadata.response_code = ResponseCode::from_low(reply.code.low());
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(limit);
        let header = emit_message_parts(
            &metadata,
            &mut iter::once(&self.query),
            &mut reply.answers.iter(),
            &mut reply.authorities.iter(),
            &mut additional.iter(),
            None,
            None,
            &mut encoder,
        );
        // Where a record did not fit, the encoder has gone back to where it began, but has left what
        // it wrote of it.
        encoder.trim();
        let whole = if header.ok()?.metadata.truncation { Whole::No } else { Whole::Yes };
        Some((bytes, whole))
    }
}

/// Whether all of a reply fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// Adds the options record (RFC 6891, 6.1.2). It is not left to the encoder, which leaves it out
/// where the answers have taken all room.
fn append_options(bytes: &mut Vec<u8>, options: Options, code: ResponseCode) {
    let dnssec_ok = if options.dnssec_ok { 0x80 } else { 0 };
    let [high, low] = DATAGRAM_BYTES_MAX.to_be_bytes();
    bytes.extend([0, 0, 41, high, low, code.high(), 0, dnssec_ok, 0, 0, 0]);
    let count = u16::from_be_bytes([bytes[10], bytes[11]]) + 1;
    bytes[10..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
}

/// The header, read before anything is believed: the decoder takes memory by its counts.
#[derive(Clone, Copy, Debug)]
struct RawHeader {
    id: u16,
    is_response: bool,
    op_code: OpCode,
    recursion_desired: bool,
    /// Questions, answers, authorities, additional records.
    counts: [u16; 4],
}

impl RawHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self {
            id: word(0),
            is_response: header[2] & 0x80 != 0,
            op_code: OpCode::from_u8((header[2] >> 3) & 0x0f),
            recursion_desired: header[2] & 1 != 0,
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            id: metadata.id,
            is_response: false,
            op_code: metadata.op_code,
            recursion_desired: metadata.recursion_desired,
            counts: [0; 4],
        }
    }

    /// A header alone, that says no.
    fn refusal(&self, code: ResponseCode) -> Vec<u8> {
        let [high, low] = self.id.to_be_bytes();
        let flags = 0x80 | (u8::from(self.op_code) << 3) | u8::from(self.recursion_desired);
        let mut bytes = vec![high, low, flags, code.low()];
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }
}

/// What another server has said.
#[derive(Debug)]
pub(super) enum Response {
    Whole(Box<Message>),
    /// There is more than fits in a datagram.
    Truncated,
}

/// Encodes a question for another server.
pub(super) fn ask(id: u16, query: &Query, flags: AskFlags) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = flags.checking_disabled;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM_BYTES_MAX).set_dnssec_ok(flags.dnssec_ok);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// What of a request's flags other servers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AskFlags {
    pub(super) dnssec_ok: bool,
    pub(super) checking_disabled: bool,
}

/// Reads the answer to that question; `None` where it is none: whoever sent it is not who was
/// asked, or does not know what was asked.
pub(super) fn read_response(bytes: &[u8], id: u16, query: &Query) -> Option<Response> {
    let header = RawHeader::read(bytes)?;
    let records: usize = header.counts[1..].iter().map(|count| usize::from(*count)).sum();
    let is_plausible = header.is_response
        && header.id == id
        && header.op_code == OpCode::Query
        && header.counts[0] == 1
        && records * RECORD_BYTES_MIN <= bytes.len();
    if !is_plausible {
        return None;
    }
    let is_truncated = bytes[2] & 2 != 0;
    let read = Message::from_vec(bytes);
    let Ok(message) = read else { return is_truncated.then_some(Response::Truncated) };
    let asked = message.queries.first()?;
    let is_same = asked.name().eq_ignore_root(query.name())
        && asked.query_type() == query.query_type()
        && asked.query_class() == query.query_class();
    match (is_same, is_truncated) {
        (false, _) => None,
        (true, true) => Some(Response::Truncated),
        (true, false) => Some(Response::Whole(Box::new(message))),
    }
}
