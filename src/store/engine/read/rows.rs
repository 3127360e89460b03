//! Queries that every engine understands, and their rows.
//!
//! A query is written once, in the SQL that `SQLite` and `PostgreSQL` share. Its values are `$1`,
//! `$2` and so on. [`Database`] has a method for each difference between the two.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::time::timeout;

use crate::store::engine::postgres::pool::Lent;

/// The time limit of a query on a server. A query looks at a bounded number of rows, so a server that
/// takes longer does not respond.
const LIMIT: Duration = Duration::from_secs(30);

/// A database to read from, with a pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) enum Database {
    /// A file of `SQLite`.
    Sqlite {
        /// Connections that only read.
        pool: SqlitePool,
        /// The file.
        path: Arc<PathBuf>,
    },
    /// A schema of `PostgreSQL`.
    Postgres {
        /// Connections.
        pool: PgPool,
        /// The statement that begins a transaction if sessions are shared; `None` otherwise.
        shared: Option<Arc<str>>,
    },
}

/// A value of a query.
#[derive(Clone, Debug)]
pub(in crate::store) enum Value {
    /// A number, or NULL.
    Number(Option<i64>),
    /// A text, or NULL.
    Text(Option<String>),
    /// Numbers, as the rows of a table `c` with the column `value`.
    Numbers(Vec<i64>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

/// A query that is being built, with its values.
#[derive(Clone, Debug)]
pub(in crate::store) struct Query {
    text: String,
    values: Vec<Value>,
    limit: Option<i64>,
    order: Option<&'static str>,
}

impl Query {
    /// Creates a query that begins with `text`.
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new(), limit: None, order: None }
    }

    /// Adds `text`.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value.
    pub(super) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
        self
    }

    /// Adds the table `c`, whose column `value` has `numbers`. The rows of the query come in their
    /// order.
    pub(super) fn push_numbers(&mut self, numbers: &[i64]) -> &mut Self {
        self.push("json_each(").push_bind(Value::Numbers(numbers.to_vec())).push(") c")
    }

    /// Adds the condition that the bytes in `column` contain `text`.
    pub(super) fn push_contains(&mut self, column: &str, text: &str) -> &mut Self {
        self.push("instr(").push(column).push(", CAST(").push_bind(text).push(" AS BLOB)) > 0")
    }

    /// Limits the query to this number of rows.
    pub(super) fn limit(&mut self, rows: usize) {
        self.limit = Some(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Sets the order of the rows. Only `PostgreSQL` is told: `SQLite` returns them in the order of
    /// its joins, and would sort them once more.
    pub(super) fn order(&mut self, columns: &'static str) -> &mut Self {
        self.order = Some(columns);
        self
    }

    /// Returns the text for `PostgreSQL`.
    fn postgres(&self) -> String {
        let order = self.order.map(|columns| format!(" ORDER BY {columns}")).unwrap_or_default();
        let limit = self.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        format!("{}{order}{limit}", self.text)
    }

    /// Returns the text for `SQLite`.
    pub(super) fn sqlite(&self) -> String {
        match self.limit {
            Some(limit) => format!("{} LIMIT {limit}", self.text),
            None => self.text.clone(),
        }
    }

    /// Adds values, with commas between them.
    pub(super) fn push_list<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " }).push_bind(value);
        }
        self
    }
}

/// A row of a result. Columns are read by name.
#[derive(Debug)]
pub(in crate::store) enum Row {
    /// A row of `SQLite`.
    Sqlite(SqliteRow),
    /// A row of `PostgreSQL`.
    Postgres(PgRow),
}

impl Row {
    /// Returns a number.
    pub(in crate::store) fn number(&self, column: &str) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns a number of a type with fewer bits than the column.
    pub(in crate::store) fn small<T>(&self, column: &str) -> Result<T, sqlx::Error>
    where
        T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
    {
        narrow(column, self.number(column)?)
    }

    /// Like [`small`](Self::small), for a column that may be NULL.
    pub(in crate::store) fn small_or_null<T>(&self, column: &str) -> Result<Option<T>, sqlx::Error>
    where
        T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
    {
        self.number_or_null(column)?.map(|number| narrow(column, number)).transpose()
    }

