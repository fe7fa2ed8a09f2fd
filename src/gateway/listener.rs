//! The gateway actor: the listening sockets, and under it a connection actor for each WebSocket.
//!
//! It owns the sockets. A crash of it loses the connections, which clients make again, and nothing else: the root starts
//! it anew and the sessions never notice.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use offshoot_actors::kit::{Behaviour, ChildSpec, Ctx, Exit, Handle, Msg, StartError, Task};
use offshoot_actors::types::Monotonic;
use tokio::net::{TcpListener, TcpStream};

use super::connection::{Connection, ConnectionArgs};
use super::daemon::Daemon;
use super::upgrade::Upgraded;
use super::wire::Wire;
use super::{events, http};
use crate::config::Bind;

/// A connection has nothing to finish that its client would see.
const STOP_CONNECTION_WITHIN: Duration = Duration::from_secs(2);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// Bytes that the kernel holds of what is said to one client, half of which are the frames themselves. By itself it takes
/// several MiB for each that reads slowly, and hundreds of those keep the others waiting while they are filled.
const SEND_BUFFER: u32 = 256 * 1024;
/// How often the gateway looks whether something is to be told.
const BEAT: Duration = Duration::from_millis(250);
/// How often clients are shown that the connection lives (`policy.tickIntervalMs`).
const TICK: Duration = Duration::from_secs(30);
/// After an error of `accept` that is the machine's, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// What the gateway is told.
#[derive(Debug)]
pub(crate) enum GatewayMsg {
    /// A client's upgrade was answered. From the task that served its request.
    Upgraded(Box<Upgraded>),
    /// A listening socket failed for good.
    Failed(String),
    /// Time has passed. From a timer.
    Beat,
}

impl Msg for GatewayMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Upgraded(_) => "upgraded",
            Self::Failed(_) => "failed",
            Self::Beat => "beat",
        }
    }
}

/// The gateway's state.
#[derive(Debug)]
pub(crate) struct Gateway {
    daemon: Arc<Daemon>,
    /// One for each listening socket.
    _accepting: Vec<Task>,
    _beat: Task,
    ticked: Monotonic,
}

impl Behaviour for Gateway {
    const KIND: &'static str = "gateway";
    /// By the command that cannot listen, or by the root that tries again.
    const START_IS_TOLD: bool = true;

    type Msg = GatewayMsg;
    type Args = Arc<Daemon>;
    type Child = u64;

    async fn start(args: &mut Arc<Daemon>, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let daemon = Arc::clone(args);
        daemon.first_vitals().await;
        let mut bound = BTreeSet::new();
        let mut accepting = Vec::new();
        let (bind, port) = (daemon.config().gateway.bind, daemon.config().gateway.port);
        for listener in listen_at_all(bind, port, listen)? {
            bound.insert(listener.local_addr().map_err(|error| StartError(error.to_string()))?);
            let (daemon, gateway) = (Arc::clone(&daemon), ctx.myself().clone());
            let work = async move { accept(listener, &daemon, &gateway).await };
            accepting.push(ctx.task(work, GatewayMsg::Failed));
        }
        tracing::info!(addresses = ?bound, "clients can connect");
        daemon.set_bound(bound);
        let ticked = daemon.clock.monotonic();
        Ok(Self { daemon, _accepting: accepting, _beat: ctx.after(BEAT, GatewayMsg::Beat), ticked })
    }

    fn handle(&mut self, message: GatewayMsg, ctx: &mut Ctx<Self>) {
        match message {
            GatewayMsg::Upgraded(upgraded) => self.connect(*upgraded, ctx),
            GatewayMsg::Failed(reason) => ctx.fail(reason),
            GatewayMsg::Beat => self.beat(ctx),
        }
    }

    fn child_exited(&mut self, connection: u64, exit: Exit, _: &mut Ctx<Self>) {
        if let Exit::Failed(reason) = exit {
            tracing::error!(connection, reason, "a connection failed; the others go on");
        }
    }
}

impl Gateway {
    fn connect(&mut self, upgraded: Upgraded, ctx: &mut Ctx<Self>) {
        let number = self.daemon.next_connection();
        let args = ConnectionArgs::new(number, Arc::clone(&self.daemon), upgraded);
        let name: Arc<str> = format!("connection {number}").into();
        let spec = ChildSpec::alike(STOP_CONNECTION_WITHIN);
        if let Err(error) = ctx.spawn::<Connection>(number, name, spec, args) {
            tracing::warn!(%error, "a connection could not be started");
        }
    }

    fn beat(&mut self, ctx: &Ctx<Self>) {
        events::presence(&self.daemon);
        let now = self.daemon.clock.monotonic();
        if now.since(self.ticked) >= TICK {
            self.ticked = now;
            events::tick(&self.daemon);
        }
        self._beat = ctx.after(BEAT, GatewayMsg::Beat);
    }
}

