//! JSON for people: the same text on more lines, made piece by piece.

/// Indents JSON as it comes, by two spaces, as `json.MarshalIndent` and serde do.
#[derive(Debug, Default)]
pub(super) struct Indenter {
    depth: usize,
    text: Text,
    /// Nothing has come since the last bracket was opened.
    is_open: bool,
}

/// Whether a piece began within a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// The next byte is escaped.
    Escaped,
}

impl Indenter {
    /// Appends what the next piece of a document becomes.
    pub(super) fn push(&mut self, mut json: &[u8], out: &mut Vec<u8>) {
        out.reserve(json.len() + json.len() / 2);
        loop {
            if self.text != Text::Outside {
                json = self.push_text(json, out);
            }
            let Some((byte, rest)) = json.split_first() else { return };
            json = rest;
            match byte {
                b'{' | b'[' => {
                    self.begin(out);
                    self.depth += 1;
                    self.is_open = true;
                    out.push(*byte);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.is_open) {
                        self.break_line(out);
                    }
                    out.push(*byte);
                }
                b',' => {
                    out.push(b',');
                    self.break_line(out);
                }
                b':' => out.extend_from_slice(b": "),
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => {
                    self.begin(out);
                    out.push(*byte);
                    if *byte == b'"' {
                        self.text = Text::Inside;
                    }
                }
            }
        }
    }

    /// Appends what is left of a text, with the quote at its end; returns what follows.
    fn push_text<'j>(&mut self, json: &'j [u8], out: &mut Vec<u8>) -> &'j [u8] {
        for (index, byte) in json.iter().enumerate() {
            self.text = match (self.text, byte) {
                (Text::Inside, b'"') => {
                    self.text = Text::Outside;
                    let (text, rest) = json.split_at(index + 1);
                    out.extend_from_slice(text);
                    return rest;
                }
                (Text::Inside, b'\\') => Text::Escaped,
                _ => Text::Inside,
            };
        }
        out.extend_from_slice(json);
        &[]
    }

    /// A value begins, or a name.
    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_open) {
            self.break_line(out);
        }
    }

    fn break_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }
}

/// The same JSON, indented, with a line's end after it.
pub(crate) fn pretty(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Indenter::default().push(json, &mut out);
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a"\\{\[:, \n]{0,6}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let members = prop::collection::btree_map("[a\"\\\\}]{0,3}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_indented_as_serde_does_wherever_it_is_cut(value in values(), piece in 1_usize..9) {
            let (mut indenter, mut out) = (Indenter::default(), Vec::new());
            for piece in value.to_string().as_bytes().chunks(piece) {
                indenter.push(piece, &mut out);
            }
            let expected = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_indented_already_is_indented_anew() {
        let text = pretty(b"{\n \"b\" : [ 1 ,2 ], \"a\": {}}");
        let expected = "{\n  \"b\": [\n    1,\n    2\n  ],\n  \"a\": {}\n}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
