//! Cuts the text of an expression into tokens.
//!
//! The grammar is CEL's (cel-go parser/gen/CEL.g4, v0.26). What is no token is reported and passed
//! over, as upstream's lexer does, so that the parser's own complaint comes too.

use super::source::{Offset, Report};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    Dot,
    Comma,
    Minus,
    Not,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    Text,
    Bytes,
    Identifier,
    QuotedIdentifier,
    End,
}

/// A token, where it begins, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexeme<'s> {
    pub(super) token: Token,
    pub(super) at: Offset,
    pub(super) text: &'s str,
}

/// Longer symbols come before those that begin them.
const SYMBOLS: &[(&str, Token)] = &[
    ("==", Token::Equals),
    ("!=", Token::NotEquals),
    ("<=", Token::LessEquals),
    (">=", Token::GreaterEquals),
    ("&&", Token::And),
    ("||", Token::Or),
    ("<", Token::Less),
    (">", Token::Greater),
    ("[", Token::OpenBracket),
    ("]", Token::CloseBracket),
    ("{", Token::OpenBrace),
    ("}", Token::CloseBrace),
    ("(", Token::OpenParen),
    (")", Token::CloseParen),
    (".", Token::Dot),
    (",", Token::Comma),
    ("-", Token::Minus),
    ("!", Token::Not),
    ("?", Token::Question),
    (":", Token::Colon),
    ("+", Token::Plus),
    ("*", Token::Star),
    ("/", Token::Slash),
    ("%", Token::Percent),
];

/// All tokens; the last is always [`Token::End`].
pub(super) fn tokens<'s>(text: &'s str, report: &mut Report<'_>) -> Vec<Lexeme<'s>> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut at: Offset = 0;
    while !rest.is_empty() {
        let length = match next(rest) {
            Next::Blank(length) => length,
            Next::Token(token, length) => {
                found.push(Lexeme { token, at, text: &rest[..length] });
                length
            }
            Next::Wrong(length) => {
                let wrong = &rest[..length];
                report.add(at, format!("Syntax error: token recognition error at: '{wrong}'"));
                length
            }
        };
        at += Offset::try_from(rest[..length].chars().count()).unwrap_or(Offset::MAX);
        rest = &rest[length..];
    }
    found.push(Lexeme { token: Token::End, at, text: "<EOF>" });
    found
}

enum Next {
    Blank(usize),
    Token(Token, usize),
    /// So many bytes were read before it was clear that they are nothing.
    Wrong(usize),
}

fn next(rest: &str) -> Next {
    let blank = span(rest, |c| matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}'));
    if blank > 0 {
        return Next::Blank(blank);
    }
    if rest.starts_with("//") {
        return Next::Blank(rest.find('\n').unwrap_or(rest.len()));
    }
    if let Some(string) = string(rest) {
        return string;
    }
    if let Some((token, length)) = number(rest) {
        return Next::Token(token, length);
    }
    let word = word(rest);
    if word > 0 {
        let token = match &rest[..word] {
            "in" => Token::In,
            "true" => Token::True,
            "false" => Token::False,
            "null" => Token::Null,
            _ => Token::Identifier,
        };
        return Next::Token(token, word);
    }
    if let Some(quoted) = rest.strip_prefix('`') {
        let length = span(quoted, |c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
        if length > 0 && quoted[length..].starts_with('`') {
            return Next::Token(Token::QuotedIdentifier, length + 2);
        }
        return Next::Wrong(through(rest, 1 + length));
    }
    match SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
        Some((symbol, token)) => Next::Token(*token, symbol.len()),
        None if rest.starts_with(['=', '&', '|']) => Next::Wrong(through(rest, 1)),
        None => Next::Wrong(through(rest, 0)),
    }
}

/// The length through the character that begins at `index`, or of all.
fn through(rest: &str, index: usize) -> usize {
    rest[index..].chars().next().map_or(rest.len(), |c| index + c.len_utf8())
}

fn span(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !belongs(c)).unwrap_or(rest.len())
}

fn word(rest: &str) -> usize {
    if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        span(rest, |c| c.is_ascii_alphanumeric() || c == '_')
    } else {
        0
    }
}

fn digits(rest: &str) -> usize {
    span(rest, |c| c.is_ascii_digit())
}

fn number(rest: &str) -> Option<(Token, usize)> {
    if let Some(hex) = rest.strip_prefix("0x") {
        let length = span(hex, |c| c.is_ascii_hexdigit());
        if length > 0 {
            return Some(whole(rest, length + 2));
        }
    }
    let before = digits(rest);
    let mut length = before;
    let after = rest[length..].strip_prefix('.').map_or(0, digits);
    if after > 0 {
        length += 1 + after;
    }
    if length == 0 {
        return None;
    }
    let exponent = exponent(&rest[length..]);
    if after > 0 || exponent > 0 {
        return Some((Token::Float, length + exponent));
    }
    Some(whole(rest, length))
}

