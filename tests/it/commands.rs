//! What an operator sees and does from the command line, beside a running bridge.

mod exporting;
mod finding;
mod mending;
mod reaching;
mod removed;
mod running;

use std::process::Stdio;

use serde_json::Value;

use crate::support::bridge::{Bridge, Configuration, command};
use crate::support::soon;

/// The command line of the machine that the bridge runs on.
struct Shell {
    configuration: Configuration,
    admin: String,
}

/// What a command came to.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Shell {
    fn beside(bridge: &Bridge, configuration: &Configuration) -> Self {
        Self { configuration: configuration.clone(), admin: bridge.admin.clone() }
    }

    /// Runs `line`, words separated by spaces, without a terminal.
    async fn run(&self, line: &str) -> Ended {
        let line = format!("{line} --admin-url {}", self.admin);
        run(&self.configuration, &line).await
    }

    /// Runs what works, and answers what it printed.
    async fn done(&self, line: &str) -> String {
        let Ended { code, stdout, stderr } = self.run(line).await;
        assert_eq!(code, Some(0), "{line}: {stdout}{stderr}");
        stdout
    }

    /// Runs what does not work, and answers what it said.
    async fn failed(&self, line: &str, code: i32) -> String {
        let ended = self.run(line).await;
        assert_eq!(ended.code, Some(code), "{line}: {}{}", ended.stdout, ended.stderr);
        ended.stderr
    }

    /// The same as [`done`](Self::done) with `--json`: one answer of the API.
    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} --json")).await).unwrap()
    }

    /// Lists until what is listed is as `reached` says.
    async fn until(&self, line: &str, reached: impl Fn(&Value) -> bool) -> Value {
        soon(line, async {
            loop {
                let listed = self.json(line).await;
                if reached(&listed) {
                    return listed;
                }
            }
        })
        .await
    }

    /// Lists until `count` deliveries are in `state`.
    async fn until_all_are(&self, state: &str, count: usize) -> Vec<Value> {
        let line = format!("deliveries list --state {state} --limit 500");
        let listed = |body: &Value| body["deliveries"].as_array().unwrap().len() == count;
        self.until(&line, listed).await["deliveries"].as_array().unwrap().clone()
    }
}

async fn run(configuration: &Configuration, line: &str) -> Ended {
    let mut command = command(configuration);
    let command = command.args(line.split(' ')).stdout(Stdio::piped());
    let output = soon(line, command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The cells of a printed table, without its header, which has to be `header`.
fn cells(printed: &str, header: &str) -> Vec<Vec<String>> {
    let split = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let mut lines = printed.lines().map(split);
    assert_eq!(lines.next().unwrap_or_default().join(" | "), header, "{printed}");
    lines.collect()
}
