//! Opens connections to Pepay: TCP, through a proxy's tunnel if one is configured, with TLS if the
//! address says `https`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::race;
use crate::pepay::account::Account;

/// The time limit from the lookup of the name to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a proxy's answer, in bytes.
const PROXY_HEAD: usize = 8 * 1024;

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    proxies: Arc<Matcher>,
    /// `None` if no address of the account needs it.
    tls: Option<TlsConnector>,
}

/// An open connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    pub(super) fn new(account: &Account) -> Result<Self, rustls::Error> {
        let needed =
            [&account.api_url, &account.ws_url].iter().any(|url| matches!(url.scheme(), "https" | "wss"));
        let tls = if needed { Some(tls(account)?) } else { None };
        Ok(Self { proxies: Arc::new(account.proxy.matcher()), tls })
    }

    pub(super) fn proxy_for(&self, address: &Uri) -> Option<String> {
        let proxy = self.proxies.intercept(address)?;
        proxy.uri().authority().map(|authority| format!("{}:{}", authority.host(), port(proxy.uri())))
    }

    async fn open(self, address: Uri) -> io::Result<TokioIo<Stream>> {
        let host = address.host().ok_or_else(|| io::Error::other("the address names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = match self.proxies.intercept(&address) {
            Some(proxy) => tunnel(&proxy, &address).await?,
            None => race::connect(host, port(&address)).await?,
        };
        let stream = match &self.tls {
            Some(tls) if address.scheme_str() == Some("https") => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(tls.connect(name, stream).await?))
            }
            _ => Stream::Plain(stream),
        };
        Ok(TokioIo::new(stream))
    }
}

fn port(address: &Uri) -> u16 {
    address.port_u16().unwrap_or(if address.scheme_str() == Some("https") { 443 } else { 80 })
}

fn tls(account: &Account) -> Result<TlsConnector, rustls::Error> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let roots = account.ca.iter().flat_map(|ca| ca.certificates().to_vec());
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Opens a connection to `address` through `proxy`, by `CONNECT` (RFC 9110, section 9.3.6).
async fn tunnel(proxy: &Intercept, address: &Uri) -> io::Result<TcpStream> {
    let (Some("http"), Some(host)) = (proxy.uri().scheme_str(), proxy.uri().host()) else {
        return Err(io::Error::other("the proxy speaks another protocol than http"));
    };
    let named = |what: &str| io::Error::other(format!("the proxy {host} {what}"));
    let proxy_host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = race::connect(proxy_host, port(proxy.uri())).await;
    let mut stream = connected.map_err(|error| named(&format!("is not reached: {error}")))?;
    let authority = format!("{}:{}", address.host().unwrap_or_default(), port(address));
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(value) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut head = Vec::new();
    // The head is read byte by byte: the bytes after it belong to the connection.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD {
            return Err(named("answers with an endless head"));
        }
        head.push(stream.read_u8().await.map_err(|_| named("hangs up"))?);
    }
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match status {
        [b'2', ..] => Ok(stream),
        status if status.len() == 3 && status.iter().all(u8::is_ascii_digit) => {
            Err(named(&format!("answers {} to CONNECT", String::from_utf8_lossy(status))))
        }
        _ => Err(named("does not speak HTTP")),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let late = || format!("the connection was not open within {} s", CONNECT_TIMEOUT.as_secs());
            let opened = timeout(CONNECT_TIMEOUT, connector.open(address)).await;
            opened.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, late())))
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
