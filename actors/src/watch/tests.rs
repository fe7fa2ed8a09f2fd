//! What watchers see, of a tree that works and of one that does not.

mod figures;
mod links;
#[cfg(feature = "faults")]
mod troubles;