/// Listens at every address that the configuration names. A machine may lack one of the two families, and beside an address
/// that was chosen another program may have this machine's own.
fn listen_at_all(
    bind: Bind,
    mut port: u16,
    listen: impl Fn(SocketAddr) -> std::io::Result<TcpListener>,
) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    let mut refused = None;
    for address in bind.addresses() {
        let needed = bind.needs(address);
        let address = SocketAddr::new(address, port);
        match listen(address) {
            Ok(listener) => {
                // Port 0 is the system's choice, and the same for all.
                if let Ok(local) = listener.local_addr() {
                    port = local.port();
                }
                listeners.push(listener);
            }
            Err(error) if lacks_family(&error) && !needed => refused = Some(cannot_listen(address, &error)),
            Err(error) if matches!(bind, Bind::Address(_)) && !needed => {
                let error = cannot_listen(address, &error);
                tracing::warn!(
                    "{error}; programs of this machine reach the gateway by its other addresses only"
                );
            }
            Err(error) => return Err(cannot_listen(address, &error)),
        }
    }
    match refused {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn lacks_family(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> StartError {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            ": another process listens there; stop that one, or choose another port with --port or gateway.port"
        }
        std::io::ErrorKind::AddrNotAvailable => ": this machine has no such address; see gateway.bind",
        std::io::ErrorKind::PermissionDenied => {
            ": a port below 1024 needs privileges; set gateway.port or --port"
        }
        _ => "",
    };
    StartError(format!("cannot listen at {address}: {error}{hint}"))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restart finds the port of connections that are not forgotten yet.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // The other family has a socket of its own.
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    // Those that it accepts have the same.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves each connection in a task of its own until the socket fails, and says why.
async fn accept(listener: TcpListener, daemon: &Arc<Daemon>, gateway: &Handle<GatewayMsg>) -> String {
    let mut serving = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (daemon, gateway) = (Arc::clone(daemon), gateway.clone());
                    serving.spawn(async move { serve(stream, peer, daemon, gateway).await });
                }
                Err(error) if is_the_connections(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = serving.join_next() => {}
        }
    }
}

/// Whether only the connection that was being accepted is lost.
fn is_the_connections(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

async fn serve(stream: TcpStream, peer: SocketAddr, daemon: Arc<Daemon>, gateway: Handle<GatewayMsg>) {
    if daemon.is_stopping() {
        return;
    }
    // Small frames are answers that somebody waits for.
    let _ = stream.set_nodelay(true);
    // The first place is for the way in, the second for as long as it is open and no WebSocket.
    let (Some(place), Some(_open)) = (daemon.enter(peer.ip()), daemon.enter_http(peer.ip())) else {
        // One that waits for encryption would not understand it.
        if daemon.tls().is_none() {
            http::refuse_crowd(stream).await;
        }
        return;
    };
    let wire = match daemon.tls() {
        None => Wire::plain(stream),
        Some(tls) => {
            let accept = tokio::time::timeout(http::HEADER_WITHIN, tls.accept(stream));
            match accept.await {
                Ok(Ok(stream)) => Wire::encrypted(stream),
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => return,
            }
        }
    };
    http::serve(TokioIo::new(wire), peer, place, daemon, gateway).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    /// How many listeners there are where these addresses fail; none where there is no gateway.
    fn listeners(bind: Bind, fails: fn(SocketAddr) -> Option<ErrorKind>) -> Option<usize> {
        let anywhere = |address: SocketAddr| match fails(address) {
            Some(kind) => Err(Error::from(kind)),
            None => super::listen(([127, 0, 0, 1], 0).into()),
        };
        listen_at_all(bind, 18_789, anywhere).ok().map(|listeners| listeners.len())
    }

    #[tokio::test]
    async fn only_an_address_that_was_chosen_must_be_there_and_it_alone_is_enough() {
        const IN_USE: Option<ErrorKind> = Some(ErrorKind::AddrInUse);
        const LACKING: Option<ErrorKind> = Some(ErrorKind::AddrNotAvailable);
        let chosen = Bind::Address([192, 0, 2, 1].into());
        assert_eq!(listeners(chosen, |_| None), Some(3));
        assert_eq!(listeners(chosen, |address| IN_USE.filter(|_| address.ip().is_loopback())), Some(1));
        assert_eq!(listeners(chosen, |address| IN_USE.filter(|_| address.is_ipv6())), Some(2));
        assert_eq!(listeners(chosen, |address| IN_USE.filter(|_| !address.ip().is_loopback())), None);
        assert_eq!(listeners(chosen, |address| LACKING.filter(|_| !address.ip().is_loopback())), None);
        // Whoever else has one of these is taken for the gateway by programs of this machine.
        assert_eq!(listeners(Bind::Loopback, |address| IN_USE.filter(|_| address.is_ipv6())), None);
        assert_eq!(listeners(Bind::Loopback, |address| LACKING.filter(|_| address.is_ipv6())), Some(1));
        assert_eq!(listeners(Bind::Loopback, |_| LACKING), None);
    }
}
