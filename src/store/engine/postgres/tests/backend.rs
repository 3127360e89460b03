//! The database of a test: a schema of its own on the server that the environment names.

use std::env;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rand::Rng as _;
use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio::task::JoinSet;

use super::super::write::PostgresEngine;
use crate::domain::clock::Clock;
use crate::store::contract::{Backend, RETENTION};
use crate::store::engine::Engine;
use crate::store::settings::{Durability, Place, Route, Server, Settings};
use crate::store::types::Term;
use crate::store::{Committer, Store};

/// The server, or the pooler before it.
const URL: &str = "TEST_POSTGRES";
/// The server itself, if the other address is that of a pooler in transaction mode.
const DIRECT_URL: &str = "TEST_POSTGRES_DIRECT";

/// A schema.
pub(super) struct Postgres {
    pub(super) server: Server,
    direct: PgConnectOptions,
    /// The tasks that keep the leases of its stores.
    keeping: Mutex<JoinSet<()>>,
}

impl Postgres {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            place: Place::Server(self.server.clone()),
            durability: Durability::Normal,
            retention: RETENTION,
        }
    }

    /// Connects to the server itself from now on, as a role that has these `rights` and settings.
    /// With `pooled`, as through a pooler. Returns the name of the role.
    pub(super) fn become_role(&mut self, rights: &str, settings: &[(&str, &str)], pooled: bool) -> String {
        let role = format!("{}_role", self.server.schema);
        self.side_door(&format!("CREATE ROLE {role} LOGIN {rights}"));
        for (name, value) in settings {
            self.side_door(&format!("ALTER ROLE {role} SET {name} = '{value}'"));
        }
        let url = env::var(DIRECT_URL).or_else(|_| env::var(URL)).unwrap();
        let mut url = url::Url::parse(&url).unwrap();
        url.set_username(&role).unwrap();
        self.server.url = String::from(url).into();
        self.server.listen_url = pooled.then(|| self.server.url.clone());
        self.server.pooled = pooled;
        role
    }

    /// Connects to another database from now on.
    pub(super) fn database(&mut self, name: &str) {
        let mut url = url::Url::parse(self.server.url.expose_secret()).unwrap();
        url.set_path(name);
        self.server.url = String::from(url).into();
    }

    /// Executes `statements` over a connection of its own, and returns the rows.
    fn side_door(&self, statements: &str) -> Vec<PgRow> {
        let run = async || {
            let mut connection = self.direct.connect().await.unwrap();
            connection.fetch_all(AssertSqlSafe(statements.to_owned())).await
        };
        // A task of a test must not block on its own runtime.
        let wait = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run())
        };
        let rows = thread::scope(|scope| scope.spawn(wait).join()).unwrap();
        rows.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }
}

impl Backend for Postgres {
    const IS_SHARED: bool = true;

    async fn new() -> Self {
        let url = env::var(URL).expect("TEST_POSTGRES names a server: see tests/postgres.sh");
        let direct = env::var(DIRECT_URL);
        let schema = format!("test_{:016x}", rand::rng().random::<u64>());
        let options: PgConnectOptions = direct.as_deref().unwrap_or(&url).parse().unwrap();
        let direct_options = options.options([("search_path", &*schema), ("client_min_messages", "warning")]);
        let server = Server {
            url: url.into(),
            listen_url: direct.as_deref().ok().map(Into::into),
            ca_file: None,
            client_identity: None,
            schema,
            connections: 2,
            pooled: direct.is_ok(),
        };
        Self { server, direct: direct_options, keeping: Mutex::default() }
    }

    async fn open(&self, routes: Vec<Route>, clock: Clock) -> (Store, Committer) {
        let (mut store, committer) = Store::open(&self.settings(), routes, clock).await.unwrap();
        for task in store.take_lease_tasks() {
            self.keeping.lock().unwrap().spawn(task.run);
        }
        (store, committer)
    }

    async fn engine(&self) -> Box<dyn Engine> {
        Box::new(PostgresEngine::open(&self.server, Durability::Normal, Arc::default()).await.unwrap().0)
    }

    fn term(&self, lease: &str) -> Term {
        let take = "INSERT INTO lease AS l (name, holder, term, taken_at, expires_at) \
                    VALUES ('{}', 'a test', 1, clock_timestamp(), clock_timestamp() + interval '1 hour') \
                    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = l.term + 1, \
                    taken_at = excluded.taken_at, expires_at = excluded.expires_at RETURNING l.term";
        Term(self.number(&take.replace("{}", lease)))
    }

    fn execute(&self, statement: &str) {
        self.side_door(statement);
    }

    fn execute_unchecked(&self, statement: &str) {
        self.side_door(&format!(
            "DO $$ DECLARE c record; BEGIN \
               FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint \
                        WHERE connamespace = current_schema()::regnamespace AND contype = 'c' \
               LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; \
             END $$; {statement}"
        ));
    }

    fn numbers(&self, query: &str) -> Vec<i64> {
        self.texts(query).iter().map(|text| text.parse().unwrap()).collect()
    }

    fn texts(&self, query: &str) -> Vec<String> {
        let rows = self.side_door(query);
        // A simple query returns text for every type.
        rows.iter().map(|row| row.try_get_unchecked(0).unwrap()).collect()
    }

    fn refuse(&self, write: &str, condition: &str) {
        self.side_door(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF {condition} THEN \
                 RAISE EXCEPTION 'refused by the test' USING ERRCODE = 'check_violation'; \
               END IF; RETURN new; END $$; \
             CREATE TRIGGER refuse BEFORE {write} FOR EACH ROW EXECUTE FUNCTION refuse()"
        ));
    }

    fn accept(&self, write: &str) {
        let table = write.rsplit(' ').next().unwrap();
        self.side_door(&format!("DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()"));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A schema that cannot be dropped goes with the server, which is thrown away.
        let schema = &self.server.schema;
        let drop = format!("SET lock_timeout = '2s'; DROP SCHEMA IF EXISTS \"{schema}\" CASCADE");
        let options = self.direct.clone();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let limit = Duration::from_secs(5);
                let _ = tokio::time::timeout(limit, async {
                    if let Ok(mut connection) = options.connect().await {
                        let _ = connection.execute(AssertSqlSafe(drop)).await;
                    }
                })
                .await;
                std::io::Result::Ok(())
            })
        };
        let _ = thread::spawn(run).join();
    }
}
