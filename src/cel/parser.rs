//! Reads an expression by recursive descent.
//!
//! Start at [`parse`]. What is read, what is said where something cannot be read, and where that is,
//! are cel-go's (parser/parser.go, v0.26; its grammar goes through ANTLR, hence the words). Unlike
//! it, reading ends at the first token that fits nowhere: what upstream says after that is
//! about its own recovery.

use super::ast::{DEPTH_MAX, Entry, Expr, Kind, Literal, NODES_MAX, Tree};
use super::lexer::{Lexeme, Token, tokens};
use super::macros;
use super::source::{Offset, Report};
use super::unescape::unescape;

/// Longer expressions are refused (upstream `expressionSizeCodePointLimit`).
pub const EXPRESSION_CHARS_MAX: usize = 100_000;

const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                       NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Fields may have these names, variables and functions may not.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The tree of a text, or `None` where something is wrong, which is then in the report. `cel.bind` is
/// a macro where it `has_bind`.
pub(super) fn parse(text: &str, has_bind: bool, report: &mut Report<'_>) -> Option<Tree> {
    let size = text.chars().count();
    if size > EXPRESSION_CHARS_MAX {
        report.add_nowhere(format!(
            "expression code point size exceeds limit: size: {size}, limit {EXPRESSION_CHARS_MAX}"
        ));
        return None;
    }
    let tokens = tokens(text, report);
    let nodes = Nodes { has_bind, ..Nodes::default() };
    let mut parser = Parser { tokens: &tokens, next: 0, nesting: 0, nodes, report };
    let root = parser.whole();
    let nodes = parser.nodes;
    if let Some(limit) = nodes.exceeded {
        report.add_nowhere(limit);
    }
    match root {
        Ok(root) if report.is_empty() => Some(Tree { root, places: nodes.places }),
        _ => None,
    }
}

/// Makes nodes, and refuses what would be too many or too deep.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    places: Vec<Offset>,
    exceeded: Option<String>,
    pub(super) has_bind: bool,
}

impl Nodes {
    pub(super) fn make(&mut self, at: Offset, kind: Kind) -> Expr {
        let id = self.places.len();
        let mut expr = Expr { id, depth: 1, kind };
        if id >= NODES_MAX {
            self.exceed(format!("expression node count exceeds limit: {NODES_MAX}"));
            return Expr { id: 0, depth: 1, kind: Kind::Broken };
        }
        self.places.push(at);
        let below = expr.children().iter().map(|child| child.depth).max().unwrap_or(0);
        if below >= DEPTH_MAX {
            self.exceed(format!("expression recursion limit exceeded: {DEPTH_MAX}"));
            return Expr { id, depth: 1, kind: Kind::Broken };
        }
        expr.depth = below + 1;
        expr
    }

    fn exceed(&mut self, limit: String) {
        self.exceeded.get_or_insert(limit);
    }

    pub(super) fn is_full(&self) -> bool {
        self.exceeded.is_some()
    }

    pub(super) fn place(&self, expr: &Expr) -> Offset {
        self.places.get(expr.id).copied().unwrap_or_default()
    }
}

/// Reading cannot go on; why has been reported.
struct Stop;

struct Parser<'t, 's, 'r, 'l> {
    tokens: &'t [Lexeme<'s>],
    next: usize,
    /// How many expressions this one is within.
    nesting: u16,
    nodes: Nodes,
    report: &'r mut Report<'l>,
}

