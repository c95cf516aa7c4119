//! Values in the words that upstream's messages have them in.

use std::time::Duration;

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `1.234s`, `850ms`.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1_000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let total = millis / 1_000;
    let (hours, minutes, seconds) = (total / 3_600, total / 60 % 60, total % 60);
    let fraction = match millis % 1_000 {
        0 => String::new(),
        fraction => format!(".{fraction:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        (_, _) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstreams() {
        for (millis, expected) in [
            (0, "0s"),
            (850, "850ms"),
            (1_234, "1.234s"),
            (1_200, "1.2s"),
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_661_500, "1h1m1.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }
}
