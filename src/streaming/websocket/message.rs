//! What the messages of a WebSocket mean: a number, and bytes for the channel of that number. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use tokio_tungstenite::tungstenite::Message;

/// In place of a channel's number: the next byte is the number of a channel that ends.
const END: u8 = 255;

/// How numbers and bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Binary,
    /// As [`Coding::Binary`]; the client can also end a channel.
    BinaryWithEnds,
    /// The number as a digit and the bytes in base64, for those who take text only.
    Base64,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// Never empty.
    Piece(usize, Bytes),
    End(usize),
    Rubbish,
}

impl Coding {
    pub(super) fn decode(self, mut message: Bytes) -> Told {
        let Some(&number) = message.first() else {
            return Told::Nothing;
        };
        message.advance(1);
        match self {
            Self::BinaryWithEnds if number == END => match message.first() {
                Some(ended) => Told::End(usize::from(*ended)),
                None => Told::Rubbish,
            },
            _ if message.is_empty() => Told::Nothing,
            Self::Binary | Self::BinaryWithEnds => Told::Piece(usize::from(number), message),
            Self::Base64 => match (number.checked_sub(b'0'), STANDARD.decode(&message)) {
                (Some(channel), Ok(bytes)) => Told::Piece(usize::from(channel), bytes.into()),
                _ => Told::Rubbish,
            },
        }
    }

    pub(super) fn encode(self, channel: u32, bytes: &[u8]) -> Message {
        let channel = u8::try_from(channel).expect("channels are few");
        match self {
            Self::Binary | Self::BinaryWithEnds => {
                let mut message = Vec::with_capacity(bytes.len() + 1);
                message.push(channel);
                message.extend_from_slice(bytes);
                Message::Binary(message.into())
            }
            Self::Base64 => {
                let mut text = String::from(char::from(b'0' + channel));
                STANDARD.encode_string(bytes, &mut text);
                Message::Text(text.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(coding: Coding, message: &'static [u8], expected: &str) {
        let told = match coding.decode(Bytes::from_static(message)) {
            Told::Piece(channel, bytes) => {
                format!("{channel} {:?}", String::from_utf8_lossy(&bytes))
            }
            other => format!("{other:?}"),
        };
        assert_eq!(told, expected, "{coding:?} {message:?}");
    }

    #[test]
    fn messages_are_told_apart() {
        use Coding::{Base64, Binary, BinaryWithEnds};
        check(Binary, b"\x00foo\n", "0 \"foo\\n\"");
        check(Binary, b"\x04{}", "4 \"{}\"");
        check(Binary, b"", "Nothing");
        check(Binary, b"\x00", "Nothing");
        check(Binary, b"\xff\x00", "255 \"\\0\"");
        check(BinaryWithEnds, b"\xff\x00", "End(0)");
        check(BinaryWithEnds, b"\xff", "Rubbish");
        check(BinaryWithEnds, b"\x00a", "0 \"a\"");
        check(Base64, b"0Zm9vCgo=", "0 \"foo\\n\\n\"");
        check(Base64, b"0*", "Rubbish");
        check(Base64, b"!Zm9v", "Rubbish");
        check(Base64, b"1", "Nothing");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for coding in [Coding::Binary, Coding::BinaryWithEnds, Coding::Base64] {
            let message = coding.encode(3, b"\x00\xfftext").into_data();
            assert_eq!(coding.decode(message), Told::Piece(3, Bytes::from_static(b"\x00\xfftext")));
        }
    }

    fn coding() -> impl Strategy<Value = Coding> {
        prop::sample::select(vec![Coding::Binary, Coding::BinaryWithEnds, Coding::Base64])
    }

    proptest! {
        #[test]
        fn whatever_is_written_reads_the_same(
            coding in coding(),
            channel in 0_u32..10,
            bytes in prop::collection::vec(any::<u8>(), 1..300),
        ) {
            let message = coding.encode(channel, &bytes).into_data();
            let channel = usize::try_from(channel).unwrap();
            prop_assert_eq!(coding.decode(message), Told::Piece(channel, bytes.into()));
        }

        #[test]
        fn any_message_says_something(
            coding in coding(),
            message in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let length = message.len();
            match coding.decode(message.into()) {
                Told::Piece(channel, bytes) => {
                    prop_assert!(channel <= 255 && !bytes.is_empty() && bytes.len() < length);
                }
                Told::End(channel) => prop_assert!(channel <= 255),
                Told::Nothing | Told::Rubbish => {}
            }
        }
    }
}
