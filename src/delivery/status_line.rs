//! Reads the status line of an answer beside the HTTP parser. The status decides the verdict of an
//! attempt even if the parser refuses the rest of the head.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connector::Stream;

/// The number of bytes of a line that are read: `HTTP/1.1 200 ` and the end of a line without a reason.
const LOOKED_AT: usize = 16;

/// The status of the present answer on a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Status(Arc<Mutex<Reader>>);

impl Status {
    /// Returns the status, once its line has arrived whole. Interim answers (1xx except 101) are
    /// skipped.
    pub(super) fn seen(&self) -> Option<StatusCode> {
        match self.reader().phase {
            Phase::Seen(status) => Some(status),
            _ => None,
        }
    }

    /// Notes that the next bytes belong to another answer.
    pub(super) fn expect_another(&self) {
        *self.reader() = Reader::default();
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Reader {
    phase: Phase,
    line: [u8; LOOKED_AT],
    /// Length of the line so far, the bytes that are not read included.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    StatusLine,
    /// The header lines of an interim answer.
    InterimHeaders,
    Seen(StatusCode),
    /// The answer is not HTTP/1.
    Other,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(self.phase, Phase::Seen(_) | Phase::Other) {
                return;
            }
            if byte == b'\n' {
                self.end_line();
                self.length = 0;
            } else {
                if let Some(place) = self.line.get_mut(self.length) {
                    *place = byte;
                }
                self.length = self.length.saturating_add(1);
            }
        }
    }

    fn end_line(&mut self) {
        let line = &self.line[..self.length.min(LOOKED_AT)];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.phase = match self.phase {
            // RFC 9112, section 2.2: empty lines before a message are ignored.
            Phase::StatusLine | Phase::InterimHeaders if line.is_empty() => Phase::StatusLine,
            Phase::StatusLine => match parse(line) {
                Some(status) if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {
                    Phase::InterimHeaders
                }
                Some(status) => Phase::Seen(status),
                None => Phase::Other,
            },
            phase => phase,
        };
    }
}

/// Returns the status at the beginning of a status line (RFC 9112, section 4).
fn parse(line: &[u8]) -> Option<StatusCode> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (code, after) = rest.split_at_checked(3)?;
    let status = StatusCode::from_bytes(code).ok()?;
    matches!(after.first(), None | Some(b' ')).then_some(status)
}

/// The transport of a connection, whose answers are read beside the HTTP parser.
pub(super) struct Observed {
    inner: Stream,
    status: Status,
}

impl Observed {
    pub(super) const fn new(inner: Stream, status: Status) -> Self {
        Self { inner, status }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.status.reader().read(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the status seen of `answer`, in whatever pieces it arrives.
    fn seen(answer: &str) -> Option<u16> {
        let mut outcomes = [1, 2, 7, 4096].map(|size| {
            let status = Status::default();
            for piece in answer.as_bytes().chunks(size) {
                status.reader().read(piece);
            }
            status.seen().map(|status| status.as_u16())
        });
        outcomes.sort_unstable();
        assert_eq!(outcomes[0], outcomes[3], "{answer:?}");
        outcomes[0]
    }

    #[test]
    fn a_whole_status_line_is_seen_regardless_of_the_bytes_after_it() {
        assert_eq!(seen("HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(seen("HTTP/1.0 204\r\n\u{1}\u{2}"), Some(204));
        assert_eq!(seen("HTTP/1.1 503 \nno header\r\n"), Some(503));
        assert_eq!(seen(&format!("HTTP/1.1 299 {}\r\n", "x".repeat(5000))), Some(299));
        assert_eq!(seen("\r\nHTTP/1.1 101 Switching Protocols\r\n"), Some(101));
    }

    #[test]
    fn interim_responses_are_skipped() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nHTTP/1.1 500: no\r\n\r\n";
        assert_eq!(seen(interim), None);
        assert_eq!(seen(&format!("{interim}HTTP/1.1 201 Created\r\n")), Some(201));
    }

    #[test]
    fn an_incomplete_or_malformed_status_line_has_no_status() {
        for answer in [
            "",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1 20\r\n",
            "HTTP/9.9 200 OK\r\n",
            "HTTP/1.1  200 OK\r\n",
            "http/1.1 200 OK\r\n",
            "thank you\r\nHTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(seen(answer), None, "{answer:?}");
        }
    }

    #[test]
    fn each_answer_of_a_connection_is_read_by_itself() {
        let status = Status::default();
        status.reader().read(b"HTTP/1.1 200 OK\r\n\r\n");
        status.expect_another();
        assert_eq!(status.seen(), None);
        status.reader().read(b"HTTP/1.1 500 Oh\r\n");
        assert_eq!(status.seen(), Some(StatusCode::INTERNAL_SERVER_ERROR));
    }
}
