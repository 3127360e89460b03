//! Lists that the API returns in pages, with the newest item first.

use clap::{Args, value_parser};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::admin::Operator;
use super::names::target_is_known;
use super::table::Table;
use super::{Error, hint, print_bytes};
use crate::domain::clock::UnixMillis;

/// The largest number of items in a page.
const LARGEST_PAGE: u32 = 500;

/// What to list, and how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct Listing<F: Args> {
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
    limit: u32,

    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,

    /// List all there are; with --json, a line for each page
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    // Last, since their heading is for what follows as well.
    #[command(flatten)]
    filters: F,
}

/// The filters of a list.
pub(super) trait Filtering {
    /// Returns the filters that are set, by their names in the API.
    fn given(&self, now: UnixMillis) -> Vec<(&'static str, String)>;

    /// Returns the target of the filters, which must be a target of the bridge.
    fn target(&self) -> Option<&str>;
}

/// An item of a list.
pub(super) trait Listed: DeserializeOwned {
    /// The path of the list in the API.
    const PATH: &'static str;
    /// The names of the columns.
    const HEADER: &'static [&'static str];

    /// Returns the cells of the row.
    fn cells(self, now: UnixMillis) -> Vec<String>;
}

#[derive(Debug, Deserialize)]
struct Page<T> {
    #[serde(alias = "events", alias = "deliveries", alias = "entries")]
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<F: Args + Filtering> Listing<F> {
    /// Requests pages and prints them until the list ends or has enough items. A page may have fewer
    /// items than requested.
    pub(super) async fn print<T: Listed>(&self, operator: &Operator) -> Result<(), Error> {
        let filters = self.filters.given(operator.now);
        let (mut table, mut cursor) = (Table::new(T::HEADER), self.cursor.clone());
        let mut left = if self.all { u32::MAX } else { self.limit };
        let mut found = false;
        loop {
            let limit = left.min(LARGEST_PAGE).to_string();
            let mut query = vec![("limit", &*limit)];
            query.extend(filters.iter().map(|(name, value)| (*name, &**value)));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let answer = operator.bridge.get(&[T::PATH], &query).await?;
            let page: Page<T> = answer.read()?;
            found |= !page.items.is_empty();
            if !self.all {
                left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
            }
            cursor = page.next_cursor;
            let text = if operator.json {
                answer.line()
            } else {
                for item in page.items {
                    table.row(item.cells(operator.now));
                }
                // All pages are one table, unless the number of rows is unlimited.
                let whole = left == 0 || cursor.is_none();
                if self.all || whole { table.take() } else { String::new() }
            };
            if cursor.is_none() && !found && !operator.json {
                target_is_known(&operator.bridge, self.filters.target()).await?;
            }
            // The reader has closed the pipe.
            if !print_bytes(text.as_bytes())? {
                return Ok(());
            }
            match &cursor {
                Some(_) if left > 0 => {}
                Some(cursor) if !operator.json => {
                    hint(&format!("there may be more: --cursor {cursor}, or --all"));
                    return Ok(());
                }
                None if !operator.json && !found => {
                    hint("there is none");
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }
}
