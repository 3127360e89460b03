//! The roles: parts of the benchmark that run as separate processes of this program. A role gets its task
//! in its arguments, writes one JSON value per line, and reads lines that tell it to continue.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Outcome, bare, load, open_loop, stream, target};

/// The first argument of a process with a role.
pub const FLAG: &str = "--role";

/// Runs the role named by `arguments`, until it ends or the starter kills it.
pub fn play(arguments: &[String]) -> Outcome<()> {
    let (name, task) = match arguments {
        [_, _, name, task] => (name.as_str(), task.as_str()),
        _ => return Err("a role needs a name and a task".into()),
    };
    match name {
        "bare" => runtime()?.block_on(bare::play()),
        "load" => load::play(&serde_json::from_str(task)?),
        "open-loop" => open_loop::play(&serde_json::from_str(task)?),
        "target" => runtime()?.block_on(target::play(serde_json::from_str(task)?)),
        "stream" => runtime()?.block_on(stream::play(&serde_json::from_str(task)?)),
        _ => Err(format!("there is no role {name}").into()),
    }
}

/// Creates a runtime with one thread, so that a role uses one core at most.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Sends `value` to the starter.
pub fn say(value: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Waits for the next value from the starter.
pub fn hear<T: DeserializeOwned>() -> Outcome<T> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Waits for the next value from the starter, without blocking the other tasks of the runtime.
pub async fn hear_async<T: DeserializeOwned + Send + 'static>() -> Outcome<T> {
    tokio::task::spawn_blocking(hear).await?
}

/// A running role. Dropping it kills the process.
pub struct Role {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    name: &'static str,
}

impl Role {
    /// Starts this program in the role `name`.
    pub fn start(name: &'static str, task: &impl Serialize) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([FLAG, name, &serde_json::to_string(task)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or("a process without pipes")?;
        Ok(Self { child, input, output: BufReader::new(output), name })
    }

    /// Returns the id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next value from the role.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| format!("{} ended without an answer", self.name).into())
    }

    /// Sends `value` to the role, which then continues.
    pub fn tell(&mut self, value: &impl Serialize) -> Outcome<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(self.input.write_all(&line)?)
    }

    /// Sends `value` to the role and waits for its next value.
    pub fn ask<T: DeserializeOwned>(&mut self, value: &impl Serialize) -> Outcome<T> {
        self.tell(value)?;
        self.hear()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
