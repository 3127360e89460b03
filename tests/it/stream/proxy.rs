//! A TCP proxy that passes, swallows, slows or resets connections on request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::world::listen;

/// The treatment of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Bytes pass.
    Pass,
    /// Connections stay open and nothing passes, as if the peer had disappeared. The bytes are
    /// lost, and the connections pass nothing later either.
    Swallow,
    /// Bytes pass one at a time.
    Trickle,
    /// Connections are reset.
    Reset,
}

/// The proxy. Its connections end when it is dropped.
pub struct Proxy {
    /// `ws://` and its address.
    pub url: String,
    way: Arc<watch::Sender<Way>>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy for the server at `url`.
    pub async fn to(url: &str) -> Self {
        let server: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let (listener, url) = listen().await;
        let way = Arc::new(watch::Sender::new(Way::Pass));
        let mut accepting = JoinSet::new();
        let ways = Arc::clone(&way);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(server).await.unwrap();
                connections.spawn(carry(client, server, ways.subscribe()));
            }
        });
        Self { url: url.replace("http", "ws"), way, _accepting: accepting }
    }

    /// Treats open and new connections this way from now on.
    pub fn treat(&self, way: Way) {
        self.way.send_replace(way);
    }
}

/// Carries bytes both ways until either side ends, or the connection is reset.
async fn carry(client: TcpStream, server: TcpStream, way: watch::Receiver<Way>) {
    // The connection is reset when it is dropped.
    client.set_zero_linger().unwrap();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut both = JoinSet::new();
    both.spawn(pump(from_client, to_server, way.clone()));
    both.spawn(pump(from_server, to_client, way));
    both.join_next().await;
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) -> io::Result<()> {
    let mut swallowed = false;
    let mut buffer = [0; 4096];
    loop {
        let treatment = *way.borrow_and_update();
        if treatment == Way::Reset {
            return Ok(());
        }
        swallowed |= treatment == Way::Swallow;
        let room = if treatment == Way::Trickle { 1 } else { buffer.len() };
        tokio::select! {
            changed = way.changed() => if changed.is_err() { return Ok(()) },
            read = from.read(&mut buffer[..room]) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                if !swallowed {
                    to.write_all(&buffer[..read]).await?;
                }
            }
        }
    }
}
