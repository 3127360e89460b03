//! Where the servers that are not this program listen. Who starts them must
//! know the port beforehand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use crate::Outcome;

/// An address without a listener: the system gives no process so low a port unasked.
pub const UNUSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A port on loopback that no other process is given as long as this lives. It is
/// bound and does not listen, beside which a server that sets `SO_REUSEADDR`,
/// as the bridge and Node do, can listen on Linux.
pub struct Port {
    pub address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    pub fn hold() -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: socket.local_addr()?, _held: socket })
    }
}
