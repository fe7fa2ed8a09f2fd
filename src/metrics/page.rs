//! The text in which Prometheus reads metrics.

use std::fmt::Write as _;

use super::figures::{Counter, Histogram, Spread};

/// How the text is named to whoever asked for it.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of one value.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A text that grows by one family of metrics after the other.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

/// One family, for its values.
pub(crate) struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Page {
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    pub(crate) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, "histogram")
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> Family<'_> {
        // Nothing fails that is written to a text in memory, here and below.
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: &mut self.0, name }
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// The value of a count.
    pub(crate) fn of(&mut self, labels: Labels<'_>, counter: &Counter) -> &mut Self {
        self.value(labels, counter.get())
    }

    pub(crate) fn value(&mut self, labels: Labels<'_>, value: impl std::fmt::Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    pub(crate) fn spread(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        let Spread { upto, count, sum } = histogram.read();
        for (bound, count) in upto {
            self.line("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl std::fmt::Display) {
        let Self { page, name } = self;
        _ = write!(page, "{name}{suffix}");
        let mut separator = '{';
        for (label, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            _ = write!(page, "{separator}{label}=\"");
            escape(value, page);
            page.push('"');
            separator = ',';
        }
        _ = writeln!(page, "{} {value}", if separator == ',' { "}" } else { "" });
    }
}

fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_as_they_are_read() {
        let mut page = Page::default();
        let counter = Counter::new();
        counter.add(3);
        page.counter("a_total", "What it is.")
            .of(&[("x", "a\"b\\c\n"), ("y", "z")], &counter)
            .of(&[], &counter);
        let histogram = Histogram::new(&[0.5, 2.0]);
        histogram.took(Duration::from_secs(1));
        page.histogram("b_seconds", "How long.").spread(&[("x", "1")], &histogram);
        page.gauge("c", "Now.").value(&[], 1.5);
        let expected = "# HELP a_total What it is.\n# TYPE a_total counter\n\
            a_total{x=\"a\\\"b\\\\c\\n\",y=\"z\"} 3\na_total 3\n\
            # HELP b_seconds How long.\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{x=\"1\",le=\"0.5\"} 0\nb_seconds_bucket{x=\"1\",le=\"2\"} 1\n\
            b_seconds_bucket{x=\"1\",le=\"+Inf\"} 1\nb_seconds_sum{x=\"1\"} 1\nb_seconds_count{x=\"1\"} 1\n\
            # HELP c Now.\n# TYPE c gauge\nc 1.5\n";
        assert_eq!(page.finish(), expected);
    }
}
