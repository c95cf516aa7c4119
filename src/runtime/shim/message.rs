//! What shims and OCI runtimes say when something fails, made readable. Pure.

/// What each layer puts before the words of the one below it.
const PREFIXES: [&str; 7] = [
    "failed to create shim task: ",
    "failed to start shim task: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "OCI runtime exec failed: ",
    "runc create failed: ",
    "unable to start container process: ",
];

/// The words of the layer that knows: `exec: "x": executable file not found in $PATH`.
pub(super) fn clean(message: &str) -> String {
    let mut rest = message.trim();
    while let Some(inner) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = inner.trim_start();
    }
    // containerd appends the class of an error where it has none.
    rest.strip_suffix(": unknown").unwrap_or(rest).to_owned()
}

/// Some shims answer with their errors' texts and no code.
pub(super) fn is_not_found(message: &str) -> bool {
    message == "not found"
        || message.ends_with(": not found")
        || message.ends_with("process already finished")
        || message.ends_with("no such process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_wrapping() {
        for (message, expected) in [
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable \
                 to start container process: exec: \"x\": executable file not found in $PATH: \
                 unknown",
                "exec: \"x\": executable file not found in $PATH",
            ),
            ("OCI runtime exec failed: exec failed: no: unknown", "exec failed: no"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(clean(message), expected);
        }
    }

    #[test]
    fn what_is_gone_is_recognised() {
        for (message, expected) in [
            ("container not created: not found", true),
            ("process already finished: not found", true),
            ("os: process already finished", true),
            ("executable file not found in $PATH", false),
        ] {
            assert_eq!(is_not_found(message), expected, "{message}");
        }
    }
}
