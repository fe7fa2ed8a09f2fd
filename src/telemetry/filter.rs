//! What is logged: levels and directives, exchangeable while the program runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Filter};

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];
/// The crates whose lines people ask for; others are taken as they are written.
const TARGETS: &[&str] = &["offshoot", "offshoot_actors"];

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log filter {filter:?} cannot be read: {problem}")]
pub struct FilterError {
    /// As it was given.
    pub filter: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A filter that was read.
#[derive(Debug)]
pub(super) enum Directives {
    /// Nothing in it is about spans: then nobody need be told of them.
    Plain(Targets),
    Spans(Box<EnvFilter>),
}

/// The filter in force for one output; none lets nothing through.
#[derive(Debug)]
pub(super) struct Switch {
    filter: RwLock<Option<Directives>>,
    /// Whether it must be told of spans, which is known without a lock.
    spans: AtomicBool,
}

impl Switch {
    pub(super) const fn off() -> Self {
        Self { filter: RwLock::new(None), spans: AtomicBool::new(false) }
    }

    /// Puts a filter in force.
    pub(super) fn set(&self, directives: Directives) {
        self.spans.store(matches!(directives, Directives::Spans(_)), Ordering::Release);
        *self.filter.write().unwrap_or_else(PoisonError::into_inner) = Some(directives);
        tracing::callsite::rebuild_interest_cache();
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Directives>> {
        self.filter.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the filter of a span, if it wants to know.
    fn tell(&self, tell: impl FnOnce(&EnvFilter)) {
        if self.spans.load(Ordering::Acquire)
            && let Some(Directives::Spans(filter)) = &*self.read()
        {
            tell(filter);
        }
    }
}

/// Where a [`Switch`] is the filter of a layer.
pub(super) struct By(pub(super) &'static Switch);

impl<S: Subscriber> Filter<S> for By {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        match &*self.0.read() {
            None => false,
            Some(Directives::Plain(filter)) => Filter::enabled(filter, metadata, context),
            Some(Directives::Spans(filter)) => Filter::enabled(&**filter, metadata, context),
        }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match &*self.0.read() {
            None => Interest::never(),
            Some(Directives::Plain(filter)) => Filter::<S>::callsite_enabled(filter, metadata),
            Some(Directives::Spans(filter)) => Filter::<S>::callsite_enabled(&**filter, metadata),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        match &*self.0.read() {
            None => Some(LevelFilter::OFF),
            Some(Directives::Plain(filter)) => Filter::<S>::max_level_hint(filter),
            Some(Directives::Spans(filter)) => Filter::<S>::max_level_hint(&**filter),
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.tell(|filter| Filter::on_new_span(filter, attributes, id, context));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.tell(|filter| Filter::on_record(filter, id, values, context));
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.tell(|filter| Filter::on_enter(filter, id, context));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.tell(|filter| Filter::on_exit(filter, id, context));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.tell(|filter| Filter::on_close(filter, id, context));
    }
}

/// Says what is wrong with a filter.
pub(crate) fn check_level(filter: &str) -> Result<(), FilterError> {
    parse(filter).map(drop)
}

/// The parser that comes with the filter takes a word that it does not know for the name of a target.
pub(super) fn parse(filter: &str) -> Result<Directives, FilterError> {
    let failed = |problem: String| FilterError { filter: filter.to_owned(), problem };
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    directives.iter().try_for_each(|directive| check(directive)).map_err(failed)?;
    let text = directives.join(",");
    if text.contains('[') {
        let read = EnvFilter::builder().parse(text).map_err(|error| failed(error.to_string()))?;
        return Ok(Directives::Spans(Box::new(read)));
    }
    text.parse()
        .map(Directives::Plain)
        .map_err(|error: tracing_subscriber::filter::ParseError| failed(error.to_string()))
}

fn check(directive: &str) -> Result<(), String> {
    // The empty text is a level for the parser, and a typing error for people.
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    match directive.split_once('=') {
        // Of spans and their fields the filter's own parser knows enough.
        _ if directive.contains('[') => Ok(()),
        None if directive.is_empty() => Err("a directive is empty".to_owned()),
        None if is_level(directive) => Ok(()),
        None => Err(format!("{directive:?} is not a level{}", meant(directive, LEVELS))),
        Some((target, level)) if !is_level(level) => {
            Err(format!("{level:?} of {target} is not a level{}", meant(level, LEVELS)))
        }
        Some((target, _)) => {
            let root = target.split("::").next().unwrap_or_default();
            match meant(root, TARGETS) {
                hint if hint.is_empty() || TARGETS.contains(&root) => Ok(()),
                hint => Err(format!("no target is called {root:?}{hint}")),
            }
        }
    }
}

/// A hint at the word that was probably meant.
fn meant(word: &str, words: &[&str]) -> String {
    const ALIKE: f64 = 0.6;
    const MAX_WORD: usize = 40;
    let word = word.to_lowercase();
    let scored = words.iter().map(|known| (strsim::normalized_damerau_levenshtein(&word, known), known));
    let best = scored.filter(|(score, _)| *score >= ALIKE && word.len() <= MAX_WORD);
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read() {
        for filter in [
            "warn",
            "INFO",
            "off",
            "warn,offshoot_actors=debug",
            "offshoot=info, hyper::client=trace",
            "warn,[actor{kind=run}]=debug,offshoot_actors[actor]=trace",
        ] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for (filter, problem) in [
            ("inof", "\"inof\" is not a level; did you mean info?"),
            ("verbose", "\"verbose\" is not a level"),
            ("warn,offshoot_actors", "\"offshoot_actors\" is not a level"),
            ("warn,offshoot=debgu", "\"debgu\" of offshoot is not a level; did you mean debug?"),
            ("offshoot=", "\"\" of offshoot is not a level"),
            (
                "offshoot-actors=debug",
                "no target is called \"offshoot-actors\"; did you mean offshoot_actors?",
            ),
            ("", "a directive is empty"),
            ("warn,", "a directive is empty"),
            ("[actor{kind=run}]=debug,wran", "\"wran\" is not a level; did you mean warn?"),
        ] {
            assert_eq!(parse(filter).unwrap_err().problem, problem, "{filter}");
        }
    }
}
