//! `pepay-bridge reload`.

use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::admin::{self, Operator};
use super::text::clean;
use super::{Error, runtime};

/// Have a running bridge read its configuration and every secret file anew, like SIGHUP
///
/// Prints what is in effect now and what waits for a restart. A configuration with
/// a fault changes nothing; each fault is printed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: admin::Arguments,
}

#[derive(Debug, Deserialize)]
struct Changes {
    applied: Vec<String>,
    restart_needed: Vec<String>,
}

/// Requests the reload and prints its outcome.
pub(super) fn reload(
    arguments: &Arguments,
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let operator = Operator::new(&arguments.admin, config, environment)?;
    runtime()?.block_on(async {
        let answer = operator.bridge.post_patiently(&["reload"], &json!({})).await?;
        operator.show(&answer, Changes::render)
    })
}

impl Changes {
    fn render(self) -> String {
        let applied = self.applied.iter().map(|key| format!("in effect          {}\n", clean(key)));
        let waiting = self.restart_needed.iter().map(|key| format!("waits for restart  {}\n", clean(key)));
        let text: String = applied.chain(waiting).collect();
        if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
    }
}
