//! The WebSocket. Only this file uses the types of its library.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_ACCEPT;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::plan::Upgrade;
use super::state::Ending;
use crate::pepay::error::{Failure, legible};
use crate::pepay::rest::{Rest, Upgraded};

/// The largest frame that is read, in bytes. Pepay's events are a few KiB.
const LARGEST_FRAME: usize = 1024 * 1024;
/// The number of bytes that may wait before they are written. Four times as many end the
/// connection, if the peer does not read.
const WRITE_BUFFER: usize = 16 * 1024;
/// The longest wait for a connection, from the look-up of the name to the upgrade. A shorter idle
/// timeout shortens it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest wait for the kernel to take a few bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// An open connection.
pub(super) struct Socket {
    socket: WebSocketStream<Heard<Upgraded>>,
    heard: LastHeard,
}

/// An arrived frame.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text frame.
    Text(Bytes),
    /// A binary frame, which Pepay does not use.
    Binary,
    /// A ping, which the library answers, or a pong.
    Heartbeat,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Loss {
    pub ending: Ending,
    /// The cause, for the log.
    pub text: String,
}

/// Opens a connection, or fails within `idle_timeout`.
pub(super) async fn connect(
    rest: &Rest,
    upgrade: Upgrade,
    idle_timeout: Duration,
) -> Result<Socket, Failure> {
    timeout(CONNECT_TIMEOUT.min(idle_timeout), open(rest, upgrade))
        .await
        .unwrap_or_else(|_| Err(Failure::unreachable("the connection was not open in time")))
}

async fn open(rest: &Rest, upgrade: Upgrade) -> Result<Socket, Failure> {
    let key = generate_key();
    let expected = derive_accept_key(key.as_bytes());
    let key = HeaderValue::from_str(&key).map_err(|error| Failure::unreachable(error.to_string()))?;
    let secrets: Vec<_> = upgrade.secrets.iter().map(ExposeSecret::expose_secret).collect();
    let (headers, upgraded) = rest.upgrade(&upgrade.address, key, upgrade.key, &secrets).await?;
    // RFC 6455, section 4.1: the answer has to be made for this request.
    if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept.as_bytes() != expected.as_bytes()) {
        return Err(Failure::malformed("the upgrade was answered without the right Sec-WebSocket-Accept"));
    }
    let heard = LastHeard::new();
    let stream = Heard { inner: upgraded, heard: heard.clone() };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_FRAME))
        .max_frame_size(Some(LARGEST_FRAME))
        .read_buffer_size(32 * 1024)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(4 * WRITE_BUFFER);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok(Socket { socket, heard })
}

impl Socket {
    /// Returns the next arrival. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Incoming, Loss> {
        match self.socket.next().await {
            // The bytes are copied, so that one waiting event does not keep the whole read buffer.
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(Bytes::copy_from_slice(text.as_bytes()))),
            Some(Ok(Message::Binary(_))) => Ok(Incoming::Binary),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Incoming::Heartbeat),
            Some(Ok(Message::Close(frame))) => {
                // Sends the reply to the close frame. The connection has ended in any case.
                let _ = timeout(WRITE_TIMEOUT, self.socket.flush()).await;
                Err(closed(frame))
            }
            Some(Err(error)) => Err(loss(&error)),
            None => Err(Loss { ending: Ending::Network, text: "the connection ended".to_owned() }),
        }
    }

    /// Sends a ping.
    pub(super) async fn ping(&mut self) -> Result<(), Loss> {
        match timeout(WRITE_TIMEOUT, self.socket.send(Message::Ping(Bytes::new()))).await {
            Ok(sent) => sent.map_err(|error| loss(&error)),
            Err(_) => Err(Loss { ending: Ending::Network, text: "a ping could not be sent".to_owned() }),
        }
    }

    /// Returns when a byte last arrived.
    pub(super) fn heard(&self) -> Instant {
        self.heard.at()
    }

    /// Sends a close frame, and waits for a short time until it is sent.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Away, reason: "".into() };
        let _ = timeout(WRITE_TIMEOUT, self.socket.close(Some(frame))).await;
    }
}

fn closed(frame: Option<CloseFrame>) -> Loss {
    let text = match frame {
        Some(CloseFrame { code, reason }) if reason.is_empty() => format!("Pepay closed with {code}"),
        Some(CloseFrame { code, reason }) => format!("Pepay closed with {code}: {}", legible(&reason, &[])),
        None => "Pepay closed without a code".to_owned(),
    };
    Loss { ending: Ending::Closed, text }
}

fn loss(error: &Error) -> Loss {
    let ending = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ending::Closed,
        Error::Io(_) | Error::Tls(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Ending::Network
        }
        _ => Ending::Protocol,
    };
    Loss { ending, text: legible(&error.to_string(), &[]) }
}

/// When a byte last arrived. A stream shares it with those that watch the stream.
#[derive(Clone)]
struct LastHeard {
    began: Instant,
    millis: Arc<AtomicU64>,
}

impl LastHeard {
    fn new() -> Self {
        Self { began: Instant::now(), millis: Arc::new(AtomicU64::new(0)) }
    }

    fn note(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn at(&self) -> Instant {
        self.began + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// A byte stream that notes when a byte arrives. It is below the frames, so that a large frame that
/// arrives slowly counts as a sign of life.
struct Heard<S> {
    inner: S,
    heard: LastHeard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context, buf: &mut ReadBuf) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.note();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
