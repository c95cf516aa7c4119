//! Reads expressions (upstream `Parser`, client-go util/jsonpath/parser.go).

use super::{BadPath, Comparison, Filter, JsonPath, NESTED_MAX, Slice, Step};
use serde_json::{Number, Value};

pub(super) fn parse(text: &str, depth: usize) -> Result<JsonPath, BadPath> {
    if depth > NESTED_MAX {
        return Err(BadPath::TooDeep);
    }
    let mut reader = Reader { text, at: 0, depth };
    let mut steps = Vec::new();
    while reader.at < text.len() {
        reader.step(&mut steps)?;
    }
    Ok(JsonPath { steps: steps.into() })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

fn syntax<T>(problem: impl Into<String>) -> Result<T, BadPath> {
    Err(BadPath::Syntax(problem.into()))
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn step(&mut self, steps: &mut Vec<Step>) -> Result<(), BadPath> {
        let rest = self.rest();
        if rest.starts_with("[?(") {
            steps.push(self.filter()?);
            return Ok(());
        }
        if rest.starts_with("..") {
            self.at += 2;
            steps.push(Step::Recursive);
            // A name may follow without a dot of its own.
            let names = |c: char| !is_terminator(c) && !matches!(c, '(' | '"' | '\'');
            if self.rest().starts_with(names) {
                steps.push(self.field());
            }
            return Ok(());
        }
        match rest.chars().next() {
            None | Some('\n' | '\r') => return syntax("unclosed action"),
            Some(' ' | '@' | '$') => self.at += 1,
            Some('[') => self.array(steps)?,
            Some(quote @ ('"' | '\'')) => steps.push(self.quoted(quote)?),
            Some('.') => {
                self.at += 1;
                steps.push(self.field());
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-') => steps.push(self.number()?),
            Some(c) if c.is_alphanumeric() || c == '_' => steps.push(self.word()?),
            Some(c) => {
                let code = u32::from(c);
                return syntax(format!("unrecognized character in action: U+{code:04X} '{c}'"));
            }
        }
        Ok(())
    }

    /// A name up to what ends it, with escapes.
    fn field(&mut self) -> Step {
        let start = self.at;
        let mut letters = self.rest().char_indices();
        let end = loop {
            match letters.next() {
                None => break self.text.len(),
                Some((_, '\\')) => {
                    letters.next();
                }
                Some((at, letter)) if is_terminator(letter) => break start + at,
                Some(_) => {}
            }
        };
        self.at = end;
        match &self.text[start..end] {
            "*" => Step::Wildcard,
            name => Step::Field(name.replace('\\', "").into()),
        }
    }

    fn array(&mut self, steps: &mut Vec<Step>) -> Result<(), BadPath> {
        let inner = &self.rest()[1..];
        let Some((inner, _)) = inner.split_once(']') else { return syntax("unterminated array") };
        if inner.contains('\n') {
            return syntax("unterminated array");
        }
        self.at += inner.len() + 2;
        let inner = if inner == "*" { ":" } else { inner };
        if inner.contains(',') {
            let parts = inner.split(',').map(|part| format!("[{}]", part.trim_matches(' ')));
            let parts: Result<_, _> = parts.map(|part| parse(&part, self.depth + 1)).collect();
            steps.push(Step::Union(parts?));
            return Ok(());
        }
        let key = inner.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if let Some(key) = key.filter(|key| !key.contains('\'')) {
            steps.extend(parse(&format!(".{key}"), self.depth + 1)?.steps);
            return Ok(());
        }
        match slice(inner) {
            Some(slice) => steps.push(Step::Slice(slice)),
            None => return syntax(format!("invalid array index {inner}")),
        }
        Ok(())
    }

    fn filter(&mut self) -> Result<Step, BadPath> {
        let inner = &self.rest()["[?(".len()..];
        let Some(end) = filter_end(inner) else { return syntax("unterminated filter") };
        if !inner[end + 1..].starts_with(']') {
            return syntax("unclosed array expect ]");
        }
        self.at += "[?(".len() + end + 2;
        let text = &inner[..end];
        let is_of_operator = |c: char| "!<>=".contains(c);
        let split = text.find(is_of_operator).filter(|at| *at > 0).and_then(|at| {
            let length = text[at..].find(|c| !is_of_operator(c))?;
            Some((&text[..at], &text[at..at + length], &text[at + length..]))
        });
        let (left, comparison) = match split {
            None => (text, None),
            Some((left, operator, right)) => {
                (left, Some((comparison(operator)?, parse(right, self.depth + 1)?)))
            }
        };
        let left = parse(left, self.depth + 1)?;
        Ok(Step::Filter(Box::new(Filter { left, comparison })))
    }

    fn quoted(&mut self, quote: char) -> Result<Step, BadPath> {
        let inner = &self.rest()[1..];
        let mut is_escaped = false;
        let end = inner.find(|letter| {
            let ends = letter == quote && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            ends
        });
        let Some(end) = end else { return syntax("unterminated quoted string") };
        self.at += end + 2;
        let plain = inner[..end].replace("\\\"", "\"").replace("\\'", "'").replace(r"\\", r"\");
        Ok(Step::Literal(plain.into()))
    }

    fn number(&mut self) -> Result<Step, BadPath> {
        let rest = self.rest();
        let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
        let text = &rest[..rest.find(|c| !is_of_number(c)).unwrap_or(rest.len())];
        self.at += text.len();
        let plain = text.strip_prefix('+').unwrap_or(text);
        let number = match plain.parse::<i64>() {
            Ok(whole) => Some(Number::from(whole)),
            Err(_) => plain.parse().ok().and_then(Number::from_f64),
        };
        match number {
            Some(number) => Ok(Step::Literal(Value::Number(number))),
            None => syntax(format!("cannot parse number {text}")),
        }
    }

    /// `true` and `false`; others mean something in templates alone.
    fn word(&mut self) -> Result<Step, BadPath> {
        let rest = self.rest();
        let end = rest.find(is_terminator).unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        match word {
            "true" => Ok(Step::Literal(true.into())),
            "false" => Ok(Step::Literal(false.into())),
            other => syntax(format!("unrecognized identifier {other}")),
        }
    }
}

fn is_terminator(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

/// Where the `)` of a filter is: not within quotes.
fn filter_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            ('\n', _) => return None,
            ('"' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if letter == open && before != '\\' => quote = None,
            (')', None) => return Some(at),
            _ => {}
        }
        before = letter;
    }
    None
}

fn comparison(operator: &str) -> Result<Comparison, BadPath> {
    Ok(match operator {
        "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        other => return syntax(format!("unrecognized filter operator {other}")),
    })
}

/// `2`, `-1`, `0:2`, `::2`.
fn slice(text: &str) -> Option<Slice> {
    let mut parts = text.split(':').map(|part| match part {
        "" => Some(None),
        digits => digits.parse().ok().map(Some),
    });
    let start = parts.next()??;
    let is_index = !text.contains(':');
    if is_index && start.is_none() {
        return None;
    }
    let end = parts.next().unwrap_or(Some(None))?;
    let step = parts.next().unwrap_or(Some(None))?;
    parts.next().is_none().then_some(Slice { start, end, step, is_index })
}