impl<'s> Parser<'_, 's, '_, '_> {
    fn whole(&mut self) -> Result<Expr, Stop> {
        let root = self.expr()?;
        self.expect(Token::End, "<EOF>")?;
        Ok(root)
    }

    fn peek(&self) -> Lexeme<'s> {
        self.ahead(0)
    }

    fn ahead(&self, count: usize) -> Lexeme<'s> {
        self.tokens[(self.next + count).min(self.tokens.len() - 1)]
    }

    fn advance(&mut self) -> Lexeme<'s> {
        let lexeme = self.peek();
        self.next += 1;
        lexeme
    }

    fn take(&mut self, token: Token) -> bool {
        let is_next = self.peek().token == token;
        if is_next {
            self.next += 1;
        }
        is_next
    }

    fn syntax(&mut self, at: Offset, message: &str) -> Stop {
        self.report.add(at, format!("Syntax error: {message}"));
        Stop
    }

    fn expect(&mut self, token: Token, name: &str) -> Result<Lexeme<'s>, Stop> {
        let here = self.peek();
        if here.token == token {
            return Ok(self.advance());
        }
        let text = here.text;
        let message = if self.ahead(1).token == token && here.token != Token::End {
            format!("extraneous input '{text}' expecting {name}")
        } else if matches!(token, Token::CloseParen | Token::CloseBracket) && ends(here.token) {
            format!("missing {name} at '{text}'")
        } else {
            format!("mismatched input '{text}' expecting {name}")
        };
        Err(self.syntax(here.at, &message))
    }

    fn expr(&mut self) -> Result<Expr, Stop> {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX {
            self.report.add_nowhere(format!("expression recursion limit exceeded: {DEPTH_MAX}"));
            return Err(Stop);
        }
        let condition = self.binary(0)?;
        let found = if self.peek().token == Token::Question {
            let at = self.advance().at;
            let yes = self.binary(0)?;
            self.expect(Token::Colon, "':'")?;
            let no = self.expr()?;
            self.call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(found)
    }

    /// Operands and operators that bind at least as tightly as `level` says.
    fn binary(&mut self, level: usize) -> Result<Expr, Stop> {
        let mut left = self.unary()?;
        while let Some((found, function)) = operator(self.peek().token)
            && found >= level
        {
            left = if found <= LOGICAL {
                self.terms(left, (found, function))?
            } else {
                let at = self.advance().at;
                let right = self.binary(found + 1)?;
                self.call(at, function, vec![left, right])
            };
        }
        Ok(left)
    }

    /// All that is joined by one logical operator.
    fn terms(&mut self, first: Expr, operation: (usize, &str)) -> Result<Expr, Stop> {
        let mut terms = vec![first];
        let mut places = Vec::new();
        while operator(self.peek().token).is_some_and(|(found, _)| found == operation.0) {
            places.push(self.advance().at);
            terms.push(self.binary(operation.0 + 1)?);
        }
        Ok(self.balanced(operation.1, terms, &places))
    }

    /// Many terms make a tree that is as shallow as can be (cel-go `balancedTree`).
    fn balanced(&mut self, function: &str, mut terms: Vec<Expr>, places: &[Offset]) -> Expr {
        if places.is_empty() {
            return terms.remove(0);
        }
        let middle = places.len() / 2;
        let right = terms.split_off(middle + 1);
        let left = self.balanced(function, terms, &places[..middle]);
        let right = self.balanced(function, right, &places[middle + 1..]);
        self.call(places[middle], function, vec![left, right])
    }

    fn unary(&mut self) -> Result<Expr, Stop> {
        let first = self.peek();
        let function = match first.token {
            Token::Not => "!_",
            Token::Minus if !matches!(self.ahead(1).token, Token::Int | Token::Float) => "-_",
            _ => return self.member(),
        };
        let mut count = 0;
        while self.take(first.token) {
            count += 1;
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            return Ok(operand);
        }
        Ok(self.call(first.at, function, vec![operand]))
    }

    fn member(&mut self) -> Result<Expr, Stop> {
        let mut operand = self.primary()?;
        loop {
            let sign = self.peek();
            operand = match sign.token {
                Token::Dot => self.selection(operand)?,
                Token::OpenBracket => {
                    self.advance();
                    let is_optional = self.take(Token::Question);
                    let index = self.expr()?;
                    self.expect(Token::CloseBracket, "']'")?;
                    let function = if is_optional { "_[?_]" } else { "_[_]" };
                    self.call(sign.at, function, vec![operand, index])
                }
                _ => return Ok(operand),
            };
        }
    }

    fn selection(&mut self, operand: Expr) -> Result<Expr, Stop> {
        let dot = self.advance();
        let is_optional = self.take(Token::Question);
        let name = self.peek();
        let field = match name.token {
            Token::Identifier => name.text,
            Token::QuotedIdentifier => {
                self.report.add(name.at, "unsupported syntax: '`'");
                name.text.trim_matches('`')
            }
            _ => return Err(self.no_field(name)),
        };
        self.advance();
        if is_optional {
            let field = Kind::Literal(Literal::Text(field.into()));
            let field = self.nodes.make(name.at, field);
            return Ok(self.call(dot.at, "_?._", vec![operand, field]));
        }
        if self.peek().token == Token::OpenParen && name.token == Token::Identifier {
            let at = self.advance().at;
            let args = self.arguments()?;
            return Ok(self.member_call(at, field, operand, args));
        }
        let kind =
            Kind::Select { operand: Box::new(operand), field: field.to_owned(), is_test: false };
        Ok(self.nodes.make(dot.at, kind))
    }

    fn no_field(&mut self, found: Lexeme<'_>) -> Stop {
        let message = match found.token {
            Token::True | Token::False | Token::Null => {
                format!("mismatched input '{}' expecting IDENTIFIER", found.text)
            }
            Token::End => "no viable alternative at input '.'".to_owned(),
            _ => format!("no viable alternative at input '.{}'", found.text),
        };
        self.syntax(found.at, &message)
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Stop> {
        let mut args = Vec::new();
        if self.take(Token::CloseParen) {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if !self.take(Token::Comma) {
                self.expect(Token::CloseParen, "')'")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Stop> {
        let first = self.peek();
        match first.token {
            Token::Identifier | Token::Dot => self.named(),
            Token::OpenParen => {
                self.advance();
                let inner = self.expr()?;
                self.expect(Token::CloseParen, "')'")?;
                Ok(inner)
            }
            Token::OpenBracket => self.list(),
            Token::OpenBrace => self.map(),
            Token::True | Token::False => {
                self.advance();
                let value = first.token == Token::True;
                Ok(self.nodes.make(first.at, Kind::Literal(Literal::Bool(value))))
            }
            Token::Null => {
                self.advance();
                Ok(self.nodes.make(first.at, Kind::Literal(Literal::Null)))
            }
            Token::Text | Token::Bytes => Ok(self.text()),
            Token::Int | Token::Uint | Token::Float => Ok(self.number("")),
            Token::Minus if matches!(self.ahead(1).token, Token::Int | Token::Float) => {
                self.advance();
                Ok(self.number("-"))
            }
            _ => Err(self.no_operand()),
        }
    }

    fn no_operand(&mut self) -> Stop {
        let here = self.peek();
        let is_extra = here.token != Token::End && begins(self.ahead(1).token);
        let how = if is_extra { "extraneous" } else { "mismatched" };
        self.syntax(here.at, &format!("{how} input '{}' expecting {OPERAND}", here.text))
    }

    fn named(&mut self) -> Result<Expr, Stop> {
        let first = self.peek();
        let dot = if self.take(Token::Dot) { "." } else { "" };
        let name = self.peek();
        if name.token != Token::Identifier {
            let text = if name.token == Token::End { "" } else { name.text };
            let message = format!("no viable alternative at input '.{text}'");
            return Err(self.syntax(name.at, &message));
        }
        if let Some(length) = self.struct_name() {
            return self.structure(dot, length);
        }
        self.advance();
        if RESERVED.contains(&name.text) {
            self.report.add(first.at, format!("reserved identifier: {}", name.text));
            if self.take(Token::OpenParen) {
                self.arguments()?;
            }
            return Ok(self.nodes.make(first.at, Kind::Broken));
        }
        let text = format!("{dot}{}", name.text);
        if self.peek().token == Token::OpenParen {
            let at = self.advance().at;
            let args = self.arguments()?;
            return Ok(self.call(at, &text, args));
        }
        Ok(self.nodes.make(name.at, Kind::Ident(text)))
    }

    /// How many tokens `a.b.C` before a `{` has, if that is what comes.
    fn struct_name(&self) -> Option<usize> {
        let mut length = 1;
        while self.ahead(length).token == Token::Dot
            && self.ahead(length + 1).token == Token::Identifier
        {
            length += 2;
        }
        (self.ahead(length).token == Token::OpenBrace).then_some(length)
    }

    fn structure(&mut self, dot: &str, length: usize) -> Result<Expr, Stop> {
        let mut name = dot.to_owned();
        for _ in 0..length {
            name.push_str(self.advance().text);
        }
        let at = self.advance().at;
        let mut values = Vec::new();
        while !self.take(Token::CloseBrace) {
            self.take(Token::Question);
            self.expect(Token::Identifier, "{IDENTIFIER, ESC_IDENTIFIER}")?;
            self.expect(Token::Colon, "':'")?;
            values.push(self.expr()?);
            if !self.take(Token::Comma) {
                self.expect(Token::CloseBrace, "'}'")?;
                break;
            }
        }
        Ok(self.nodes.make(at, Kind::Struct { name, values }))
    }

    fn list(&mut self) -> Result<Expr, Stop> {
        let at = self.advance().at;
        let mut elements = Vec::new();
        let mut optional = Vec::new();
        while !self.take(Token::CloseBracket) {
            if self.take(Token::Question) {
                optional.push(elements.len());
            }
            elements.push(self.expr()?);
            if !self.take(Token::Comma) {
                self.expect(Token::CloseBracket, "']'")?;
                break;
            }
        }
        Ok(self.nodes.make(at, Kind::List { elements, optional }))
    }

    fn map(&mut self) -> Result<Expr, Stop> {
        let at = self.advance().at;
        let mut entries = Vec::new();
        while !self.take(Token::CloseBrace) {
            let is_optional = self.take(Token::Question);
            let key = self.expr()?;
            self.expect(Token::Colon, "':'")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, is_optional });
            if !self.take(Token::Comma) {
                self.expect(Token::CloseBrace, "'}'")?;
                break;
            }
        }
        Ok(self.nodes.make(at, Kind::Map(entries)))
    }

    fn text(&mut self) -> Expr {
        let lexeme = self.advance();
        let is_bytes = lexeme.token == Token::Bytes;
        let kind = match unescape(lexeme.text, is_bytes) {
            Ok(bytes) if is_bytes => Kind::Literal(Literal::Bytes(bytes.into())),
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Kind::Literal(Literal::Text(text.into()))
            }
            Err(problem) => {
                self.report.add(lexeme.at, problem);
                Kind::Broken
            }
        };
        self.nodes.make(lexeme.at, kind)
    }

    /// A number whose sign has been read.
    fn number(&mut self, sign: &str) -> Expr {
        let lexeme = self.advance();
        let at = lexeme.at - Offset::try_from(sign.len()).unwrap_or_default();
        let (digits, radix) = match lexeme.text.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (lexeme.text, 10),
        };
        let (literal, name) = match lexeme.token {
            Token::Float => {
                let value = format!("{sign}{digits}").parse().ok();
                (value.filter(|v: &f64| v.is_finite()).map(Literal::Double), "double")
            }
            Token::Uint => {
                let digits = digits.trim_end_matches(['u', 'U']);
                (u64::from_str_radix(digits, radix).ok().map(Literal::Uint), "uint")
            }
            _ => {
                let value = i64::from_str_radix(&format!("{sign}{digits}"), radix);
                (value.ok().map(Literal::Int), "int")
            }
        };
        let kind = literal.map_or(Kind::Broken, Kind::Literal);
        if matches!(kind, Kind::Broken) {
            self.report.add(at, format!("invalid {name} literal"));
        }
        self.nodes.make(at, kind)
    }

    fn call(&mut self, at: Offset, function: &str, args: Vec<Expr>) -> Expr {
        let args = match macros::expand_global(&mut self.nodes, at, function, args) {
            macros::Expanded::Not(args) => args,
            macros::Expanded::To(expr) => return expr,
            macros::Expanded::Wrong(place, message) => return self.broken(place, &message),
        };
        let kind = Kind::Call { function: function.to_owned(), target: None, args };
        self.nodes.make(at, kind)
    }

    fn member_call(&mut self, at: Offset, name: &str, target: Expr, args: Vec<Expr>) -> Expr {
        let call = macros::Call { at, target, args };
        let call = match macros::expand_member(&mut self.nodes, name, call) {
            macros::Expanded::Not(call) => call,
            macros::Expanded::To(expr) => return expr,
            macros::Expanded::Wrong(place, message) => return self.broken(place, &message),
        };
        let target = Some(Box::new(call.target));
        self.nodes.make(at, Kind::Call { function: name.to_owned(), target, args: call.args })
    }

    fn broken(&mut self, at: Offset, message: &str) -> Expr {
        if !self.nodes.is_full() {
            self.report.add(at, message);
        }
        self.nodes.make(at, Kind::Broken)
    }
}

