//! How an error is printed, everywhere.

/// The error and everything beneath it, for one log line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let mut text = error.to_string();
    for cause in causes {
        let cause = cause.to_string();
        // Some libraries repeat their source in their own message; saying it twice helps nobody.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Layer {
        message: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(messages: &[&'static str]) -> Option<Box<Layer>> {
        let (message, rest) = messages.split_first()?;
        Some(Box::new(Layer { message, source: layers(rest) }))
    }

    #[test]
    fn prints_every_cause_once() {
        for (messages, expected) in [
            (&["pull failed"][..], "pull failed"),
            (&["pull failed", "no route"], "pull failed: no route"),
            (&["pull failed: no route", "no route"], "pull failed: no route"),
        ] {
            assert_eq!(chain(&*layers(messages).unwrap()), expected);
        }
    }
}
