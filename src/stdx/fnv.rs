//! FNV-1a: a short number that is the same in every version of kinglet, for names that have to stay.
//! Nothing that somebody else chooses is safe from collisions with it.

/// Of 32 bits.
#[must_use]
pub fn fnv1a_32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let mix = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    bytes.into_iter().fold(0x811c_9dc5, mix)
}

/// Of 64 bits.
#[must_use]
pub fn fnv1a_64(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors.
    #[test]
    fn the_numbers_are_those_of_everybody() {
        let check = |text: &str, short, long| {
            assert_eq!((fnv1a_32(text.bytes()), fnv1a_64(text.bytes())), (short, long), "{text}");
        };
        check("", 0x811c_9dc5, 0xcbf2_9ce4_8422_2325);
        check("a", 0xe40c_292c, 0xaf63_dc4c_8601_ec8c);
        check("foobar", 0xbf9c_f968, 0x8594_4171_f739_67e8);
    }
}
