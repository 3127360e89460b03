//! One part of the benchmark as a process of its own: this program, started
//! again. It is told what to do by its arguments, says one JSON value a line,
//! and takes one line to go on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Outcome, bare, load, open_loop, stream, target};

/// The first argument of a process that plays a role.
pub const FLAG: &str = "--role";

/// Plays the role named by `arguments`, until its starter has heard enough.
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

/// One thread, so that a part takes one core at most.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Says `value` to the starter.
pub fn say(value: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Waits until the starter says go on, and hears what with.
pub fn hear<T: DeserializeOwned>() -> Outcome<T> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The same within a runtime, whose other tasks go on meanwhile.
pub async fn hear_async<T: DeserializeOwned + Send + 'static>() -> Outcome<T> {
    tokio::task::spawn_blocking(hear).await?
}

/// A running role. Killed when dropped.
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

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says next.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| format!("{} ended without an answer", self.name).into())
    }

    /// Tells it to go on.
    pub fn tell(&mut self, value: &impl Serialize) -> Outcome<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(self.input.write_all(&line)?)
    }

    /// Tells it to go on and waits for what it says.
    pub fn ask<T: DeserializeOwned>(&mut self, value: &impl Serialize) -> Outcome<T> {
        self.tell(value)?;
        self.hear()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
