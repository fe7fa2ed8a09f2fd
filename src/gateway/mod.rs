//! The door of the daemon: one port for HTTP and WebSocket, and what comes in by it.
//!
//! ```text
//! gateway             listener: the sockets, and a task for each HTTP connection
//! ├─ connection 1     the bridge: frames in, typed messages to the tree out, and back
//! └─ connection 2
//! ```
//!
//! Who may come in is decided over values, without socket, clock or store, in this order:
//!
//! 1. [`peer`]: where it comes from, and whether a browser may send it from there;
//! 2. [`identity`]: whether it may come without a device;
//! 3. [`device`]: whether the device signed it;
//! 4. [`auth`]: whether it proved itself, held back by [`limits`]; what only the pairing registry can know is handed on;
//! 5. [`identity`] again: what it may do.
//!
//! `admit` takes a client through them. Behind it nothing knows of frames: a method is a typed call of the tree.

mod admission;
mod admit;
pub(crate) mod audit;
pub mod auth;
mod callbacks;
mod client;
mod connection;
mod daemon;
pub(crate) mod deliveries;
pub mod device;
mod ending;
mod events;
mod http;
mod hub;
pub mod identity;
mod key;
pub mod limits;
mod listener;
pub(crate) mod messages;
mod methods;
pub mod origin;
mod outbox;
pub mod peer;
mod presence;
mod projector;
mod recent;
pub mod record;
mod registry;
mod reload;
pub mod restart;
mod retention;
mod rows;
mod runs;
mod serve;
pub mod shared_token;
mod sink;
mod socket;
mod states;
mod tasks;
mod tls;
pub(crate) mod traces;
mod tree;
mod upgrade;
mod upkeep;
mod vitals;
mod watch;
mod watchdog;
mod watcher;
mod watching;
mod wire;
mod writing;

pub(crate) use self::http::page::ROOT as PAGE;
pub use self::methods::{NeedOf, need_of};
pub use self::serve::{ServeError, Serving};
pub use self::tls::TlsError;
