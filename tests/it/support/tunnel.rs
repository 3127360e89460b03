//! An HTTP proxy that speaks `CONNECT` (RFC 9110, section 9.3.6) and nothing else.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::world::listen;

/// The proxy. Its connections end when it is dropped.
pub struct Tunnel {
    /// Host and port.
    pub address: String,
    heads: watch::Receiver<Vec<String>>,
    _accepting: JoinSet<()>,
}

impl Tunnel {
    /// Starts a proxy. With `authorization`, it refuses requests without that `Proxy-Authorization`.
    pub async fn new(authorization: Option<&'static str>) -> Self {
        let (listener, url) = listen().await;
        let (seen, heads) = watch::channel(Vec::new());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let seen = seen.clone();
                connections.spawn(async move {
                    // A client that does not trust the server closes the connection.
                    let _ended = carry(client, authorization, &seen).await;
                });
            }
        });
        Self { address: url.trim_start_matches("http://").to_owned(), heads, _accepting: accepting }
    }

    /// Returns the heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.borrow().clone()
    }
}

async fn carry(
    mut client: TcpStream,
    authorization: Option<&str>,
    seen: &watch::Sender<Vec<String>>,
) -> io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await?));
    }
    seen.send_modify(|heads| heads.push(head.clone()));
    let shown = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    if authorization.is_some() && shown != authorization {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        return client.write_all(refusal).await;
    }
    let Some(authority) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n").await;
    };
    let mut server = TcpStream::connect(authority).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: 1.1 tunnel\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
