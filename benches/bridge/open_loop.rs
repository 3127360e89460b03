//! The sender at a fixed pace: requests are due at fixed times, whatever became
//! of those before, and their latency counts from then. A server that stalls
//! cannot hide it by being asked less.
//!
//! A thread for each connection, because the timers of an async runtime are no
//! finer than a millisecond, which is more than what is measured.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pepay_bridge::domain::clock::Clock;

use crate::load::{Answer, Load, Tally, exact};
use crate::requests::Requests;
use crate::{Outcome, proc, role};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// From the word to the first request: every thread is there by then.
const RUN_UP: Duration = Duration::from_millis(50);

/// Signs, says so, waits for the word, sends, and says what came of it.
pub fn play(load: &Load) -> Outcome<()> {
    // Threads inherit it: they wake when they mean to, and not up to 50 µs later.
    std::fs::write("/proc/self/timerslack_ns", "1")?;
    let requests = Requests::sign(load.events, &load.address.to_string());
    role::say(&"ready")?;
    let () = role::hear()?;
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(load.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        streams.push(stream);
    }
    let cpu = proc::cpu(std::process::id())?;
    let (started, started_ms) = (Instant::now() + RUN_UP, Clock::system().now().plus(RUN_UP).0);
    let pace = load.seconds / exact(load.events);
    let all = std::thread::scope(|scope| {
        let (requests, connections) = (&requests, streams.len());
        let threads: Vec<_> = streams
            .into_iter()
            .zip(0..load.events)
            .map(|(stream, first)| {
                let events = (first..load.events).step_by(connections);
                let due =
                    events.map(move |event| (event, started + Duration::from_secs_f64(pace * exact(event))));
                scope.spawn(move || connection(stream, requests, due))
            })
            .collect();
        threads.into_iter().try_fold(Tally::new()?, |mut all, thread| {
            all.add(thread.join().map_err(|_| "a sender has crashed")??)?;
            Outcome::Ok(all)
        })
    })?;
    role::say(&all.sum_up(load.events, started_ms, started, cpu)?)
}

fn connection(
    mut stream: TcpStream,
    requests: &Requests,
    events: impl Iterator<Item = (u64, Instant)>,
) -> Outcome<Tally> {
    let (mut tally, mut request, mut answer) = (Tally::new()?, Vec::with_capacity(4096), vec![0; 4096]);
    for (event, due) in events {
        requests.write(event, &mut request);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match exchange(&mut stream, &request, &mut answer) {
            Ok(answer) => tally.answered(&answer, due.elapsed()),
            Err(error) => {
                tally.failed(error.to_string());
                break;
            }
        }
    }
    Ok(tally)
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
