//! The ports of servers that are other programs. The benchmark must know their ports before it starts
//! them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use crate::Outcome;

/// An address without a listener. The system never assigns such a low port by itself.
pub const UNUSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A reserved port on loopback. As long as this value lives, the system gives the port to no other
/// process. The socket is bound and does not listen. On Linux a server that sets `SO_REUSEADDR`, as the
/// bridge and Node do, can listen on the same port.
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
