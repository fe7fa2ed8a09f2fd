//! A configuration as a tree in which every value knows its place in the text.
//!
//! Nothing here is `Debug`: the strings may be secrets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::stamp::{Stamp, Stamps};

/// A byte in one of the files that were read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: u16,
    pub(super) offset: u32,
}

impl Place {
    /// The start of the first file.
    pub(super) const START: Self = Self { file: 0, offset: 0 };
}

pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

pub(super) struct Member {
    pub(super) name: String,
    /// Where the name stands.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// An object without members.
    pub(super) const fn empty(place: Place) -> Self {
        Self { place, value: Value::Object(Vec::new()) }
    }

    /// What kind of value it is, for people.
    pub(super) const fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// The number as an integer, if it is one that a double holds exactly.
pub(super) fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and inside 2^53")]
    (value.fract() == 0.0 && value.abs() <= LIMIT).then_some(value as i64)
}

/// The way from the root to a value, made only when a problem needs it.
#[derive(Clone, Copy)]
pub(super) struct Trail<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Trail<'a> {
    pub(super) const ROOT: Self = Trail { parent: None, step: Step::Root };

    pub(super) const fn key(&'a self, name: &'a str) -> Self {
        Trail { parent: Some(self), step: Step::Key(name) }
    }

    pub(super) const fn index(&'a self, index: usize) -> Self {
        Trail { parent: Some(self), step: Step::Index(index) }
    }

    /// Whether `test` holds for a key on the way.
    pub(super) fn any_key(&self, test: fn(&str) -> bool) -> bool {
        matches!(self.step, Step::Key(name) if test(name))
            || self.parent.is_some_and(|parent| parent.any_key(test))
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(name) if !plain(name) => write!(f, "[{:?}]", shorten(name)),
            Step::Key(name) => {
                let dot = if self.parent.is_some_and(|parent| parent.parent.is_some()) { "." } else { "" };
                write!(f, "{dot}{name}")
            }
        }
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'))
}

/// The text, cut so that a problem stays one readable line.
pub(super) fn shorten(text: &str) -> String {
    const MAX: usize = 60;
    if text.chars().nth(MAX).is_none() {
        text.to_owned()
    } else {
        text.chars().take(MAX).chain(['…']).collect()
    }
}

/// The texts that were read, to turn a place into a line and a column.
#[derive(Default)]
pub(super) struct Files {
    files: Vec<File>,
    included: Vec<PathBuf>,
    stamps: Stamps,
}

struct File {
    name: Arc<str>,
    text: String,
    /// Where each line starts.
    lines: Vec<usize>,
}

impl Files {
    /// Notes a file that another one includes.
    pub(super) fn include(&mut self, path: &Path) {
        if !self.included.iter().any(|known| known == path) {
            self.included.push(path.to_owned());
        }
    }

    /// Notes in which state a file was read, or that it could not be.
    pub(super) fn stamp(&mut self, path: &Path, stamp: Option<Stamp>) {
        self.stamps.note(path, stamp);
    }

    /// The states in which the files were read.
    pub(super) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// The files that others include.
    pub(super) fn included(&self) -> &[PathBuf] {
        &self.included
    }

    pub(super) fn add(&mut self, name: &str, text: String) -> u16 {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.files.push(File { name: name.into(), text, lines });
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    pub(super) fn text(&self, file: u16) -> &str {
        self.files.get(usize::from(file)).map_or("", |file| &file.text)
    }

    /// File, line and column; the latter two from 1.
    pub(super) fn locate(&self, place: Place) -> (Arc<str>, u32, u32) {
        let Some(file) = self.files.get(usize::from(place.file)) else {
            return (Arc::from(""), 1, 1);
        };
        let offset = file.text.floor_char_boundary(usize::try_from(place.offset).unwrap_or(usize::MAX));
        let line = file.lines.partition_point(|&start| start <= offset).max(1);
        let start = file.lines.get(line - 1).copied().unwrap_or(0);
        let column = file.text[start..offset].chars().count() + 1;
        (Arc::clone(&file.name), saturate(line), saturate(column))
    }
}

fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
