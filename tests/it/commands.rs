//! The commands that an operator uses beside a running bridge.

mod exporting;
mod finding;
mod mending;
mod reaching;
mod removed;
mod running;

use serde_json::Value;

use crate::support::bridge::{Bridge, Configuration, Ended, run};
use crate::support::eventually;

/// The command line on the machine of the bridge.
struct Shell {
    configuration: Configuration,
    admin: String,
}

impl Shell {
    fn beside(bridge: &Bridge, configuration: &Configuration) -> Self {
        Self { configuration: configuration.clone(), admin: bridge.admin.clone() }
    }

    /// Runs `line`, whose words are separated by spaces, without a terminal.
    async fn run(&self, line: &str) -> Ended {
        let words: Vec<_> = line.split(' ').chain(["--admin-url", &self.admin]).collect();
        run(&self.configuration, &words).await
    }

    /// Runs a command that succeeds. Returns its standard output.
    async fn done(&self, line: &str) -> String {
        let ended = self.run(line).await;
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.printed());
        ended.stdout
    }

    /// Runs a command that exits with `code`. Returns its standard error.
    async fn failed(&self, line: &str, code: i32) -> String {
        let ended = self.run(line).await;
        assert_eq!(ended.code, Some(code), "{line}: {}", ended.printed());
        ended.stderr
    }

    /// Runs a command that succeeds with `--json`. Returns its standard output, one response of the API.
    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} --json")).await).unwrap()
    }

    /// Runs a command again and again until `reached` holds for its JSON.
    async fn until(&self, line: &str, reached: impl Fn(&Value) -> bool) -> Value {
        eventually(line, async || Some(self.json(line).await).filter(&reached)).await
    }

    /// Waits until `count` deliveries are in `state`. Returns them.
    async fn until_all_are(&self, state: &str, count: usize) -> Vec<Value> {
        let line = format!("deliveries list --state {state} --limit 500");
        let listed = |body: &Value| body["deliveries"].as_array().unwrap().len() == count;
        self.until(&line, listed).await["deliveries"].as_array().unwrap().clone()
    }
}

/// Returns the cells of a printed table without its header. Fails unless its header is `header`.
fn cells(printed: &str, header: &str) -> Vec<Vec<String>> {
    let split = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let mut lines = printed.lines().map(split);
    assert_eq!(lines.next().unwrap_or_default().join(" | "), header, "{printed}");
    lines.collect()
}
