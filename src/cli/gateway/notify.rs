//! Tells the service manager how the daemon is (`sd_notify`), and takes the files that the system lets it open.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// Clients can connect.
    Ready,
    /// The daemon is about to end.
    Stopping,
}

impl Notice {
    const fn text(self) -> &'static str {
        match self {
            Self::Ready => "READY=1\nSTATUS=accepting clients",
            Self::Stopping => "STOPPING=1\nSTATUS=letting open requests end",
        }
    }
}

/// Tells whoever started us; `socket` is what `NOTIFY_SOCKET` says.
pub(super) fn tell(socket: Option<&str>, notice: Notice) {
    let Some(socket) = socket else { return };
    // Without the notice the manager waits for it and then gives up on us: that is worth a line.
    if let Err(error) = send(socket, notice) {
        tracing::warn!(socket, %error, "the service manager cannot be told that the gateway is {notice:?}");
    }
}

fn send(socket: &str, notice: Notice) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => in_no_directory(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(notice.text().as_bytes(), &address).map(drop)
}

#[cfg(target_os = "linux")]
fn in_no_directory(name: &str) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn in_no_directory(_: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Lets the process open as many files as the system allows it: each client is one.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, files = limit.current, "the limit on open files cannot be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_service_manager_hears_each_notice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        tell(path.to_str(), Notice::Ready);
        assert!(hears(&manager).starts_with("READY=1\n"));
        tell(path.to_str(), Notice::Stopping);
        assert!(hears(&manager).starts_with("STOPPING=1\n"));
        tell(None, Notice::Ready);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_may_be_in_no_directory() {
        let name = format!("offshoot-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&in_no_directory(&name).unwrap()).unwrap();
        send(&format!("@{name}"), Notice::Ready).unwrap();
        assert!(hears(&manager).starts_with("READY=1\n"));
    }
}
