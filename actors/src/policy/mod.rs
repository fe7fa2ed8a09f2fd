//! Decisions as pure functions: no actor, no waiting, no clock. The actors ask, these answer.

pub mod admission;
pub mod argument;
pub mod cost;
pub mod exits;
pub mod lanes;
pub mod pairing;
pub mod recovery;
pub mod retention;
pub mod retry;
pub mod tools;
pub mod watch;