    /// Returns a number, or `None` for NULL.
    pub(in crate::store) fn number_or_null(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns a text.
    pub(in crate::store) fn text(&self, column: &str) -> Result<&str, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns a text, or `None` for NULL.
    pub(in crate::store) fn text_or_null(&self, column: &str) -> Result<Option<&str>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns bytes, or `None` for NULL.
    pub(in crate::store) fn bytes_or_null(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// Returns `query` without the hints for `SQLite` on indexes and the order of joins, and with the
/// expressions of `PostgreSQL` for rows of numbers and for a search in bytes.
fn without_hints(query: &str) -> String {
    let mut words: Vec<Cow<'_, str>> = Vec::new();
    let mut rest = query.split_ascii_whitespace().peekable();
    while let Some(word) = rest.next() {
        match (word, rest.peek().copied()) {
            ("INDEXED", Some("BY")) => {
                rest.next();
                rest.next();
            }
            ("NOT", Some("INDEXED")) => {
                rest.next();
            }
            ("CROSS", Some("JOIN")) => {}
            // The text that is searched for in bytes.
            ("AS", Some("BLOB))")) => {
                rest.next();
                let text = words.pop().map(|word| word.replace("CAST(", "convert_to(")).unwrap_or_default();
                words.push(Cow::Owned(text + ", 'UTF8'))"));
            }
            _ if word.starts_with("instr(") => {
                words.push(Cow::Owned(word.replacen("instr(", "pg_catalog.position(", 1)));
            }
            _ => words.push(Cow::Borrowed(word)),
        }
    }
    let query = words.join(" ");
    match query.split_once("json_each(") {
        Some((before, after)) => format!("{before}unnest({}", after.replacen(") c", ") AS c (value)", 1)),
        None => query,
    }
}

/// Returns `numbers` as a JSON array.
fn json(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn too_late() -> io::Error {
    io::Error::other(format!("PostgreSQL has not answered within {} s", LIMIT.as_secs()))
}

fn narrow<T>(column: &str, number: i64) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(number)
        .map_err(|source| sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() })
}

impl Database {
    /// Returns the rows of a query that is always the same.
    pub(in crate::store) async fn rows<const N: usize>(
        &self,
        query: impl Into<Cow<'static, str>>,
        values: [Value; N],
    ) -> Result<Vec<Row>, sqlx::Error> {
        // The future is on the heap, since the futures of handlers hold many of these.
        Box::pin(self.fetch(query.into(), values.into())).await
    }

    /// Returns the first row of such a query, if it has any.
    pub(in crate::store) async fn row<const N: usize>(
        &self,
        query: impl Into<Cow<'static, str>>,
        values: [Value; N],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(query, values).await?.into_iter().next())
    }

    /// Returns the first row of such a query, or an error if it has none.
    pub(in crate::store) async fn only_row<const N: usize>(
        &self,
        query: impl Into<Cow<'static, str>>,
        values: [Value; N],
    ) -> Result<Row, sqlx::Error> {
        self.row(query, values).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Returns the rows of a query that was built.
    pub(super) async fn run(&self, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        let text = match self {
            Self::Sqlite { .. } => query.sqlite(),
            Self::Postgres { .. } => query.postgres(),
        };
        Box::pin(self.fetch(Cow::Owned(text), query.values)).await
    }

    async fn fetch(&self, text: Cow<'static, str>, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite { pool, .. } => {
                let mut query = sqlx::query(AssertSqlSafe(text.into_owned()));
                for value in values {
                    query = match value {
                        Value::Number(number) => query.bind(number),
                        Value::Text(text) => query.bind(text),
                        Value::Numbers(numbers) => query.bind(json(&numbers)),
                    };
                }
                Ok(query.fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres { pool, shared } => {
                let mut query = sqlx::query(AssertSqlSafe(without_hints(&text))).persistent(shared.is_none());
                for value in values {
                    query = match value {
                        Value::Number(number) => query.bind(number),
                        // No text of PostgreSQL contains NUL, and stored ones have U+FFFD instead.
                        Value::Text(text) => query.bind(text.map(|text| text.replace('\0', "\u{fffd}"))),
                        Value::Numbers(numbers) => query.bind(numbers),
                    };
                }
                let rows = async {
                    let mut lent = Lent::of(pool).await?;
                    let rows = match shared {
                        None => query.fetch_all(lent.connection()?).await?,
                        Some(begin) => {
                            let begin = AssertSqlSafe(begin.as_ref().to_owned());
                            let mut transaction = lent.connection()?.begin_with(begin).await?;
                            let rows = query.fetch_all(&mut *transaction).await?;
                            transaction.commit().await?;
                            rows
                        }
                    };
                    lent.give_back();
                    Ok::<_, sqlx::Error>(rows)
                };
                let rows = timeout(LIMIT, rows).await.map_err(|_| sqlx::Error::Io(too_late()))??;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_asked_without_the_hints_for_sqlite() {
        let query = "SELECT e.id FROM json_each($1) c CROSS JOIN event e ON e.sequence = c.value CROSS JOIN target t \
                     NOT INDEXED ON TRUE JOIN delivery d INDEXED BY delivery_open ON d.state = 'x'";
        let expected = "SELECT e.id FROM unnest($1) AS c (value) JOIN event e ON e.sequence = c.value JOIN target t \
                        ON TRUE JOIN delivery d ON d.state = 'x'";
        assert_eq!(without_hints(query), expected);
        let query = "WHERE instr(e.body, CAST($7 AS BLOB)) > 0";
        let expected = "WHERE pg_catalog.position(e.body, convert_to($7, 'UTF8')) > 0";
        assert_eq!(without_hints(query), expected);
    }
}
