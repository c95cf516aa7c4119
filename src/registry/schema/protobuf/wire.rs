//! The wire format itself: varints, keys, lengths. Knows nothing of types.

/// Why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("the data ends in the middle of a field")]
    Truncated,
    #[error("a number is longer than ten bytes")]
    Overlong,
    #[error("field number {0} is out of range")]
    FieldNumber(u64),
    #[error("wire type {0} does not belong here")]
    WireType(u8),
}

/// What a field holds, as far as the wire tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed32,
    Fixed64(u64),
    /// A text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// A group, which nobody writes any more: skipped.
    Group,
}

/// Field numbers are 29 bits wide.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

/// 64 bits, seven in a byte.
const VARINT_BYTES_MAX: usize = 10;

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED_32: u8 = 5;

/// Reads the fields of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field; `None` at the end of the message.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Payload<'a>)>, WireError> {
        if self.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let payload = match wire_type {
            GROUP_START => {
                self.skip_group()?;
                Payload::Group
            }
            other => self.payload(other)?,
        };
        Ok(Some((number, payload)))
    }

    fn key(&mut self) -> Result<(u64, u8), WireError> {
        let key = self.varint()?;
        let wire_type = u8::try_from(key & 7).expect("three bits");
        match key >> 3 {
            number @ 1..=FIELD_NUMBER_MAX => Ok((number, wire_type)),
            number => Err(WireError::FieldNumber(number)),
        }
    }

    fn payload(&mut self, wire_type: u8) -> Result<Payload<'a>, WireError> {
        match wire_type {
            VARINT => Ok(Payload::Varint(self.varint()?)),
            FIXED_64 => Ok(Payload::Fixed64(self.fixed64()?)),
            BYTES => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                Ok(Payload::Bytes(self.take(length)?))
            }
            FIXED_32 => self.take(4).map(|_| Payload::Fixed32),
            other => Err(WireError::WireType(other)),
        }
    }

    /// Skips to the end of a group. Groups in it are counted, not recursed into.
    fn skip_group(&mut self) -> Result<(), WireError> {
        let mut open = 1_usize;
        while open > 0 {
            match self.key()?.1 {
                GROUP_START => open += 1,
                GROUP_END => open -= 1,
                other => drop(self.payload(other)?),
            }
        }
        Ok(())
    }

    /// A varint, as it is also packed side by side with others.
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            // Bits beyond the 64th are dropped, as Go does.
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Overlong)
    }

    /// Eight bytes, as they are also packed side by side with others.
    pub(super) fn fixed64(&mut self) -> Result<u64, WireError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes fields one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(super) out: Vec<u8>,
}

/// Where a message that is being written begins.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Opened {
    start: usize,
}

impl Writer {
    /// What has been written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn varint_field(&mut self, number: u8, value: u64) {
        self.key(number, VARINT);
        push_varint(&mut self.out, value);
    }

    pub(super) fn fixed64_field(&mut self, number: u8, value: u64) {
        self.key(number, FIXED_64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes_field(&mut self, number: u8, bytes: &[u8]) {
        self.key(number, BYTES);
        push_varint(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// Begins a message, whose length is not known yet.
    pub(crate) fn open(&mut self, number: u8) -> Opened {
        self.key(number, BYTES);
        self.out.push(0);
        Opened { start: self.out.len() }
    }

    /// Ends it: one byte was left for its length, and what is longer is moved.
    pub(crate) fn close(&mut self, message: Opened) {
        let length = self.out.len() - message.start;
        if let Ok(byte @ 0..0x80) = u8::try_from(length) {
            self.out[message.start - 1] = byte;
            return;
        }
        let mut prefix = Vec::with_capacity(VARINT_BYTES_MAX);
        push_varint(&mut prefix, length as u64);
        drop(self.out.splice(message.start - 1..message.start, prefix));
    }

    fn key(&mut self, number: u8, wire_type: u8) {
        push_varint(&mut self.out, u64::from(number) << 3 | u64::from(wire_type));
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("what is left is below 128"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let mut reader = Reader::new(bytes);
        let mut shown = String::new();
        loop {
            match reader.field() {
                Ok(None) => break,
                Ok(Some((number, payload))) => shown.push_str(&format!("{number}={payload:?} ")),
                Err(error) => {
                    shown.push_str(&error.to_string());
                    break;
                }
            }
        }
        assert_eq!(shown.trim_end(), expected, "{bytes:?}");
    }

    #[test]
    fn fields_are_read_and_groups_skipped() {
        check(&[], "");
        check(&[0x08, 0x96, 0x01], "1=Varint(150)");
        check(&[0x12, 2, b'h', b'i', 0x18, 0], "2=Bytes([104, 105]) 3=Varint(0)");
        check(&[0x09, 1, 0, 0, 0, 0, 0, 0, 0], "1=Fixed64(1)");
        check(&[0x0d, 1, 0, 0, 0], "1=Fixed32");
        check(&[0x0b, 0x13, 0x08, 1, 0x14, 0x0c, 0x10, 5], "1=Group 2=Varint(5)");
    }

    #[test]
    fn bad_bytes_are_named() {
        check(&[0x08], "the data ends in the middle of a field");
        check(&[0x08, 0x80], "the data ends in the middle of a field");
        check(&[0x12, 5, b'h'], "the data ends in the middle of a field");
        check(
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "the data ends in the middle of a field",
        );
        check(
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "a number is longer than ten bytes",
        );
        check(&[0x00, 0], "field number 0 is out of range");
        check(&[0x0c], "wire type 4 does not belong here");
        check(&[0x0e], "wire type 6 does not belong here");
        check(&[0x0b, 0x13], "the data ends in the middle of a field");
    }

    #[test]
    fn lengths_of_any_size_are_put_before_messages() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let mut writer = Writer::default();
            writer.varint_field(1, 7);
            let opened = writer.open(2);
            writer.out.resize(writer.out.len() + length, b'x');
            writer.close(opened);
            let mut reader = Reader::new(&writer.out);
            assert_eq!(reader.field(), Ok(Some((1, Payload::Varint(7)))));
            let expected = vec![b'x'; length];
            assert_eq!(reader.field(), Ok(Some((2, Payload::Bytes(&expected)))));
            assert_eq!(reader.field(), Ok(None));
        }
    }
}
