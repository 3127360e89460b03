//! Queries that every engine understands, and their rows.
//!
//! A query is written once, in the words that `SQLite` and `PostgreSQL` share; its values
//! are `$1`, `$2` and so on. Where the two differ, [`Database`] has a method.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

/// A database that can be read, by a pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) enum Database {
    /// A file of `SQLite`.
    Sqlite {
        /// Connections that only read.
        pool: SqlitePool,
        /// The file.
        path: Arc<PathBuf>,
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

/// A query that is put together, with its values.
#[derive(Clone, Debug)]
pub(in crate::store) struct Query {
    text: String,
    values: Vec<Value>,
    limit: Option<i64>,
}

impl Query {
    /// A query that begins with `text`.
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new(), limit: None }
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

    /// Adds the table `c`, whose column `value` holds `numbers`. The rows of the query
    /// come in their order.
    pub(super) fn push_numbers(&mut self, numbers: &[i64]) -> &mut Self {
        self.push("json_each(").push_bind(Value::Numbers(numbers.to_vec())).push(") c")
    }

    /// Adds that the bytes in `column` have `text` somewhere.
    pub(super) fn push_contains(&mut self, column: &str, text: &str) -> &mut Self {
        self.push("instr(").push(column).push(", CAST(").push_bind(text).push(" AS BLOB)) > 0")
    }

    /// Ends the query after so many rows.
    pub(super) fn limit(&mut self, rows: usize) {
        self.limit = Some(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// What `SQLite` is asked.
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

/// A row that was read. Columns are read by name.
#[derive(Debug)]
pub(in crate::store) enum Row {
    /// Of `SQLite`.
    Sqlite(SqliteRow),
}

impl Row {
    /// A number.
    pub(in crate::store) fn number(&self, column: &str) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
        }
    }

    /// A number that a column has fewer bits for in the program.
    pub(in crate::store) fn small<T>(&self, column: &str) -> Result<T, sqlx::Error>
    where
        T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
    {
        narrow(column, self.number(column)?)
    }

    /// The same, or NULL.
    pub(in crate::store) fn small_or_null<T>(&self, column: &str) -> Result<Option<T>, sqlx::Error>
    where
        T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
    {
        self.number_or_null(column)?.map(|number| narrow(column, number)).transpose()
    }

    /// A number, or NULL.
    pub(in crate::store) fn number_or_null(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
        }
    }

    /// A text.
    pub(in crate::store) fn text(&self, column: &str) -> Result<&str, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
        }
    }

    /// A text, or NULL.
    pub(in crate::store) fn text_or_null(&self, column: &str) -> Result<Option<&str>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
        }
    }

    /// Bytes, or NULL.
    pub(in crate::store) fn bytes_or_null(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
        }
    }
}

/// `numbers` as a JSON array.
fn json(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn narrow<T>(column: &str, number: i64) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(number)
        .map_err(|source| sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() })
}

impl Database {
    /// The rows of a query that is always the same.
    pub(in crate::store) async fn rows<const N: usize>(
        &self,
        query: impl Into<Cow<'static, str>>,
        values: [Value; N],
    ) -> Result<Vec<Row>, sqlx::Error> {
        // On the heap, since the futures of handlers hold many of these.
        Box::pin(self.fetch(query.into(), values.into())).await
    }

    /// The row of one, if it has any.
    pub(in crate::store) async fn row<const N: usize>(
        &self,
        query: impl Into<Cow<'static, str>>,
        values: [Value; N],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(query, values).await?.into_iter().next())
    }

    /// The only row of one.
    pub(in crate::store) async fn only_row<const N: usize>(
        &self,
        query: impl Into<Cow<'static, str>>,
        values: [Value; N],
    ) -> Result<Row, sqlx::Error> {
        self.row(query, values).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The rows of a query that was put together.
    pub(super) async fn run(&self, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        Box::pin(self.fetch(Cow::Owned(query.sqlite()), query.values)).await
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
        }
    }
}
