//! The live tree, as `tree` and `top` have it: what there is, in which order, in which words.

mod forest;
mod link;
mod words;

#[cfg(test)]
pub(super) mod sample;

pub(super) use self::forest::{Forest, Look, Missed, Row, Sort};
pub(super) use self::link::{Ask, Heard, Link, Wants};
pub(super) use self::words::{Tone, details, line, marks, money, name, state, usage};
