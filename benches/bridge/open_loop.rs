//! The sender at a fixed pace. Requests are due at fixed times, whatever the state of earlier requests
//! is, and the latency counts from these times. So the latencies include the stalls of a server.
//!
//! Each connection has a thread. The timers of an async runtime have a resolution of one millisecond,
//! which is longer than the latencies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::load::{Answer, Load, Start, Tally, exact};
use crate::requests::Requests;
use crate::{Outcome, role};

/// The time limit of a response.
const LIMIT: Duration = Duration::from_secs(30);
/// The time from the go-ahead to the first request. All threads have started by then.
const RUN_UP: Duration = Duration::from_millis(50);

/// Signs the requests and reports that they are ready. After the starter's go-ahead, sends them and
/// reports the result.
pub fn play(load: &Load) -> Outcome<()> {
    // Threads inherit this timer slack, so they wake on time and not up to 50 µs later. If the system
    // refuses it, the latencies include this delay.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let requests = load.requests();
    role::say(&"ready")?;
    let () = role::hear()?;
    let mut streams = Vec::new();
    for address in load.each_connection() {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        streams.push(stream);
    }
    let (tally, start) = (Tally::new()?, Start::after(RUN_UP)?);
    let (requests, tally, connections) = (&requests, &tally, streams.len());
    let pace = load.seconds / exact(load.events);
    std::thread::scope(|scope| {
        for (stream, first) in streams.into_iter().zip(0..load.events) {
            let turns = (first..load.events).step_by(connections);
            let due = turns
                .map(move |turn| (load.first + turn, start.at + Duration::from_secs_f64(pace * exact(turn))));
            scope.spawn(move || connection(stream, requests, due, tally));
        }
    });
    role::say(&tally.sum_up(&start)?)
}

fn connection(
    mut stream: TcpStream,
    requests: &Requests,
    events: impl Iterator<Item = (u64, Instant)>,
    tally: &Tally,
) {
    let (mut request, mut answer) = (Vec::with_capacity(4096), vec![0; 4096]);
    for (event, due) in events {
        requests.write(event, &mut request);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = exchange(&mut stream, &request, &mut answer);
        if !tally.count(&answer, due.elapsed()) {
            return;
        }
    }
}

fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> std::io::Result<Answer> {
    stream.write_all(request)?;
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
        if let Some(answer) = Answer::read(&buffer[..filled]) {
            return Ok(answer);
        }
    }
}
