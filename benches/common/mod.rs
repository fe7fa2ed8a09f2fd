//! A small harness for benches: samples with percentiles, rows beside their floors, and what the figures depend on.

pub mod floor;
pub mod machine;
pub mod report;

use std::time::{Duration, Instant};

/// What the command line asks for: `cargo bench -- [--quick] [--json] [WORD..]`.
#[derive(Debug, Clone, Default)]
pub struct Args {
    /// A few samples of each row, for a machine that only shows that they run.
    pub quick: bool,
    /// One JSON document instead of text.
    pub json: bool,
    /// Only rows whose name holds one of these words; all if empty.
    pub words: Vec<String>,
}

impl Args {
    pub fn read() -> Self {
        let mut args = Self::default();
        for word in std::env::args().skip(1) {
            match word.as_str() {
                "--quick" => args.quick = true,
                "--json" => args.json = true,
                // cargo adds this one.
                "--bench" => {}
                word => args.words.push(word.to_owned()),
            }
        }
        args
    }

    /// Whether the row of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// The number of samples: `full`, or `quick` of them.
    pub const fn samples(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Durations of one operation that was repeated.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that `percent` of the samples do not exceed, in microseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).map_or(f64::NAN, |sample| micros(*sample))
    }

    pub fn p50(&self) -> f64 {
        self.percentile(50)
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The middle of a few figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What `work` returns, and how long it took.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let result = work.await;
    (result, begun.elapsed())
}
