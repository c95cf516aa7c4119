//! The words and blocks of a Corefile (coredns, corefile(5)). Pure.

use super::BadCorefile;

/// Deeper blocks mean nothing anywhere.
const DEPTH_MAX: usize = 4;

/// Words, and what stands in braces after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) line: usize,
    /// At least one.
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Self>>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What stands after the name.
    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// What stands in its braces.
    pub(super) fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> BadCorefile {
        BadCorefile { line: self.line, reason: reason.into() }
    }
}

/// Reads a text.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, BadCorefile> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = words(line).map_err(|reason| BadCorefile { line: number + 1, reason })?;
        if !words.is_empty() {
            lines.push((number + 1, words));
        }
    }
    let mut lines = lines.into_iter();
    let (directives, end) = block(&mut lines, 0)?;
    match end {
        None => Ok(directives),
        Some(line) => Err(BadCorefile { line, reason: "} without {".to_owned() }),
    }
}

/// Everything up to the brace that ends the block, and the line of that brace.
fn block(
    lines: &mut impl Iterator<Item = (usize, Vec<String>)>,
    depth: usize,
) -> Result<(Vec<Directive>, Option<usize>), BadCorefile> {
    let mut directives = Vec::new();
    while let Some((line, mut words)) = lines.next() {
        let bad = |reason: &str| BadCorefile { line, reason: reason.to_owned() };
        if words == ["}"] {
            return Ok((directives, Some(line)));
        }
        let opens = words.last().is_some_and(|word| word == "{");
        if opens {
            words.pop();
        }
        if words.is_empty() || words.iter().any(|word| word == "{" || word == "}") {
            return Err(bad("a brace has to be at the end of a line, or alone to end a block"));
        }
        let mut inside = None;
        if opens {
            if depth == DEPTH_MAX {
                return Err(bad("blocks in blocks in blocks"));
            }
            let (block, end) = block(lines, depth + 1)?;
            end.ok_or_else(|| bad("{ without }"))?;
            inside = Some(block);
        }
        directives.push(Directive { line, words, block: inside });
    }
    Ok((directives, None))
}

/// The words of a line, without a comment. Quotes hold words with blanks together.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote without an end")?,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        fn show(directives: &[Directive]) -> String {
            let one = |it: &Directive| match &it.block {
                Some(block) => format!("{}:{}{{{}}}", it.line, it.words.join(","), show(block)),
                None => format!("{}:{}", it.line, it.words.join(",")),
            };
            directives.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        let shown = match parse(text) {
            Ok(directives) => show(&directives),
            Err(BadCorefile { line, reason }) => format!("{line}: {reason}"),
        };
        assert_eq!(shown, expected, "{text:?}");
    }

    #[test]
    fn lines_are_words_and_blocks() {
        check("", "");
        check("# nothing\n\nlog # all\n", "3:log");
        check("a:53 b {\n  forward . \"1.1.1.1\"\n}\n", "1:a:53,b{2:forward,.,1.1.1.1}");
        check("a {\n hosts {\n 1.2.3.4 x\n }\n}", "1:a{2:hosts{3:1.2.3.4,x}}");
        check("a {\n}", "1:a{}");
        check("a {\n", "1: { without }");
        check("a\n}\n", "2: } without {");
        check("{\n}\n", "1: a brace has to be at the end of a line, or alone to end a block");
        check("a { b }\n", "1: a brace has to be at the end of a line, or alone to end a block");
        check("a \"b\n", "1: a quote without an end");
    }
}
