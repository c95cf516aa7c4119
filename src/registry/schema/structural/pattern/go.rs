//! Rewrites an expression of Go's `regexp/syntax` (Perl flags) for the `regex` crate, and says in
//! Go's words what is wrong with it.

use regex::escape;

/// Repetitions above this are refused (Go: `repeat` takes up to 1000).
const REPEAT_MAX: u32 = 1_000;

/// Groups nested deeper are refused, which is as deep as the `regex` crate goes.
const NEST_MAX: usize = 200;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\f\r ";

pub(super) fn translate(source: &str) -> Result<String, String> {
    let mut reader = Reader { source, at: 0, out: String::with_capacity(source.len() + 8) };
    reader.expression()?;
    Ok(reader.out)
}

/// What came last: decides what a repetition may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Atom,
    /// A repetition that began here.
    Repetition(usize),
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
    out: String,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    fn expression(&mut self) -> Result<(), String> {
        let mut depth = 0;
        let mut last = Last::Nothing;
        while let Some(letter) = self.peek() {
            let start = self.at;
            last = match letter {
                '(' => {
                    depth += 1;
                    if depth > NEST_MAX {
                        return Err(format!("expression nests too deeply: `{}`", self.source));
                    }
                    if self.group()? {
                        Last::Nothing
                    } else {
                        depth -= 1;
                        last
                    }
                }
                ')' => {
                    if depth == 0 {
                        return Err(format!("unexpected ): `{}`", self.source));
                    }
                    depth -= 1;
                    self.copy(letter)
                }
                '|' => {
                    self.copy(letter);
                    Last::Nothing
                }
                '*' | '+' | '?' => {
                    self.copy(letter);
                    self.repetition(start, last)?
                }
                '{' => match self.counts() {
                    Some(counts) => {
                        counts?;
                        self.out.push_str(&self.source[start..self.at]);
                        self.repetition(start, last)?
                    }
                    None => {
                        self.at += 1;
                        self.out.push_str(r"\{");
                        Last::Atom
                    }
                },
                '[' => {
                    self.class()?;
                    Last::Atom
                }
                '\\' => self.escaped()?.unwrap_or(last),
                ']' | '}' | '#' | '&' | '-' | '~' => {
                    self.at += 1;
                    self.out.push_str(&escape(letter.encode_utf8(&mut [0; 4])));
                    Last::Atom
                }
                other => self.copy(other),
            };
        }
        if depth > 0 { Err(format!("missing closing ): `{}`", self.source)) } else { Ok(()) }
    }

    fn copy(&mut self, letter: char) -> Last {
        self.at += letter.len_utf8();
        self.out.push(letter);
        Last::Atom
    }

    /// A repetition operator from `start` to here has been copied; reads the `?` behind it.
    fn repetition(&mut self, start: usize, last: Last) -> Result<Last, String> {
        if self.eat("?") {
            self.out.push('?');
        }
        let operator = &self.source[start..self.at];
        match last {
            Last::Nothing => Err(format!("missing argument to repetition operator: `{operator}`")),
            Last::Repetition(before) => {
                let both = &self.source[before..self.at];
                Err(format!("invalid nested repetition operator: `{both}`"))
            }
            Last::Atom => Ok(Last::Repetition(start)),
        }
    }

    /// `{2}`, `{2,}` or `{2,3}`; anything else is text.
    fn counts(&mut self) -> Option<Result<(), String>> {
        let (inner, _) = self.rest()[1..].split_once('}')?;
        let (low, high) =
            inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)));
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let has_zeros = |text: &str| text.len() > 1 && text.starts_with('0');
        if !is_number(low) || high.is_some_and(|high| !high.is_empty() && !is_number(high)) {
            return None;
        }
        if has_zeros(low) || high.is_some_and(has_zeros) {
            return None;
        }
        let whole = &self.rest()[..inner.len() + 2];
        self.at += whole.len();
        let number = |text: &str| text.parse().ok().filter(|count: &u32| *count <= REPEAT_MAX);
        let is_good = match (number(low), high) {
            (None, _) => false,
            (Some(_), None | Some("")) => true,
            (Some(low), Some(high)) => number(high).is_some_and(|high| low <= high),
        };
        Some(if is_good { Ok(()) } else { Err(format!("invalid repeat count: `{whole}`")) })
    }

    /// The beginning of a group. Whether there is one: `(?i)` is none.
    fn group(&mut self) -> Result<bool, String> {
        let rest = self.rest();
        if !rest.starts_with("(?") {
            self.copy('(');
            return Ok(true);
        }
        for opening in ["(?P<", "(?<"] {
            let Some(named) = rest.strip_prefix(opening) else { continue };
            let Some((name, _)) = named.split_once('>') else {
                return Err(format!("invalid named capture: `{rest}`"));
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                let shown = &rest[..opening.len() + name.len() + 1];
                return Err(format!("invalid named capture: `{shown}`"));
            }
            self.at += opening.len() + name.len() + 1;
            // Names say nothing about what matches, and Go's may begin with digits.
            self.out.push('(');
            return Ok(true);
        }
        let flags: String =
            rest[2..].chars().take_while(|c| matches!(c, 'i' | 'm' | 's' | 'U' | '-')).collect();
        let end = rest[2 + flags.len()..].chars().next();
        let is_sign_good = flags.matches('-').count() <= 1 && !flags.ends_with('-');
        match end {
            Some(end @ (':' | ')')) if is_sign_good && (!flags.is_empty() || end == ':') => {
                self.at += 3 + flags.len();
                self.out.push_str(&format!("(?{flags}{end}"));
                Ok(end == ':')
            }
            Some(end) => {
                let shown = &rest[..2 + flags.len() + end.len_utf8()];
                Err(format!("invalid or unsupported Perl syntax: `{shown}`"))
            }
            None => Err(format!("missing closing ): `{}`", self.source)),
        }
    }

    /// An escape outside brackets. `None` where it stands for nothing.
    fn escaped(&mut self) -> Result<Option<Last>, String> {
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (text, length) = match quoted.split_once(r"\E") {
                Some((text, _)) => (text, text.len() + 4),
                None => (quoted, rest.len()),
            };
            self.out.push_str(&escape(text));
            self.at += length;
            return Ok((!text.is_empty()).then_some(Last::Atom));
        }
        if self.eat(r"\E") {
            return Ok(None);
        }
        for (from, to) in [
            (r"\b", r"(?-u:\b)"),
            (r"\B", r"\B"),
            (r"\A", r"\A"),
            (r"\z", r"\z"),
            (r"\d", "[0-9]"),
            (r"\D", "[^0-9]"),
        ] {
            if self.eat(from) {
                self.out.push_str(to);
                return Ok(Some(Last::Atom));
            }
        }
        for (from, opening, of) in
            [(r"\w", "[", WORD), (r"\W", "[^", WORD), (r"\s", "[", SPACE), (r"\S", "[^", SPACE)]
        {
            if self.eat(from) {
                self.out.push_str(&format!("{opening}{of}]"));
                return Ok(Some(Last::Atom));
            }
        }
        let item = match self.property()? {
            Some(property) => property,
            None => escape(self.literal()?.encode_utf8(&mut [0; 4])),
        };
        self.out.push_str(&item);
        Ok(Some(Last::Atom))
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`.
    fn property(&mut self) -> Result<Option<String>, String> {
        let rest = self.rest();
        let mut negative = rest.starts_with(r"\P");
        if !negative && !rest.starts_with(r"\p") {
            return Ok(None);
        }
        let (name, length) = match rest[2..].chars().next() {
            Some('{') => match rest[3..].split_once('}') {
                Some((name, _)) => (name, name.len() + 4),
                None => return Err(format!("invalid character class range: `{rest}`")),
            },
            Some(letter) => (&rest[2..2 + letter.len_utf8()], 2 + letter.len_utf8()),
            None => return Err(format!("invalid character class range: `{rest}`")),
        };
        let plain = name.strip_prefix('^').unwrap_or(name);
        negative ^= plain.len() != name.len();
        let is_name = plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let letter = if negative { 'P' } else { 'p' };
        let translated = format!("\\{letter}{{{plain}}}");
        let is_known = plain == "Any" || regex::Regex::new(&translated).is_ok();
        if plain.is_empty() || !is_name || !is_known {
            return Err(format!("invalid character class range: `{}`", &rest[..length]));
        }
        self.at += length;
        Ok(Some(translated))
    }

    /// The letter that an escape stands for.
    fn literal(&mut self) -> Result<char, String> {
        let rest = self.rest();
        let Some(letter) = rest[1..].chars().next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let bad = |length: usize| {
            let shown = rest.get(..length).unwrap_or(rest);
            Err(format!("invalid escape sequence: `{shown}`"))
        };
        let (code, length) = match letter {
            'a' => (7, 2),
            'f' => (12, 2),
            'n' => (10, 2),
            'r' => (13, 2),
            't' => (9, 2),
            'v' => (11, 2),
            '0'..='7' => {
                let digits: String =
                    rest[1..].chars().take(3).take_while(|c| ('0'..='7').contains(c)).collect();
                if letter != '0' && digits.len() == 1 {
                    return bad(2);
                }
                (u32::from_str_radix(&digits, 8).unwrap_or_default(), 1 + digits.len())
            }
            'x' => match hex_code(&rest[2..]) {
                Some((code, length)) => (code, 2 + length),
                None => return bad(2 + rest[2..].chars().next().map_or(0, char::len_utf8)),
            },
            other if other.is_ascii_punctuation() => (u32::from(other), 2),
            other => return bad(1 + other.len_utf8()),
        };
        self.at += length;
        match char::from_u32(code) {
            Some(letter) => Ok(letter),
            None => bad(length),
        }
    }

    fn class(&mut self) -> Result<(), String> {
        let (start, rest) = (self.at, self.rest());
        let missing = || Err(format!("missing closing ]: `{rest}`"));
        self.at += 1;
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let Some(letter) = self.peek() else { return missing() };
            if letter == ']' && !is_first {
                self.at += 1;
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if self.class_group()? {
                continue;
            }
            let from = self.at;
            let low = self.class_letter(start)?;
            let ranges = self.rest().strip_prefix('-').filter(|rest| !rest.starts_with(']'));
            let high = match ranges {
                Some("") => return missing(),
                Some(_) => {
                    self.at += 1;
                    self.class_letter(start)?
                }
                None => low,
            };
            if high < low {
                let shown = &self.source[from..self.at];
                return Err(format!("invalid character class range: `{shown}`"));
            }
            self.push_range(low, high);
        }
    }

    fn push_range(&mut self, low: char, high: char) {
        // Codes: whatever the letters mean within brackets, they mean themselves.
        self.out.push_str(&format!(r"\x{{{:X}}}", u32::from(low)));
        if low != high {
            self.out.push_str(&format!(r"-\x{{{:X}}}", u32::from(high)));
        }
    }

    /// A part of a class that is no letter: `[:alpha:]`, `\d`, `\pL`.
    fn class_group(&mut self) -> Result<bool, String> {
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix("[:")
            && let Some((name, _)) = inner.split_once(":]")
        {
            let plain = name.strip_prefix('^').unwrap_or(name);
            let whole = &rest[..name.len() + 4];
            if !POSIX.contains(&plain) {
                return Err(format!("invalid character class range: `{whole}`"));
            }
            self.at += whole.len();
            self.out.push_str(whole);
            return Ok(true);
        }
        for (from, to) in [(r"\d", DIGIT), (r"\w", WORD), (r"\s", SPACE)] {
            if self.eat(from) {
                self.out.push_str(to);
                return Ok(true);
            }
        }
        for (from, of) in [(r"\D", DIGIT), (r"\W", WORD), (r"\S", SPACE)] {
            if self.eat(from) {
                self.out.push_str(&format!("[^{of}]"));
                return Ok(true);
            }
        }
        match self.property()? {
            Some(property) => {
                self.out.push_str(&property);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn class_letter(&mut self, start: usize) -> Result<char, String> {
        match self.peek() {
            None => Err(format!("missing closing ]: `{}`", &self.source[start..])),
            Some('\\') => self.literal(),
            Some(letter) => {
                self.at += letter.len_utf8();
                Ok(letter)
            }
        }
    }
}

const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// `41` or `{1F600}`, behind `\x`: the code, and how many bytes it takes.
fn hex_code(text: &str) -> Option<(u32, usize)> {
    let digits = match text.strip_prefix('{') {
        Some(rest) => rest.split_once('}')?.0,
        None => text.get(..2)?,
    };
    let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
    let braces = if text.starts_with('{') { 2 } else { 0 };
    (code <= u32::from(char::MAX)).then_some((code, digits.len() + braces))
}
