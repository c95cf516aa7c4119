//! The parameters of a request.

use percent_encoding::percent_decode_str;

/// Names with their values, in their order; a name may be there several times.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, wanted: &str) -> impl Iterator<Item = &str> {
        let wanted = wanted.to_owned();
        self.0.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }

    /// Whether it says yes, as Go reads booleans.
    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_may_repeat() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%26b&tty=1&input=false&x");
        let command: Vec<_> = query.all("command").collect();
        assert_eq!(command, ["sh", "-c", "echo a&b"]);
        assert_eq!((query.get("x"), query.get("y")), (Some(""), None));
        assert!(query.is_set("tty") && !query.is_set("input") && !query.is_set("y"));
    }
}
