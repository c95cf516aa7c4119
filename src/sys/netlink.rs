//! Messages of netlink(7) for what no crate here speaks: headers, attributes and answers.
//!
//! Everything here blocks for as long as the kernel takes.

use rtnetlink::sys::{Socket, SocketAddr};
use std::io;

/// The most that the kernel sends at once.
const READ_BYTES: usize = 64 << 10;

const MESSAGE_HEADER_BYTES: usize = 16;
/// What each protocol has after the message's own header.
pub(super) const PROTOCOL_HEADER_BYTES: usize = 4;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const ALIGNMENT: usize = 4;

const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
/// Asks for an answer also where all went well.
pub(super) const ACKNOWLEDGE: u16 = 4;
/// Asks for everything of a kind.
pub(super) const DUMP: u16 = 0x300;

/// Marks an attribute that has others inside.
pub(super) const NESTED: u16 = 0x8000;

/// Without the marks of those with others inside, and of those in network byte order.
const ATTRIBUTE_KIND: u16 = 0x3fff;

/// A socket to speak with the kernel, and with nobody else.
pub(super) fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// A request. `attributes` are encoded already.
pub(super) fn message(kind: u16, flags: u16, header: [u8; 4], attributes: &[u8]) -> Vec<u8> {
    let length = MESSAGE_HEADER_BYTES + PROTOCOL_HEADER_BYTES + attributes.len();
    let length = u32::try_from(length).expect("requests are small");
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(header);
    message.extend(attributes);
    message
}

/// Reads what the kernel sends at once and gives it away by message: kind, header of the protocol,
/// attributes. Says whether there is more.
pub(super) fn read(socket: &Socket, mut take: impl FnMut(u16, [u8; 4], &[u8])) -> io::Result<bool> {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    socket.recv(&mut buffer, 0)?;
    let mut rest = buffer.as_slice();
    while let Some((Message { kind, body, .. }, after)) = split_message(rest) {
        rest = after;
        match kind {
            // What ends a list says too how it went.
            ERROR | DONE => {
                let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return match code {
                    0 => Ok(false),
                    code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                };
            }
            kind => {
                if let Some((header, attributes)) = body.split_first_chunk() {
                    take(kind, *header, attributes);
                }
            }
        }
    }
    Ok(true)
}

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    /// The number of the socket whose doing it is about; zero for the kernel's own.
    pub(super) socket: u32,
    /// The header of the protocol, and the attributes.
    pub(super) body: &'a [u8],
}

/// The first message, and what follows it.
pub(super) fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let body = bytes.get(MESSAGE_HEADER_BYTES..length)?;
    let socket = u32::from_ne_bytes(*bytes[..MESSAGE_HEADER_BYTES].last_chunk()?);
    let after = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    Some((Message { kind, socket, body }, after))
}

/// Each attribute with its kind and its header.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & ATTRIBUTE_KIND;
        let whole = bytes.get(..length).filter(|whole| whole.len() >= ATTRIBUTE_HEADER_BYTES)?;
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, whole))
    })
}

/// Each attribute with its kind, without its header.
pub(super) fn values(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(bytes).map(|(kind, whole)| (kind, &whole[ATTRIBUTE_HEADER_BYTES..]))
}

/// The value of the first attribute of that kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    values(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An attribute, encoded.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = ATTRIBUTE_HEADER_BYTES + value.len();
    let length = u16::try_from(length).expect("attributes are small");
    let mut whole = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    whole.extend(value);
    pad(&mut whole);
    whole
}

/// What follows begins at a multiple of four bytes.
pub(super) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_long_as_they_say() {
        let request = message(7, ACKNOWLEDGE, [2, 0, 0, 0], &[1, 2, 3, 4]);
        let said = Message { kind: 7, socket: 0, body: &[2, 0, 0, 0, 1, 2, 3, 4] };
        assert_eq!(split_message(&request), Some((said, &[][..])));
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        assert!(split_message(&[4, 0, 0, 0, 1, 0]).is_none());
        assert!(split_message(&[255; 16]).is_none());
        let two = [attribute(1, b"abc"), attribute(2 | NESTED, b"defg")].concat();
        assert_eq!(values(&two).collect::<Vec<_>>(), [(1, &b"abc"[..]), (2, b"defg")]);
        for end in 0..two.len() {
            assert_eq!(find(&two[..end], 2), None);
        }
    }
}
