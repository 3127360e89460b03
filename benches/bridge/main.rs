//! What pepay-bridge costs, measured beside what it stands on and beside what
//! could stand in its place: `cargo bench`, and `cargo bench -- --help`.
//!
//! Everything runs in alternated rounds (A B C … A B C …), so that a machine
//! that is busy for a while is busy for all, and what counts is the ratio of
//! two figures of one round. The server under test, the load and the target are
//! processes of their own; this program plays all of them but the bridge, which
//! is the release binary with the shipped configuration.
//!
//! - `options`: what the command line may ask for. `plan`: the measurements and
//!   their rounds. `scene`: how each is carried out. `measure`: what it comes to.
//!   `goals`: which ratios are to be reached.
//! - `load`, `requests`, `open_loop`: the sender. `target`: the receiver.
//!   `bare`: the server that stores nothing. `stream`: Pepay's stream.
//! - `role`: starting one of these as a process and talking to it.
//!   `bridge`, `peers`: the servers that are not this program. `port`: where they listen.
//! - `ceiling`, `disk`: SQLite and the disk alone. `fill`: a database that has grown.
//!   `cluster`: a PostgreSQL server.
//! - `proc`: what the kernel says a process has used. `report`, `chart`: the result.

mod bare;
mod bridge;
mod ceiling;
mod chart;
mod cluster;
mod disk;
mod fill;
mod goals;
mod http;
mod load;
mod measure;
mod open_loop;
mod options;
mod peers;
mod plan;
mod port;
mod proc;
mod report;
mod requests;
mod role;
mod scene;
mod stream;
mod target;

use std::error::Error;
use std::process::ExitCode;

/// What a step came to, or why the benchmark has no result.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some(role::FLAG) => role::play(&arguments),
        // Cargo says so when it means to measure. Under `cargo test` there is nothing to do.
        _ if !arguments.iter().any(|argument| argument == "--bench") => return ExitCode::SUCCESS,
        _ => {
            arguments.retain(|argument| argument != "--bench");
            plan::run(&options::parse(&arguments))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}
