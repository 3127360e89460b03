//! `pepay-bridge reload`.

use serde::Deserialize;
use serde_json::json;

use super::admin::{self, Operator};
use super::text::clean;
use super::{Error, runtime};
use crate::config::Input;

/// Make a running bridge read its configuration and every secret file again, like SIGHUP
///
/// Prints which settings are in effect now, which wait for a restart, and each file that was
/// read again. A configuration with a fault changes nothing; each fault is printed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: admin::Arguments,
}

#[derive(Debug, Deserialize)]
struct Changes {
    applied: Vec<String>,
    restart_needed: Vec<String>,
    files: Vec<FileRead>,
    #[serde(default)]
    removed_targets: Vec<RemovedTarget>,
}

#[derive(Debug, Deserialize)]
struct FileRead {
    key: String,
    changed: bool,
    own_mount: bool,
}

#[derive(Debug, Deserialize)]
struct RemovedTarget {
    target: String,
    backlog: u64,
    held: u64,
    dead: u64,
}

/// Requests the reload and prints its outcome.
pub(super) fn reload(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let operator = Operator::new(&arguments.admin, input)?;
    runtime()?.block_on(async {
        let answer = operator.bridge.post_patiently(&["reload"], &json!({})).await?;
        operator.show(&answer, Changes::render)
    })
}

impl Changes {
    fn render(self) -> String {
        let applied = self.applied.iter().map(|key| format!("in effect          {}\n", clean(key)));
        let waiting = self.restart_needed.iter().map(|key| format!("waits for restart  {}\n", clean(key)));
        let mut text: String = applied.chain(waiting).collect();
        if text.is_empty() {
            text.push_str("nothing has changed\n");
        }
        text.extend(self.files.iter().map(FileRead::render));
        for RemovedTarget { target, backlog, held, dead } in self.removed_targets {
            let target = clean(&target);
            let waiting = format!("{backlog} pending, {held} held and {dead} dead deliveries wait");
            let advice = format!("move them (deliveries move --from {target} --to NAME), or cancel them");
            text.extend(["removed            targets.", &target, ": ", &waiting, "; ", &advice, "\n"]);
        }
        text
    }
}

impl FileRead {
    fn render(&self) -> String {
        let key = clean(&self.key);
        let changed = if self.changed { ", changed" } else { "" };
        let warning = if self.own_mount {
            format!(
                "warning            {key} is mounted as a single file: what replaces it is not seen; mount its folder\n"
            )
        } else {
            String::new()
        };
        format!("read               {key}{changed}\n{warning}")
    }
}
