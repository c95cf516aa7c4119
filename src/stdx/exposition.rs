//! The text format of Prometheus (version 0.0.4), and durations as it counts them. Pure.

use jiff::Timestamp;
use std::fmt::Write as _;
use std::time::Duration;

/// Writing to a String cannot fail.
const WRITTEN: &str = "a String takes any text";

/// The bounds of what durations are counted by, in seconds: `DefBuckets` of Prometheus' client.
pub const BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The most bounds that anything is counted by; durations above the last of more are counted
/// together.
const BOUNDS_MAX: usize = 25;

/// Durations by how long they were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Durations {
    bounds: &'static [f64],
    /// Those up to each bound, and above the bound before it; the one after is above all.
    counts: [u64; BOUNDS_MAX + 1],
    /// All of them together.
    pub seconds: f64,
}

impl Default for Durations {
    fn default() -> Self {
        Self::by(BOUNDS)
    }
}

impl Durations {
    /// None yet, to be counted by these bounds, in seconds.
    #[must_use]
    pub fn by(bounds: &'static [f64]) -> Self {
        let bounds = &bounds[..bounds.len().min(BOUNDS_MAX)];
        Self { bounds, counts: [0; BOUNDS_MAX + 1], seconds: 0.0 }
    }

    /// What was counted elsewhere, by the same bounds: those up to each, and those above all.
    #[must_use]
    pub fn counted(bounds: &'static [f64], counts: &[u64], seconds: f64) -> Self {
        let mut durations = Self { seconds, ..Self::by(bounds) };
        for (own, count) in durations.counts.iter_mut().zip(counts) {
            *own = *count;
        }
        durations
    }

    /// Counts one more.
    pub fn note(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at =
            self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.counts[at] += 1;
        self.seconds += seconds;
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bound, with how many were not above it.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().copied().zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }
}

/// A kind of measurement: its name, what it is, and how it grows.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
}

/// What only grows.
#[must_use]
pub const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: "counter" }
}

/// What goes up and down.
#[must_use]
pub const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: "gauge" }
}

/// Of which one of its family a measurement is: names and values.
pub type Labels<'a> = Vec<(&'static str, &'a str)>;

/// What is written, one family after another.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    /// When all of it was measured, where that is told.
    at: Option<Timestamp>,
}

impl Exposition {
    /// Nothing yet, measured at this time.
    #[must_use]
    pub fn new(at: Option<Timestamp>) -> Self {
        Self { text: String::new(), at }
    }

    /// All that was written.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    /// A family with nothing in it is left out.
    pub fn family(&mut self, family: Family, values: Vec<(Labels<'_>, f64)>) {
        if values.is_empty() {
            return;
        }
        self.begin(family);
        let at = self.at.map(|at| format!(" {}", at.as_millisecond())).unwrap_or_default();
        for (labels, value) in values {
            let labels = render(&labels);
            writeln!(self.text, "{}{labels} {value}{at}", family.name).expect(WRITTEN);
        }
    }

    /// A family of one.
    pub fn one(&mut self, family: Family, value: f64) {
        self.family(family, vec![(Vec::new(), value)]);
    }

    /// A family of durations; left out where there is nothing in it.
    pub fn durations(
        &mut self,
        name: &'static str,
        help: &'static str,
        values: &[(Labels<'_>, Durations)],
    ) {
        if values.is_empty() {
            return;
        }
        self.begin(Family { name, help, kind: "histogram" });
        for (labels, durations) in values {
            let bucket = |bound: &str, count: u64| {
                let labels = render(&[&labels[..], &[("le", bound)]].concat());
                format!("{name}_bucket{labels} {count}\n")
            };
            for (bound, count) in durations.up_to() {
                self.text.push_str(&bucket(&bound_text(bound), count));
            }
            self.text.push_str(&bucket("+Inf", durations.count()));
            let (labels, seconds) = (render(labels), durations.seconds);
            writeln!(self.text, "{name}_sum{labels} {seconds}").expect(WRITTEN);
            writeln!(self.text, "{name}_count{labels} {}", durations.count()).expect(WRITTEN);
        }
    }

    fn begin(&mut self, Family { name, help, kind }: Family) {
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(WRITTEN);
    }
}

/// As Go writes numbers in their shortest form: labels are compared as text.
fn bound_text(bound: f64) -> String {
    const LARGE: f64 = 1e6;
    if bound < LARGE {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}e+{exponent:0>2}")
}

fn render(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub fn whole(number: u64) -> f64 {
    number as f64
}

pub fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut exposition = Exposition::new(Timestamp::from_millisecond(1_500).ok());
        exposition.family(gauge("a", "What it is."), vec![(vec![("b", "c\"\\\n")], 2.5)]);
        exposition.family(gauge("a", "What it is."), Vec::new());
        exposition.one(counter("d", "Else."), 7.0);
        assert_eq!(
            exposition.finish(),
            "# HELP a What it is.\n# TYPE a gauge\na{b=\"c\\\"\\\\\\n\"} 2.5 1500\n\
             # HELP d Else.\n# TYPE d counter\nd 7 1500\n"
        );
    }

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (bound, expected) in [
            (0.0, "0"),
            (0.005, "0.005"),
            (1.25, "1.25"),
            (60.0, "60"),
            (131_072.0, "131072"),
            (1e6, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (1e9, "1e+09"),
        ] {
            assert_eq!(bound_text(bound), expected);
        }
    }

    #[test]
    fn durations_are_written_by_their_bounds() {
        let mut exposition = Exposition::default();
        exposition.durations("t", "Time.", &[(vec![("of", "x")], Durations::default())]);
        let text = exposition.finish();
        assert!(text.starts_with("# HELP t Time.\n# TYPE t histogram\n"), "{text}");
        assert!(text.contains("t_bucket{of=\"x\",le=\"0.005\"} 0\n"), "{text}");
        let end = "t_bucket{of=\"x\",le=\"+Inf\"} 0\nt_sum{of=\"x\"} 0\nt_count{of=\"x\"} 0\n";
        assert!(text.ends_with(end), "{text}");
    }
}
