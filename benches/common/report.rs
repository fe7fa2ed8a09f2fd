//! Rows as text and as JSON.

use serde_json::{Value, json};

use super::{Args, Samples, machine};

/// A group of rows: the words by which it is chosen, and what measures it.
pub type Group = (&'static str, fn(Args) -> Vec<Row>);

/// Measures the groups that are asked for, and prints them.
pub fn run(args: &Args, groups: &[Group]) {
    let machine = machine::describe(args.quick);
    if !args.json {
        machine.iter().for_each(|(name, value)| println!("{name:<20} {value}"));
    }
    let mut rows = Vec::new();
    for (_, measure) in groups.iter().filter(|(name, _)| args.wants(name)) {
        for row in measure(args.clone()) {
            if !args.json {
                row.print();
            }
            rows.push(row.json());
        }
    }
    if args.json {
        let machine: serde_json::Map<_, _> =
            machine.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        println!("{:#}", json!({ "machine": machine, "rows": rows }));
    }
}

/// What a row says of its target.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub measured: f64,
    pub target: f64,
    pub unit: &'static str,
    /// Whether more is better.
    pub more: bool,
    /// How `measured` comes from the figures, where it is not simply one of them.
    pub how: &'static str,
}

impl Verdict {
    pub const fn at_most(measured: f64, target: f64, unit: &'static str) -> Self {
        Self { measured, target, unit, more: false, how: "" }
    }

    pub const fn at_least(measured: f64, target: f64, unit: &'static str) -> Self {
        Self { measured, target, unit, more: true, how: "" }
    }

    pub const fn by(mut self, how: &'static str) -> Self {
        self.how = how;
        self
    }

    fn met(&self) -> bool {
        if self.more { self.measured >= self.target } else { self.measured <= self.target }
    }
}

/// One line of figures below a row.
#[derive(Debug, Clone)]
enum Figure {
    Samples { label: String, samples: Samples },
    Value { label: String, value: f64, unit: &'static str },
}

/// A row: what was asked for, what was measured, and what the machine can do at best.
#[derive(Debug, Clone)]
pub struct Row {
    name: String,
    verdicts: Vec<Verdict>,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Row {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), verdicts: Vec::new(), figures: Vec::new(), notes: Vec::new() }
    }

    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdicts.push(verdict);
        self
    }

    pub fn samples(mut self, label: impl Into<String>, samples: &Samples) -> Self {
        self.figures.push(Figure::Samples { label: label.into(), samples: samples.clone() });
        self
    }

    pub fn value(mut self, label: impl Into<String>, value: f64, unit: &'static str) -> Self {
        self.figures.push(Figure::Value { label: label.into(), value, unit });
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub fn print(&self) {
        println!("\n{}", self.name);
        for verdict in &self.verdicts {
            let Verdict { measured, target, unit, more, how } = verdict;
            let bound = if *more { "at least" } else { "at most" };
            let met = if verdict.met() { "met" } else { "MISSED" };
            let how = if how.is_empty() { String::new() } else { format!(" ({how})") };
            println!("  {} {unit}, target {bound} {target} {unit}: {met}{how}", round(*measured));
        }
        for figure in &self.figures {
            match figure {
                Figure::Samples { label, samples } => println!(
                    "    {label:<44} p50 {:>9} µs   p90 {:>9} µs   p99 {:>9} µs   n {}",
                    round(samples.percentile(50)),
                    round(samples.percentile(90)),
                    round(samples.percentile(99)),
                    samples.len()
                ),
                Figure::Value { label, value, unit } => {
                    println!("    {label:<44} {:>13} {unit}", round(*value))
                }
            }
        }
        for note in &self.notes {
            println!("    {note}");
        }
    }

    pub fn json(&self) -> Value {
        let verdict = |verdict: &Verdict| {
            json!({
                "measured": verdict.measured,
                "target": verdict.target,
                "unit": verdict.unit,
                "better": if verdict.more { "more" } else { "less" },
                "met": verdict.met(),
                "how": verdict.how,
            })
        };
        let figure = |figure: &Figure| match figure {
            Figure::Samples { label, samples } => json!({
                "label": label,
                "unit": "µs",
                "p50": samples.percentile(50),
                "p90": samples.percentile(90),
                "p99": samples.percentile(99),
                "n": samples.len(),
            }),
            Figure::Value { label, value, unit } => json!({ "label": label, "unit": unit, "value": value }),
        };
        json!({
            "name": self.name,
            "targets": self.verdicts.iter().map(verdict).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn round(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
