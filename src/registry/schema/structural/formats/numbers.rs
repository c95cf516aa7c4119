//! Formats of identifiers, numbers with check digits, colours and base64 (kube-openapi
//! pkg/internal/third_party/govalidator and pkg/validation/strfmt).

/// 32 hexadecimal digits with dashes, or without. A version is asked for in its place, and behind 4
/// and 5 a variant.
pub(super) fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut rest = text.as_bytes();
    let mut digits = Vec::with_capacity(32);
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 && rest.first() == Some(&b'-') {
            rest = &rest[1..];
        }
        let Some((group, behind)) = rest.split_at_checked(length) else { return false };
        digits.extend_from_slice(group);
        rest = behind;
    }
    let is_variant = |byte: u8| b"89abAB".contains(&byte);
    rest.is_empty()
        && digits.iter().all(u8::is_ascii_hexdigit)
        && version.is_none_or(|version| {
            digits[12] == version && (version == b'3' || is_variant(digits[16]))
        })
}

fn digits_of(text: &str) -> Vec<u32> {
    text.chars().filter_map(|letter| letter.to_digit(10)).collect()
}

fn without_spaces(text: &str) -> String {
    text.chars()
        .filter(|letter| !matches!(letter, '\t' | '\n' | '\u{c}' | '\r' | ' ' | '-'))
        .collect()
}

pub(super) fn is_isbn10(text: &str) -> bool {
    let text = without_spaces(text);
    let Some((first, last)) = text.as_bytes().split_at_checked(9) else { return false };
    let check = match last {
        b"X" => 10,
        [digit @ b'0'..=b'9'] => u32::from(digit - b'0'),
        _ => return false,
    };
    let sum: u32 = (1..)
        .zip(first)
        .map(|(weight, digit)| weight * u32::from(digit.saturating_sub(b'0')))
        .sum();
    first.iter().all(u8::is_ascii_digit) && (sum + 10 * check).is_multiple_of(11)
}

pub(super) fn is_isbn13(text: &str) -> bool {
    let text = without_spaces(text);
    let digits = digits_of(&text);
    let weighted = digits.iter().zip([1, 3].into_iter().cycle());
    let sum: u32 = weighted.map(|(digit, weight)| digit * weight).sum();
    text.len() == 13 && digits.len() == 13 && sum.is_multiple_of(10)
}

pub(super) fn is_credit_card(text: &str) -> bool {
    let digits = digits_of(text);
    let number = digits.iter().fold(String::new(), |text, digit| format!("{text}{digit}"));
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match place % 2 {
            0 => *digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    is_card_number(&number) && sum.is_multiple_of(10)
}

/// The beginnings and lengths of those who issue cards.
fn is_card_number(number: &str) -> bool {
    let begins = |low: u32, high: u32, digits: usize| {
        let first = number.get(..digits).and_then(|first| first.parse().ok());
        first.is_some_and(|first: u32| (low..=high).contains(&first))
    };
    match number.len() {
        13 => begins(4, 4, 1),
        14 => begins(300, 305, 3) || begins(36, 36, 2) || begins(38, 38, 2),
        15 => {
            begins(34, 34, 2) || begins(37, 37, 2) || begins(2131, 2131, 4) || begins(1800, 1800, 4)
        }
        16 => {
            begins(4, 4, 1)
                || begins(51, 55, 2)
                || begins(6011, 6011, 4)
                || begins(65, 65, 2)
                || begins(35, 35, 2)
        }
        _ => false,
    }
}

/// `123-45-6789`.
pub(super) fn is_ssn(text: &str) -> bool {
    text.len() == 11
        && text.bytes().enumerate().all(|(place, byte)| match place {
            3 | 6 => matches!(byte, b'-' | b' '),
            _ => byte.is_ascii_digit(),
        })
}

pub(super) fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `rgb(255, 0, 0)`.
pub(super) fn is_rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let is_part = |part: &str| {
        let digits = part.trim_matches(['\t', '\n', '\u{c}', '\r', ' ']);
        let is_plain = digits == "0" || !digits.starts_with(['0', '+']);
        is_plain && digits.parse::<u8>().is_ok()
    };
    inner.is_some_and(|inner| inner.split(',').count() == 3 && inner.split(',').all(is_part))
}

/// Padded, of the standard alphabet, and not empty.
pub(super) fn is_base64(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    let padding = text.len() - letters.len();
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && letters.bytes().all(is_of_alphabet)
}
