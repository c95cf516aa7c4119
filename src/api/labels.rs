//! Label selectors: the text of a query string, the object in a spec, and whether labels match.
//!
//! Start at [`Selector`]. Grammar and error texts follow upstream's lexer and parser
//! (apimachinery pkg/labels/selector.go, v1.35), because clients show them to their users.

use super::field::{FieldError, FieldPath};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::names::{label_value as value_problems, qualified_name as key_problems};

/// Which labels are wanted: all requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by key.
    requirements: Vec<Requirement>,
    /// A selector object that is absent selects nothing; that cannot be said by requirements.
    nothing: bool,
}

/// What must hold for one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// A selector that cannot be understood. The message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSelector(String);

impl Selector {
    /// Selects everything.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Whether every object matches, labelled or not.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Selects what has these labels with these values.
    #[must_use]
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: BTreeSet::from([value.clone()]),
        };
        Self { requirements: labels.iter().map(requirement).collect(), nothing: false }
    }

    /// The meaning of a selector object: absent selects nothing, empty selects everything
    /// (upstream `LabelSelectorAsSelector`).
    ///
    /// # Errors
    /// Where a key, an operator or a value is not valid.
    pub fn of_object(selector: Option<&LabelSelector>) -> Result<Self, BadSelector> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, [value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let message = format!("{other:?} is not a valid label selector operator");
                    return Err(BadSelector(message));
                }
            };
            let values = expression.values.iter().flatten().cloned();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self::of_requirements(requirements))
    }

    fn of_requirements(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// Selects what both select.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.nothing |= other.nothing;
        self.requirements.extend(other.requirements.iter().cloned());
        Self { nothing: self.nothing, ..Self::of_requirements(self.requirements) }
    }

    /// Whether these labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// As [`Selector::matches`], for labels that are kept in some other way.
    pub fn matches_by<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        let holds = |requirement: &Requirement| requirement.holds(lookup(&requirement.key));
        !self.nothing && self.requirements.iter().all(holds)
    }
}

impl Requirement {
    /// Upstream `NewRequirement`.
    fn new(
        key: &str,
        operator: Operator,
        values: impl IntoIterator<Item = String>,
    ) -> Result<Self, BadSelector> {
        let values: BTreeSet<_> = values.into_iter().collect();
        let mut errors = Vec::new();
        let problems = key_problems(key);
        if !problems.is_empty() {
            errors.push(FieldError::invalid(&FieldPath::new("key"), key, problems.join("; ")));
        }
        let path = FieldPath::new("values");
        if let Some(problem) = operator.count_problem(values.len()) {
            let listed: Vec<_> = values.iter().cloned().collect();
            errors.push(FieldError::invalid(&path, listed, problem));
        }
        for (index, value) in values.iter().enumerate() {
            if operator.compares() && value.parse::<i64>().is_err() {
                let problem = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(&path.index(index), value.as_str(), problem));
            }
            let problems = value_problems(value);
            if !problems.is_empty() {
                let path = path.index(index).key(key);
                errors.push(FieldError::invalid(&path, value.as_str(), problems.join("; ")));
            }
        }
        match &errors[..] {
            [] => Ok(Self { key: key.to_owned(), operator, values }),
            [one] => Err(BadSelector(one.to_string())),
            many => {
                let texts: Vec<_> = many.iter().map(ToString::to_string).collect();
                Err(BadSelector(format!("[{}]", texts.join(", "))))
            }
        }
    }

    fn holds(&self, label: Option<&str>) -> bool {
        use Operator::{DoubleEquals, Equals, Exists, In, NotEquals, NotIn};
        match (self.operator, label) {
            (Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (NotIn | NotEquals, None) => true,
            (_, None) => false,
            (In | Equals | DoubleEquals, Some(value)) => self.values.contains(value),
            (NotIn | NotEquals, Some(value)) => !self.values.contains(value),
            (Operator::GreaterThan, Some(value)) => self.bound(value).is_some_and(|(l, r)| l > r),
            (Operator::LessThan, Some(value)) => self.bound(value).is_some_and(|(l, r)| l < r),
        }
    }

    fn bound(&self, label: &str) -> Option<(i64, i64)> {
        let wanted = self.values.first()?;
        Some((label.parse().ok()?, wanted.parse().ok()?))
    }
}

impl Operator {
    fn compares(self) -> bool {
        matches!(self, Self::GreaterThan | Self::LessThan)
    }

