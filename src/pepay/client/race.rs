//! Connects to the first address of a name that answers (RFC 8305, section 5).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

/// How long the client waits for one address before it tries the next one beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// The largest number of addresses that are tried.
const MOST: usize = 16;

/// Opens a connection to the first address of `host` that answers.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let found: Vec<_> = lookup_host((host, port)).await?.collect();
    let stream = first(interleaved(&found)).await?;
    // A stream needs a low latency; a failure to set the option changes nothing else.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut tries = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        tries.push(TcpStream::connect(address));
        tokio::select! {
            Some(outcome) = tries.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = sleep(HEAD_START) => {}
        }
    }
    while let Some(outcome) = tries.next().await {
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Returns the addresses in their order, with the families taking turns.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let leader = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut leading, mut others): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == leader);
    leading.reverse();
    others.reverse();
    let turns = std::iter::from_fn(|| {
        let pair = [leading.pop(), others.pop()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    turns.flatten().flatten().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::{Instant, timeout};

    use super::*;

    #[test]
    fn address_families_alternate_beginning_with_the_first_address() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let found = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(interleaved(&found), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert!(interleaved(&[]).is_empty());
    }

    #[tokio::test]
    async fn a_dead_first_address_costs_less_than_a_second() {
        // A listener with a full backlog: further connections are neither accepted nor refused.
        let dead = TcpSocket::new_v4().unwrap();
        dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let dead = dead.listen(1).unwrap();
        let mut filling = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(100), TcpStream::connect(dead.local_addr().unwrap())).await
        {
            filling.push(stream);
        }
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        let stream = first(vec![dead.local_addr().unwrap(), alive.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive.local_addr().unwrap());
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_refused_address_takes_no_time_and_the_last_refusal_is_reported() {
        let refusing = TcpSocket::new_v4().unwrap();
        refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusing = refusing.local_addr().unwrap();
        let error = first(vec![refusing, refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
