//! The sender at a fixed pace: requests are due at fixed times, whatever became
//! of those before, and their latency counts from then. A server that stalls
//! cannot hide it by being asked less.
//!
//! A thread for each connection, because the timers of an async runtime are no
//! finer than a millisecond, which is more than what is measured.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::load::{Answer, Load, Start, Tally, exact};
use crate::requests::Requests;
use crate::{Outcome, role};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// From the word to the first request: every thread is there by then.
const RUN_UP: Duration = Duration::from_millis(50);

/// Signs, says so, waits for the word, sends, and says what came of it.
pub fn play(load: &Load) -> Outcome<()> {
    // Threads inherit it: they wake when they mean to, and not up to 50 µs later. Where the
    // system does not allow it, that much is measured in addition.
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
