//! What the daemon does for each frame, however many come a second: reading messages off a stream and requests out of
//! them, and writing answers.
//!
//! A crate of its own, so that it is compiled for speed where almost all of the daemon is compiled to be small. It knows
//! neither methods nor connections.

pub mod request;
pub mod response;
pub mod socket;
pub mod text;