/// `||` and `&&` are the operators that bind least.
const LOGICAL: usize = 1;

/// How tightly an operator binds, and its function.
fn operator(token: Token) -> Option<(usize, &'static str)> {
    Some(match token {
        Token::Or => (0, "_||_"),
        Token::And => (1, "_&&_"),
        Token::Less => (2, "_<_"),
        Token::LessEquals => (2, "_<=_"),
        Token::Greater => (2, "_>_"),
        Token::GreaterEquals => (2, "_>=_"),
        Token::Equals => (2, "_==_"),
        Token::NotEquals => (2, "_!=_"),
        Token::In => (2, "@in"),
        Token::Plus => (3, "_+_"),
        Token::Minus => (3, "_-_"),
        Token::Star => (4, "_*_"),
        Token::Slash => (4, "_/_"),
        Token::Percent => (4, "_%_"),
        _ => return None,
    })
}

/// Whether an operand can begin so.
fn begins(token: Token) -> bool {
    use Token::{Bytes, Dot, False, Float, Identifier, Int, Minus, Not, Null, Text, True, Uint};
    use Token::{OpenBrace, OpenBracket, OpenParen};
    matches!(
        token,
        Bytes | Dot | False | Float | Identifier | Int | Minus | Not | Null | Text | True | Uint
    ) || matches!(token, OpenBrace | OpenBracket | OpenParen)
}

/// Whether an operand may be followed by this.
fn ends(token: Token) -> bool {
    use Token::{CloseBrace, CloseBracket, CloseParen, Colon, Comma, Dot, End};
    use Token::{OpenBracket, Question};
    matches!(token, CloseBrace | CloseBracket | CloseParen | Colon | Comma | Dot | End)
        || matches!(token, OpenBracket | Question)
        || operator(token).is_some()
}
