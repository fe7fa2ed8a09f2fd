//! Messages off a WebSocket.

use std::io::{Read, Write};

use tokio_tungstenite::tungstenite::protocol::WebSocketContext;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A stream that does not block.
pub trait Io: Read + Write {}

impl<T: Read + Write> Io for T {}

/// Reads the next message. This is where frames are taken apart: a type parameter, or a place in whoever calls it, would
/// have that compiled as the caller is.
///
/// # Errors
/// Those of tungstenite; one that would block is to be asked again.
#[inline(never)]
pub fn read(context: &mut WebSocketContext, mut stream: &mut dyn Io) -> Result<Message, Error> {
    context.read(&mut stream)
}
