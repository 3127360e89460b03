//! Behaviour that shows only on a real connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// Serves `router` on a socket with a small receive buffer.
fn listen(router: Router) -> (SocketAddr, JoinSet<std::io::Result<()>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(axum::serve(listener, router).into_future());
    (address, server)
}

#[tokio::test]
async fn a_sender_of_too_large_a_body_can_read_the_refusal() {
    let fixture = Fixture::new().await;
    let (address, _server) = listen(fixture.router.clone());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(8192).unwrap();
    let mut client = socket.connect(address).await.unwrap();

    // The body is far larger than the buffers on the way. It is written whole before the answer is
    // read.
    let length = 512 * 1024;
    client.write_all(head(length, "").as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; length]).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large"), "{answer}");
}

#[tokio::test]
async fn a_sender_with_expect_continue_is_refused_before_it_sends_too_large_a_body() {
    let fixture = Fixture::new().await;
    let (address, _server) = listen(fixture.router.clone());
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(head(512 * 1024, "expect: 100-continue\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

fn head(length: usize, more: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nhost: bridge\r\ncontent-length: {length}\r\n{more}\r\n")
}