    fn count_problem(self, values: usize) -> Option<&'static str> {
        match self {
            Self::In | Self::NotIn if values == 0 => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Self::Equals | Self::DoubleEquals | Self::NotEquals if values != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Self::Exists | Self::DoesNotExist if values != 0 => {
                Some("values set must be empty for exists and does not exist")
            }
            Self::GreaterThan | Self::LessThan if values != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::Equals => write!(formatter, "{key}={values}"),
            Operator::DoubleEquals => write!(formatter, "{key}=={values}"),
            Operator::NotEquals => write!(formatter, "{key}!={values}"),
            Operator::In => write!(formatter, "{key} in ({values})"),
            Operator::NotIn => write!(formatter, "{key} notin ({values})"),
            Operator::Exists => formatter.write_str(key),
            Operator::DoesNotExist => write!(formatter, "!{key}"),
            Operator::GreaterThan => write!(formatter, "{key}>{values}"),
            Operator::LessThan => write!(formatter, "{key}<{values}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        Parser { tokens: lex(text), position: 0 }.selector()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A key, a value, or one of the words `in` and `notin`.
    Word(String),
    Symbol(&'static str),
    Bad(String),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Bad(text) => text,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

const SYMBOLS: &[&str] = &["==", "!=", "=", "!", "(", ")", ",", "<", ">"];

fn lex(text: &str) -> Vec<Token> {
    let is_special = |c: char| "=!(),<>".contains(c);
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let taken = if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            symbol.len()
        } else {
            let end = rest.find(|c| is_special(c) || is_blank(c)).unwrap_or(rest.len());
            let word = &rest[..end];
            let is_plain = !word.contains('\0');
            let bad = || Token::Bad(format!("error expected: keyword found '{word}'"));
            tokens.push(if is_plain { Token::Word(word.to_owned()) } else { bad() });
            end
        };
        rest = rest[taken..].trim_start_matches(is_blank);
    }
    tokens.push(Token::End);
    tokens
}

struct Parser {
    /// Ends with [`Token::End`].
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.position).unwrap_or(&Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn selector(mut self) -> Result<Selector, BadSelector> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::End => break,
                Token::Word(_) | Token::Symbol("!") => {}
                other => return Err(found(other, "!, identifier, or 'end of string'")),
            }
            let requirement = self.requirement().map_err(|BadSelector(message)| {
                BadSelector(format!("unable to parse requirement: {message}"))
            })?;
            requirements.push(requirement);
            match self.take() {
                Token::End => break,
                Token::Symbol(",") => {}
                other => return Err(found(&other, "',' or 'end of string'")),
            }
            if !matches!(self.peek(), Token::Word(_) | Token::Symbol("!")) {
                return Err(found(self.peek(), "identifier after ','"));
            }
        }
        Ok(Selector::of_requirements(requirements))
    }

    fn requirement(&mut self) -> Result<Requirement, BadSelector> {
        let negated = *self.peek() == Token::Symbol("!");
        if negated {
            self.position += 1;
        }
        let key = match self.take() {
            Token::Word(key) => key,
            other => return Err(found(&other, "identifier")),
        };
        let problems = key_problems(&key);
        if !problems.is_empty() {
            let path = FieldPath::new("<nil>");
            let error = FieldError::invalid(&path, key.as_str(), problems.join("; "));
            return Err(BadSelector(error.to_string()));
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(&key, operator, []);
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, []);
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, BadSelector> {
        let token = self.take();
        match (&token, token.text()) {
            (Token::Symbol(_), "=") => Ok(Operator::Equals),
            (Token::Symbol(_), "==") => Ok(Operator::DoubleEquals),
            (Token::Symbol(_), "!=") => Ok(Operator::NotEquals),
            (Token::Symbol(_), ">") => Ok(Operator::GreaterThan),
            (Token::Symbol(_), "<") => Ok(Operator::LessThan),
            (Token::Word(_), "in") => Ok(Operator::In),
            (Token::Word(_), "notin") => Ok(Operator::NotIn),
            _ => Err(found(&token, "in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn exact_value(&mut self) -> Result<String, BadSelector> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(_) => Ok(self.take().text().to_owned()),
            other => Err(found(other, "identifier")),
        }
    }

    /// `(a,b)`; an element between two commas may be empty.
    fn values(&mut self) -> Result<BTreeSet<String>, BadSelector> {
        let opening = self.take();
        if opening != Token::Symbol("(") {
            return Err(BadSelector(format!("found '{}' expected: '('", opening.text())));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.peek() {
                Token::Word(_) => {
                    values.insert(self.take().text().to_owned());
                }
                Token::Symbol("," | ")") => {
                    values.insert(String::new());
                }
                other if values.is_empty() => {
                    return Err(found(other, "',', ')' or identifier"));
                }
                other => return Err(found(other, "',', or identifier")),
            }
            match self.take() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => {}
                other => return Err(found(&other, "',' or ')'")),
            }
        }
    }
}

fn found(token: &Token, expected: &str) -> BadSelector {
    BadSelector(format!("found '{}', expected: {expected}", token.text()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use proptest::prelude::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn check(selector: &str, matching: &[&str], others: &[&str]) {
        let parsed: Selector = selector.parse().unwrap();
        for text in matching {
            assert!(parsed.matches(&labels(text)), "{selector:?} selects {text:?}");
        }
        for text in others {
            assert!(!parsed.matches(&labels(text)), "{selector:?} does not select {text:?}");
        }
        assert_eq!(parsed.to_string().parse::<Selector>().unwrap(), parsed, "{selector:?}");
    }

    #[test]
    fn selects_what_upstream_selects() {
        check("", &["", "a=b"], &[]);
        check("a=b", &["a=b", "a=b,c=d"], &["", "a=c", "b=a"]);
        check("a==b,c=d", &["a=b,c=d"], &["a=b", "c=d"]);
        check("a!=b", &["", "a=c"], &["a=b"]);
        check("a", &["a=", "a=x"], &["", "b=x"]);
        check("!a", &["", "b=x"], &["a=x"]);
        check("a in (b, c)", &["a=b", "a=c"], &["", "a=d"]);
        check("a in (,b)", &["a=", "a=b"], &["", "a=d"]);
        check("a in ()", &["a="], &["a=b"]);
        check("a notin (b,c),d", &["d=1", "a=x,d=1"], &["a=b,d=1", ""]);
        check("a>3,a<7", &["a=5"], &["a=3", "a=7", "a=x", ""]);
        check("in in (in,notin)", &["in=in", "in=notin"], &["in=x"]);
        check("a=", &["a="], &["", "a=b"]);
        check("example.com/role=web", &["example.com/role=web"], &["role=web"]);
    }

    #[test]
    fn refuses_with_upstreams_words() {
        for (selector, expected) in [
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        ] {
            let BadSelector(message) = selector.parse::<Selector>().unwrap_err();
            assert_eq!(message, expected, "{selector:?}");
        }
        let BadSelector(message) = "-a=b".parse::<Selector>().unwrap_err();
        assert!(message.contains("Invalid value: \"-a\": name part must consist"), "{message}");
        let BadSelector(message) = "a>b".parse::<Selector>().unwrap_err();
        assert!(message.contains("the value must be an integer"), "{message}");
    }

    #[test]
    fn objects_mean_what_upstream_says() {
        assert!(!Selector::of_object(None).unwrap().matches(&labels("")));
        let empty = LabelSelector::default();
        assert!(Selector::of_object(Some(&empty)).unwrap().is_everything());
        let expression = |operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: "a".to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        };
        for (operator, values, text, expected) in [
            ("In", &["b"][..], "a=b", true),
            ("NotIn", &["b"], "a=b", false),
            ("NotIn", &["b"], "", true),
            ("Exists", &[], "a=b", true),
            ("DoesNotExist", &[], "a=b", false),
        ] {
            let selector = LabelSelector {
                match_expressions: Some(vec![expression(operator, values)]),
                match_labels: None,
            };
            let selector = Selector::of_object(Some(&selector)).unwrap();
            assert_eq!(selector.matches(&labels(text)), expected, "{operator} {values:?} {text:?}");
        }
        let bad = LabelSelector {
            match_expressions: Some(vec![expression("Gt", &["1"])]),
            match_labels: None,
        };
        assert_eq!(
            Selector::of_object(Some(&bad)).unwrap_err().to_string(),
            "\"Gt\" is not a valid label selector operator"
        );
    }

    #[test]
    fn keys_and_values_are_checked() {
        let long = "x".repeat(64);
        for (key, valid) in [
            ("a", true),
            ("a.b-c_d", true),
            ("example.com/a", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("a/b/c", false),
            ("Example.com/a", false),
            (long.as_str(), false),
        ] {
            assert_eq!(key_problems(key).is_empty(), valid, "{key:?}");
        }
        for (value, valid) in [("", true), ("a", true), ("-a", false), (long.as_str(), false)] {
            assert_eq!(value_problems(value).is_empty(), valid, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_understood_is_printed_and_understood_again(
            text in "[ab]{0,2}( ?(=|==|!=|!|<|>| in | notin |,|\\(|\\))[ ab1,()]{0,4}){0,4}",
        ) {
            if let Ok(selector) = text.parse::<Selector>() {
                let again = selector.to_string().parse::<Selector>();
                prop_assert_eq!(again, Ok(selector), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let parsed = text.parse::<Selector>();
            prop_assert!(parsed.is_ok() || parsed.is_err());
        }

        #[test]
        fn requirements_hold_as_they_say(
            key in "[ab]",
            values in prop::collection::btree_set("[xyz]", 1..3),
            labels in prop::collection::btree_map("[ab]", "[xyz]", 0..3),
        ) {
            let list = values.iter().cloned().collect::<Vec<_>>().join(",");
            let matches = |text: String| text.parse::<Selector>().unwrap().matches(&labels);
            let is_one = labels.get(&key).is_some_and(|value| values.contains(value));
            prop_assert_eq!(matches(format!("{key} in ({list})")), is_one);
            prop_assert_eq!(matches(format!("{key} notin ({list})")), !is_one);
            prop_assert_eq!(matches(key.clone()), labels.contains_key(&key));
            prop_assert_eq!(matches(format!("!{key}")), !labels.contains_key(&key));
        }
    }
}