fn whole(rest: &str, length: usize) -> (Token, usize) {
    if rest[length..].starts_with(['u', 'U']) {
        (Token::Uint, length + 1)
    } else {
        (Token::Int, length)
    }
}

fn exponent(rest: &str) -> usize {
    let Some(after) = rest.strip_prefix(['e', 'E']) else { return 0 };
    let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
    match digits(unsigned) {
        0 => 0,
        length => 1 + (after.len() - unsigned.len()) + length,
    }
}

/// A string or bytes with their prefixes; `None` where there is no quotation mark.
fn string(rest: &str) -> Option<Next> {
    let unprefixed = rest.strip_prefix(['b', 'B']).unwrap_or(rest);
    let token = if unprefixed.len() < rest.len() { Token::Bytes } else { Token::Text };
    let quoted = unprefixed.strip_prefix(['r', 'R']).unwrap_or(unprefixed);
    let is_raw = quoted.len() < unprefixed.len();
    let prefix = rest.len() - quoted.len();
    let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let triple = String::from(quote).repeat(3);
    let end = if quoted.starts_with(&triple) {
        let long = body(&quoted[3..], &triple, is_raw, true).map(|length| length + 6);
        // The empty string, when the long form does not end.
        long.or(Ok(2))
    } else {
        body(&quoted[1..], &triple[..1], is_raw, false).map(|length| length + 2)
    };
    Some(match end {
        Ok(length) => Next::Token(token, prefix + length),
        Err(read) => Next::Wrong(through(rest, prefix + 1 + read)),
    })
}

/// The length of what is within the quotation marks, or how much was read in vain.
fn body(rest: &str, end: &str, is_raw: bool, is_long: bool) -> Result<usize, usize> {
    let mut index = 0;
    while index < rest.len() {
        let here = &rest[index..];
        if here.starts_with(end) {
            return Ok(index);
        }
        let c = here.chars().next().unwrap_or_default();
        if !is_long && matches!(c, '\n' | '\r') {
            return Err(index);
        }
        index += match c {
            '\\' if !is_raw => escape(&here[1..]).map_err(|read| index + 1 + read)? + 1,
            c => c.len_utf8(),
        };
    }
    Err(index)
}

/// The length of an escape sequence after its backslash.
fn escape(rest: &str) -> Result<usize, usize> {
    let hex = |count: usize| {
        let found = span(rest.get(1..).unwrap_or_default(), |c| c.is_ascii_hexdigit()).min(count);
        if found == count { Ok(1 + count) } else { Err(1 + found) }
    };
    match rest.as_bytes().first() {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?') => Ok(1),
        Some(b'`') => Ok(1),
        Some(b'x' | b'X') => hex(2),
        Some(b'u') => hex(4),
        Some(b'U') => hex(8),
        Some(b'0'..=b'3') => {
            let found = span(&rest[1..], |c| matches!(c, '0'..='7')).min(2);
            if found == 2 { Ok(3) } else { Err(1 + found) }
        }
        _ => Err(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut report = Report::of(text);
        let found: Vec<String> =
            tokens(text, &mut report).iter().map(|l| format!("{:?}@{}", l.token, l.at)).collect();
        assert_eq!(found.join(" "), expected, "{text}");
    }

    #[test]
    fn the_longest_token_wins() {
        check("a<=1.5e3", "Identifier@0 LessEquals@1 Float@3 End@8");
        check("1.size()", "Int@0 Dot@1 Identifier@2 OpenParen@6 CloseParen@7 End@8");
        check("0x1Fu .5 7U", "Uint@0 Float@6 Uint@9 End@11");
        check("inner in x", "Identifier@0 In@6 Identifier@9 End@10");
        check("// all\n`a-b/c`", "QuotedIdentifier@7 End@14");
    }

    #[test]
    fn strings_have_four_kinds_of_quotation_marks_and_two_prefixes() {
        check(
            r#"'a\'b' "c" r'\' b"x" rb'1'"#,
            "Text@0 Text@7 Text@11 Bytes@16 Identifier@21 Text@23 End@26",
        );
        check("'''a'b''' \"\"\"x\ny\"\"\"", "Text@0 Text@10 End@19");
        check("''", "Text@0 End@2");
    }

    #[test]
    fn what_is_no_token_is_reported_and_passed_over() {
        for (text, wrong) in
            [("a $ b", "'$'"), ("a | b", "'| '"), ("'abc", "''abc'"), ("'\\q'", "''\\q'")]
        {
            let mut report = Report::of(text);
            tokens(text, &mut report);
            let message = report.finish().unwrap_err().to_string();
            assert!(message.contains(&format!("token recognition error at: {wrong}")), "{message}");
        }
    }
}
