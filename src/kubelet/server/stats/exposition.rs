//! The text format of Prometheus (version 0.0.4). Pure.

use crate::kubelet::tally::Durations;
use jiff::Timestamp;
use std::fmt::Write as _;

/// Writing to a String cannot fail.
const WRITTEN: &str = "a String takes any text";

/// A kind of measurement: its name, what it is, and how it grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
}

pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: "counter" }
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: "gauge" }
}

/// Of which one of its family a measurement is: names and values.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// What is written, one family after another.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
    /// When all of it was measured, where that is told.
    at: Option<Timestamp>,
}

impl Exposition {
    pub(super) fn new(at: Option<Timestamp>) -> Self {
        Self { text: String::new(), at }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// A family with nothing in it is left out.
    pub(super) fn family(&mut self, family: Family, values: Vec<(Labels<'_>, f64)>) {
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
    pub(super) fn one(&mut self, family: Family, value: f64) {
        self.family(family, vec![(Vec::new(), value)]);
    }

    pub(super) fn durations(
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
                self.text.push_str(&bucket(&bound.to_string(), count));
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

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub(super) fn whole(number: u64) -> f64 {
    number as f64
}

pub(super) fn count(number: usize) -> f64 {
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
