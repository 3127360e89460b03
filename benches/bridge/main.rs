//! The benchmark of pepay-bridge. It also measures the layers below (the HTTP server, SQLite, the disk)
//! and two other programs with the same task. The commands are `cargo bench` and `cargo bench -- --help`.
//!
//! The measurements alternate in rounds (A B C … A B C …), so that a busy period of the machine affects
//! all of them. The results to compare are ratios of two figures of one round. The server under test, the
//! sender and the target are separate processes. This program is all of them except the bridge, which is
//! the release binary with the default configuration.
//!
//! - `options`: the command line. `plan`: the measurements and their rounds. `scene`: the set-up of
//!   each measurement. `measure`: the figures of a measurement. `goals`: the ratios and their goals.
//! - `load`, `requests`, `open_loop`: the sender. `target`: the receiver. `bare`: the server that
//!   stores nothing. `stream`: Pepay's stream.
//! - `role`: starts one of these as a process and exchanges messages with it. `bridge`, `peers`: the
//!   servers that are other programs. `port`: the ports of these servers.
//! - `ceiling`, `disk`: SQLite and the disk alone. `fill`: large databases. `cluster`: a PostgreSQL
//!   server.
//! - `proc`: the resources that a process has used, from `/proc`. `report`, `chart`: the output.

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

/// The result of a step, or the reason why the benchmark has no result.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some(role::FLAG) => role::play(&arguments),
        // `cargo bench` passes this argument. Under `cargo test` there is nothing to do.
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
